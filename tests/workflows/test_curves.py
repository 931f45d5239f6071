"""Training curves from a metrics.jsonl."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from unienc_core.errors import DataError
from unienc_core.workflows.curves import draw_curves, read_curves, render_curves, smooth


def write_log(path: Path, lines: int = 40, tail: str = "") -> Path:
    entries = [
        {
            "step": 10 * n,
            "stage": "one" if n <= 20 else "two",
            "loss/total": 1.0 / n,
            "loss/smooth": None if n == 5 else 0.1,
            "lr": 3e-4,
            **({"late": 2.0} if n > 20 else {}),
        }
        for n in range(1, lines + 1)
    ]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + tail)
    return path


def test_reading_leaves_out_a_line_that_is_being_written(tmp_path) -> None:
    curves = read_curves(write_log(tmp_path / "metrics.jsonl", tail='{"step": 410, "sta'))
    assert curves.steps.tolist() == [10.0 * n for n in range(1, 41)]
    assert curves.values["loss/total"] == pytest.approx(1 / np.arange(1, 41))
    assert np.flatnonzero(np.isnan(curves.values["loss/smooth"])).tolist() == [4]
    assert np.isnan(curves.values["late"]).sum() == 20


def test_smoothing_is_a_centred_mean_of_what_is_there() -> None:
    values = np.arange(100.0)
    found = smooth(values)  # 5% of 100: 2 on each side
    assert found[2:-2] == pytest.approx(values[2:-2])
    assert found[0] == pytest.approx((0 + 1 + 2) / 3)
    values[10] = np.nan
    found = smooth(values)
    assert np.isnan(found[10])
    assert found[11] == pytest.approx((9 + 11 + 12 + 13) / 4)
    assert smooth(np.array([7.0])).tolist() == [7.0]


@pytest.mark.parametrize("lines", [1, 2, 40])
def test_picture_shows_a_panel_for_each_group(tmp_path, lines: int) -> None:
    log = write_log(tmp_path / "metrics.jsonl", lines)
    draw_curves(log, tmp_path / "curves.png")
    picture = cv2.imread(str(tmp_path / "curves.png"))
    # Total loss, smoothness and learning rate: three panels, two rows, and a header.
    assert picture.shape[1] == 1280
    assert 600 < picture.shape[0] < 700
    assert list(tmp_path.glob(".tmp*")) == []


def test_curve_falls_where_the_loss_falls(tmp_path) -> None:
    picture = render_curves(read_curves(write_log(tmp_path / "metrics.jsonl")), "run")
    accent = (picture.reshape(*picture.shape[:2], 3) == (255, 184, 66)).all(2)
    rows, columns = np.nonzero(accent[100:, :640])
    early, late = rows[columns < 160], rows[(columns > 400) & (rows < 300)]
    assert early.min() < late.min() - 50


def test_logs_that_are_none(tmp_path) -> None:
    for content, words in (
        (None, "not a training log"),
        ("", "holds no line yet"),
        ("hello\n", "not a training log"),
        ("[1]\n", "not a training log"),
        ('{"loss": 1}\n', "not a training log"),
    ):
        path = tmp_path / "metrics.jsonl"
        if content is not None:
            path.write_text(content)
        with pytest.raises(DataError, match=words):
            draw_curves(path, tmp_path / "curves.png")
