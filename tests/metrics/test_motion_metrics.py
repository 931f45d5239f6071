"""Motion metrics in closed form; `tests/parity` has them beside another library."""

import numpy as np

from unienc_core.metrics.motion import (
    SCORE_THRESHOLDS,
    EndPointErrors,
    ThresholdCounts,
    mask_scores,
    motion_labels,
)


def test_labels_of_pixels_that_are_known_and_of_those_that_are_not() -> None:
    mask = np.array([[0, 1, 255], [1, 0, 2]], np.uint8)
    everywhere = motion_labels(mask, None)
    assert everywhere["moving"].tolist() == [[False, True, True], [True, False, True]]
    assert everywhere["static"].tolist() == [[True, False, False], [False, True, False]]
    sparse = motion_labels(mask, 255)
    assert sparse["moving"].tolist() == [[False, True, False], [True, False, True]]
    assert sparse["static"].tolist() == everywhere["static"].tolist()


def test_errors_are_pooled_over_pixels_not_over_images() -> None:
    errors = EndPointErrors()
    every = np.ones((1, 3), bool)
    moving = np.array([[True, False, False]])
    errors.add(np.array([[6.0, 1.0, 2.0]]), {"all": every, "moving": moving, "static": ~moving})
    errors.add(np.array([[3.0, 9.0, 9.0]]), {"all": moving, "moving": moving})
    assert errors.result("epe") == {"epe": 12 / 4, "epe_static": 3 / 2, "epe_moving": 9 / 2}
    assert EndPointErrors().result("x") == {"x": None, "x_static": None, "x_moving": None}


def test_mask_scores_by_hand() -> None:
    assert mask_scores(2, 1, 1) == {"iou": 0.5, "precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3}
    black = {"iou": 0.0, "precision": None, "recall": 0.0, "f1": 0.0}
    assert mask_scores(0, 0, 5) == black
    assert set(mask_scores(0, 0, 0).values()) == {None}


def test_a_mask_without_an_opinion() -> None:
    """All at one half, as before training: nothing is over it, everything over less."""
    counts = ThresholdCounts()
    moving = np.zeros((4, 5), bool)
    moving[0] = True
    counts.add(np.full((4, 5), 0.5), {"moving": moving, "static": ~moving})
    assert counts.over(0.5) == {"iou": 0.0, "precision": None, "recall": 0.0, "f1": 0.0}
    threshold, best = counts.best()
    assert (threshold, best["iou"], best["recall"]) == (0.0, 0.25, 1.0)
    assert counts.average_precision() == 0.25


def test_nothing_moves_or_nothing_is_known() -> None:
    counts = ThresholdCounts()
    assert counts.best() is counts.average_precision() is None
    every = np.ones((2, 2), bool)
    counts.add(np.full((2, 2), 0.9), {"moving": ~every, "static": every})
    assert counts.best() is counts.average_precision() is None
    assert counts.over(0.5) == {"iou": 0.0, "precision": 0.0, "recall": None, "f1": 0.0}


def test_other_scores_have_no_upper_end() -> None:
    counts = ThresholdCounts(SCORE_THRESHOLDS)
    scores = np.array([[1e-9, 0.02, 1e9, np.inf]])
    moving = np.array([[False, False, True, True]])
    counts.add(scores, {"moving": moving, "static": ~moving})
    threshold, best = counts.best()
    assert 0.02 <= threshold < 0.0205
    assert best == {"iou": 1.0, "precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert counts.average_precision() == 1.0
