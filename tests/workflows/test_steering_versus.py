"""Two runs fold by fold: pairs that are none are refused, differences and p by hand."""

import json

import pytest

from unienc_core.errors import DataError, UsageError
from unienc_core.workflows.steering_versus import Pairing, compare, format_versus, open_other

PAIRING = Pairing("curvature", ("a" * 64, "b" * 64), 6, "folds of blocks")
ERRORS = [4.0, 1.0, 2.5, 3.0, 8.0, 5.0]


def result(fold, error, *, images=10, zero=7.5, stride=16):
    return {
        "fold": fold,
        "stride": stride,
        "num_images": images,
        "frames": {"train": 40, "validation": 4, "test": 25},
        "test": {"steering_mse": error, "steering_mae": 1.0},
        "baselines": {"zero": {"steering_mse": zero}},
    }


def write(folder, *, errors=ERRORS, **changes):
    report = {
        "label": "curvature",
        "data": [{"store": "x", "digest": d} for d in PAIRING.stores],
        "num_folds": 6,
        "protocol": "folds of blocks",
        "preset": "steering-tiny",
        "seed": 3,
    }
    folder.mkdir()
    (folder / "steering.json").write_text(json.dumps(report | changes))
    for fold, error in enumerate(errors):
        (folder / f"fold-{fold}").mkdir()
        (folder / f"fold-{fold}" / "steering.json").write_text(json.dumps(result(fold, error)))
    return folder


def opened(path, *, pairing=PAIRING, stride=16, numbers=range(6), out="out", learnt=40):
    frames = {number: {"train": learnt, "validation": 4, "test": 25} for number in numbers}
    return open_other(path, pairing, stride, frames, path.parent / out)


def test_differences_median_and_p_by_hand(tmp_path):
    other = opened(write(tmp_path / "other"))
    ours = [3.0, 0.5, 2.5, 1.0, 2.0, 5.5]
    found = compare([result(fold, error) for fold, error in enumerate(ours)], other)
    differences = [-1.0, -0.5, 0.0, -2.0, -6.0, 0.5]
    assert [row["difference"] for row in found["folds"]] == differences
    assert [row["test_mse"] for row in found["folds"]] == ERRORS
    assert (found["preset"], found["seed"]) == ("steering-tiny", 3)
    assert found["difference"]["mean"] == -1.5
    assert found["difference"]["median"] == -0.75
    # A tie counts nothing: of five, four are lower; (5 + 1) / 2^5 on each side.
    assert found["against"] == {"lower": 4, "higher": 1, "p": 2 * 6 / 32}
    text = format_versus(found)
    assert "mean -1.5, median -0.75, lower in 4/5, sign test p=0.38" in text


def test_pairs_go_by_the_number_of_the_fold(tmp_path):
    found = compare([result(4, 1.0)], opened(write(tmp_path / "other"), numbers=[4]))
    assert found["folds"] == [{"fold": 4, "test_mse": 8.0, "difference": -7.0}]
    assert found["against"]["p"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "curvature_5m"}, r"other label \(curvature_5m, here curvature\)"),
        ({"num_folds": 10}, r"other folds \(10, here 6\)"),
        ({"protocol": "folds of recordings"}, "folds of recordings, here folds of blocks"),
        ({"data": [{"digest": "a" * 64}]}, "other stores"),
        ({"data": [{"digest": "b" * 64}, {"digest": "a" * 64}]}, "other stores"),
    ],
)
def test_folds_that_are_no_pairs_are_refused(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        opened(write(tmp_path / "other", **changes))


def test_frames_that_differ_are_refused(tmp_path):
    other = write(tmp_path / "other")
    with pytest.raises(UsageError, match="tested every 16 frames, here every 1"):
        opened(other, stride=1)
    for changes in ({"images": 9}, {"zero": 7.25}):
        with pytest.raises(UsageError, match="fold 2 tested other frames"):
            compare([result(2, 1.0, **changes)], opened(other))
    said = r"fold 0 learnt from, chose by and tested 40 \+ 4 \+ 25 frames, here 39 \+ 4 \+ 25"
    with pytest.raises(UsageError, match=said):
        opened(other, learnt=39)
    with pytest.raises(UsageError, match="this run itself"):
        opened(other, out="other")


def test_runs_that_are_none_are_refused_in_one_line(tmp_path):
    with pytest.raises(DataError, match="no finished run"):
        opened(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError, match="cannot be read"):
        opened(tmp_path / "loop")
    with pytest.raises(DataError, match="fold 5 of it is not finished"):
        opened(write(tmp_path / "short", errors=ERRORS[:5]))
    other = write(tmp_path / "other")
    for text in ("{", "[]", '{"label": "curvature"}', "[" * 100000, '{"data": 3, "label": 1}'):
        (other / "steering.json").write_text(text)
        with pytest.raises(DataError, match="steering.json"):
            opened(other)
    endless = write(tmp_path / "endless", seed=float("inf"))
    with pytest.raises(DataError, match="steering.json"):
        opened(endless)
    other = write(tmp_path / "wrong")
    frameless = json.dumps(result(0, 1.0) | {"frames": 3})
    for text in ('{"stride": 16}', "[1]", json.dumps(result(0, None)), frameless):
        (other / "fold-0" / "steering.json").write_text(text)
        with pytest.raises(DataError, match="fold-0"):
            opened(other)
