"""From a prediction up to scale to metres: the forms of ``--scale`` and the factors they give."""

import numpy as np
import pytest
import torch

from unienc_core.errors import UsageError
from unienc_core.metrics.scale import Scale, parse_scale, scale_factor

K = np.array([[90.0, 0.0, 75.0], [0.0, 90.0, 40.0], [0.0, 0.0, 1.0]])
H, W = 97, 131


def road(height: float, tilt: float = 0.0) -> np.ndarray:
    """Depth of a road `height` below a level camera, rising by `tilt` m per m; a wall beyond."""
    v = np.arange(H)[:, None] + np.zeros(W)
    fall = (v - K[1, 2]) / K[1, 1] + tilt  # y = height - tilt z on the road, y = z (v - cy) / fy
    return height / np.maximum(fall, height / 40)


@pytest.mark.parametrize(
    ("text", "scale"),
    [
        ("median", Scale("median")),
        ("none", Scale("none")),
        ("camera_height=1.65", Scale("camera_height", 1.65)),
        (" factor = 5.4 ", Scale("factor", 5.4)),
        ("factor=1e-3", Scale("factor", 0.001)),
    ],
)
def test_forms_and_back(text, scale):
    assert parse_scale(text) == scale
    assert parse_scale(str(scale)) == scale


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mean", "no scale 'mean'.*give median, none, camera_height=M"),
        ("", "no scale ''"),
        ("camera_height", "above 0 after '='"),
        ("camera-height=1.5", "no scale 'camera-height=1.5'"),
        ("medain", r"did you mean 'median'"),
        ("median=2", "no scale 'median=2'"),
        ("factor=", "above 0"),
        ("factor=0", "above 0"),
        ("factor=-1", "above 0"),
        ("factor=nan", "above 0"),
        ("factor=inf", "above 0"),
        ("camera_height=1.5m", "above 0"),
        ("camera_height=store", "above 0"),
        ("factor=1=2", "above 0"),
    ],
)
def test_anything_else_is_one_line(text, words):
    with pytest.raises(UsageError, match=words) as caught:
        parse_scale(text)
    assert "\n" not in str(caught.value)


def test_the_height_that_the_data_records():
    scale = parse_scale("camera_height=store", with_store=True)
    assert scale == Scale("camera_height")
    assert scale.from_store
    assert str(scale) == "camera_height=store"
    assert not parse_scale("camera_height=2", with_store=True).from_store
    with pytest.raises(UsageError, match="camera_height=store"):
        parse_scale("height", with_store=True)


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_camera_height_gives_the_factor(as_tensor, dtype):
    metres = road(1.4, tilt=0.02)
    height = 1.4 / np.hypot(1, 0.02)  # the distance from the plane, not the depth below
    prediction, intrinsics = (metres / 30).astype(dtype), K
    if as_tensor:
        prediction, intrinsics = torch.from_numpy(prediction), torch.from_numpy(K)
    found = scale_factor(Scale("camera_height", height), prediction, intrinsics)
    assert found == pytest.approx(30, rel=1e-6)
    assert isinstance(found, float)


def test_things_on_the_road_and_holes_do_not_move_the_factor():
    prediction = road(1.4)
    prediction[70:, 60:70] *= 0.6
    prediction[80:85] = 0
    prediction[0] = np.inf
    found = scale_factor(Scale("camera_height", 2.8), prediction, K)
    assert found == pytest.approx(2, rel=1e-6)


def test_no_ground_no_factor():
    wall = np.full((H, W), 12.0)
    assert scale_factor(Scale("camera_height", 1.4), wall, K) is None
    assert scale_factor(Scale("camera_height", 1.4), np.zeros((H, W)), K) is None


def test_the_other_modes_by_hand():
    depth = np.array([[1.0, 2.0, 3.0, 9.0]])
    assert scale_factor(Scale("none"), depth) == 1.0
    assert scale_factor(Scale("factor", 5.4), depth) == 5.4


def test_repeated_calls_agree():
    noise = np.random.default_rng(0).lognormal(0, 0.03, (H, W))
    scale = Scale("camera_height", 1.4)
    found = {scale_factor(scale, noise * road(1.4), K) for _ in range(3)}
    assert len(found) == 1
    assert found.pop() == pytest.approx(1, rel=0.01)


def test_what_is_missing_is_named():
    depth = road(1.4)
    for scale, K_or_none, words in (
        (Scale("median"), None, "median scaling needs ground truth"),
        (Scale("camera_height", 1.4), None, "needs K"),
        (Scale("camera_height"), K, "needs the camera's height"),
    ):
        with pytest.raises(UsageError, match=words):
            scale_factor(scale, depth, K_or_none)
