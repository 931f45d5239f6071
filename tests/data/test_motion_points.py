"""Labels of points as a map of a store."""

from types import SimpleNamespace

import numpy as np
import pytest

from unienc_core.data.check_values import check_map
from unienc_core.data.keys import STANDARD_KEYS
from unienc_core.data.motion_points import motion_of_points, sparse_motion_key
from unienc_core.errors import DataError
from unienc_core.metrics.motion import motion_labels


def test_points_on_pixels_the_nearest_one_seen() -> None:
    pixels = np.array([[0.4, 0.4], [2.6, 1.0], [3.0, 1.2], [1, 1], [9, 0], [2, 0], [1, 0]])
    labels = np.array([1, 2, 1, 3, 1, 2, 1])
    depths = np.array([5.0, 3.0, 8.0, 2.0, 1.0, 4.0, -1.0])
    found = motion_of_points(pixels, labels, depths, (2, 4))
    assert found.tolist() == [[1, 255, 0, 255], [255, 255, 255, 0]]
    # An ignored point hides what is behind it.
    found = motion_of_points(np.zeros((2, 2)), np.array([1, 3]), np.array([5.0, 2.0]), (1, 1))
    assert found.tolist() == [[255]]
    assert (motion_of_points(np.empty((0, 2)), np.empty(0, int), np.empty(0), (2, 2)) == 255).all()
    with pytest.raises(DataError, match="motion label 0 of a point"):
        motion_of_points(np.zeros((1, 2)), np.array([0]), np.ones(1), (1, 1))


def test_the_key_says_what_is_unknown() -> None:
    key = sparse_motion_key()
    labels = motion_labels(np.array([[0, 1, 255]], np.uint8), key.invalid)
    assert {name: chosen.tolist() for name, chosen in labels.items()} == {
        "moving": [[False, True, False]],
        "static": [[True, False, False]],
    }


def test_data_check_takes_the_mark_of_unknown_for_no_fault() -> None:
    faults: list[str] = []
    notes = SimpleNamespace(add=lambda kind, *_: faults.append(kind))
    mask = np.array([[0, 1, 255]], np.uint8)
    assert check_map("motion_mask", sparse_motion_key(), mask, 0, notes) == pytest.approx(2 / 3)
    assert faults == []
    check_map("motion_mask", STANDARD_KEYS["motion_mask"], mask, 0, notes)
    assert faults == ["labels"]
