"""Steering along time: which frames are drawn, where lines lie, how rows are filled."""

import cv2
import numpy as np
import pytest
from sequence_toys import label_of, write_drives

from unienc_cli.main import run
from unienc_core.data.folds import Span
from unienc_core.inference.overlays import ACCENT
from unienc_core.workflows.steering_plots import (
    ROW_HEIGHT,
    WIDTH,
    Stretch,
    draw_along_time,
    figures,
    stretches,
)
from unienc_core.workflows.steering_scoring import Predicted, Truth

TRUTH = (94, 190, 255)


def stretch(count, truth=0.0, predicted=0.0, *, every=1, fps=20.0):
    made = np.full(count, np.nan)
    made[every - 1 :: every] = predicted
    return Stretch("drive", np.arange(count) / fps, np.full(count, truth), made)


def rows_of(picture, colour):
    """Return the rows of the plots (not of the legend) in which a colour is found."""
    return np.flatnonzero((picture[92:] == colour).all(-1).any(1)) + 92


def columns_of(picture, colour):
    return np.flatnonzero((picture[92:] == colour).all(-1).any(0))


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    path = tmp_path_factory.mktemp("plots") / "store"
    return Truth([write_drives(path, (30, 25), unknown=[(1, 0)])], "curvature")


def test_truth_stands_beside_what_was_predicted_of_its_frames(truth):
    made = Predicted(np.array([0, 0, 1]), np.array([3, 7, 24]), np.array([1.0, 2.0, 3.0]))
    whole = stretches(made, truth, [Span(0, 0, 10), Span(0, 20, 30), Span(1, 20, 25)])
    assert [(s.name, len(s.times)) for s in whole] == [("drive-0", 10), ("drive-1", 5)]
    assert whole[0].truth.tolist() == [label_of(0, i) for i in range(10)]
    assert np.flatnonzero(np.isfinite(whole[0].predicted)).tolist() == [3, 7]
    assert whole[1].predicted[-1] == 3
    assert whole[1].times == pytest.approx(np.arange(20, 25) / 20)
    between = stretches(made, truth)
    assert [s.truth.tolist() for s in between] == [
        [label_of(0, i) for i in range(3, 8)],
        [label_of(1, 24)],
    ]


def test_left_is_up_and_both_lines_are_on_one_scale():
    picture = draw_along_time([stretch(100, 10.0, -10.0)], "t", "", "1/km")
    above, below = rows_of(picture, TRUTH), rows_of(picture, ACCENT)
    assert above.max() < below.min()
    zero = draw_along_time([stretch(100, 10.0, 0.0), stretch(100, -10.0, 0.0)], "t", "", "1/km")
    middle = rows_of(zero, ACCENT).mean()
    assert middle == pytest.approx(rows_of(zero, TRUTH)[[0, -1]].mean(), abs=1)


def test_a_value_far_beyond_all_others_does_not_flatten_them():
    calm = stretch(2000, 1.0, -1.0)
    calm.truth[1000] = 1e6
    picture = draw_along_time([calm], "t", "", "1/km")
    assert np.diff([rows_of(picture, c).min() for c in (TRUTH, ACCENT)])[0] > 20


def test_no_line_leads_over_what_was_not_predicted():
    part = stretch(100, 5.0, 0.0)
    part.predicted[40:60] = np.nan
    columns = columns_of(draw_along_time([part], "t", "", "1/km"), ACCENT)
    assert np.diff(columns).max() == pytest.approx((WIDTH - 96) * 20 / 100, rel=0.1)
    sparse = stretch(96, 5.0, 0.0, every=16)
    columns = columns_of(draw_along_time([sparse], "t", "", "1/km"), ACCENT)
    assert np.diff(columns).max() == 1


@pytest.mark.parametrize(
    ("shown", "rows"),
    [
        ([stretch(40)], 1),
        ([stretch(40)] * 6, 2),
        ([stretch(1000)], 7),
        ([stretch(20000, every=16)], 10),
        ([stretch(1, every=1)], 1),
        ([stretch(50, fps=1e-3)], 1),
    ],
)
def test_short_ones_share_a_row_and_long_ones_are_broken(shown, rows):
    picture = draw_along_time(shown, "a title", "", "1/km")
    head = draw_along_time(shown[:1], "", "", "").shape[0] % ROW_HEIGHT
    assert picture.shape == (head + rows * ROW_HEIGHT, WIDTH, 3)


def test_parts_are_equal_and_lose_no_frame():
    whole = stretch(100)
    parts = list(whole.parts(whole.seconds / 3))
    assert [len(p.times) for p in parts] == [34, 33, 33]
    assert np.concatenate([p.times for p in parts]).tolist() == whole.times.tolist()
    assert [len(p.times) for p in whole.parts(whole.seconds)] == [100]


def test_figures_stand_beside_the_mean_and_zero():
    errors = {"steering_mse": 1.25, "steering_mae": 1.0}
    others = {"zero": {"steering_mse": 3.0}, "train_mean": {"steering_mse": None}}
    assert figures(errors, others, "deg") == "MSE 1.25, zero 3 (deg)^2"


def test_eval_steering_draws_and_replaces_nothing_unasked(tmp_path, capsys):
    write_drives(tmp_path / "s", (30, 25))
    table = tmp_path / "p.csv"
    table.write_text("drive,frame,value\n" + "".join(f"drive-1,{i},2010\n" for i in range(20)))
    command = ["eval-steering", str(tmp_path / "s"), "--predictions", str(table)]
    command += ["--plots", str(tmp_path / "plots")]
    assert run(command) == 0
    assert "along-time.png" in capsys.readouterr().err
    picture = cv2.imread(str(tmp_path / "plots" / "along-time.png"))[..., ::-1]
    assert columns_of(picture, ACCENT).size > 500
    assert run(command) == 2
    assert "--force" in capsys.readouterr().err
    assert run([*command, "--force", "-q"]) == 0
