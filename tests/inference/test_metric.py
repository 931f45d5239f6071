"""Metres from the camera's height: the factor is exact on a plane, and calm in between."""

import numpy as np
import pytest

from unienc_core.errors import UsageError
from unienc_core.inference.frame_output import FrameOutput
from unienc_core.inference.metric import SCALE_WINDOW, RunningScale
from unienc_core.metrics.scale import Scale, parse_scale
from unienc_core.presets import DepthSpec

SIZE = (96, 320)
K = np.array([[200.0, 0, 159.5], [0, 200.0, 47.5], [0, 0, 1]])


def road(camera_height: float) -> FrameOutput:
    """A flat road under a camera at this height, in the network's unit; the rest is far."""
    spec = DepthSpec()
    rows = np.arange(SIZE[0], dtype=np.float64)[:, None]
    depth = camera_height * K[1, 1] / np.maximum(rows - K[1, 2], 0.5)
    depth = np.broadcast_to(depth.clip(spec.min, spec.max), SIZE)
    near, far = 1 / spec.min, 1 / spec.max
    disparity = ((1 / depth - far) / (near - far)).astype(np.float32)
    output = FrameOutput(disparity, spec, SIZE, None)
    np.testing.assert_allclose(output.depth_at(SIZE), depth, rtol=1e-3)
    return output


def wall() -> FrameOutput:
    return FrameOutput(np.full(SIZE, 0.05, np.float32), DepthSpec(), SIZE, None)


def feed(metric: RunningScale, *outputs: FrameOutput) -> list[float | None]:
    return [metric.update(out, new_scene=False, has_content=True) for out in outputs]


def test_the_factor_brings_the_camera_to_its_height() -> None:
    metric = RunningScale(Scale("camera_height", 1.5), K, SIZE)
    (factor,) = feed(metric, road(0.3))
    assert factor == pytest.approx(5, rel=0.01)
    assert metric.unit == "m"


def test_the_size_of_the_prediction_does_not_matter() -> None:
    twice = RunningScale(Scale("camera_height", 1.5), _doubled(K), (192, 640))
    assert feed(twice, road(0.3))[0] == pytest.approx(5, rel=0.01)


def _doubled(matrix: np.ndarray) -> np.ndarray:
    out = 2 * matrix
    out[:2, 2] += 0.5  # centres of pixels are at integers
    out[2, 2] = 1
    return out


def test_one_odd_frame_does_not_move_the_factor() -> None:
    metric = RunningScale(Scale("camera_height", 1.5), K, SIZE)
    factors = feed(metric, *[road(0.3)] * 5, road(0.6), *[road(0.3)] * 3)
    assert factors == pytest.approx([5] * 9, rel=0.01)


def test_a_lasting_change_is_followed() -> None:
    metric = RunningScale(Scale("camera_height", 1.5), K, SIZE)
    factors = feed(metric, *[road(0.3)] * SCALE_WINDOW, *[road(0.25)] * SCALE_WINDOW)
    assert factors[SCALE_WINDOW] == pytest.approx(5, rel=0.01)
    assert factors[-1] == pytest.approx(6, rel=0.01)


def test_frames_without_a_plane_keep_the_factor_and_are_counted() -> None:
    metric = RunningScale(Scale("camera_height", 1.5), K, SIZE)
    factors = feed(metric, wall(), wall(), road(0.3), wall(), road(0.3))
    assert factors[:2] == [None, None]
    assert factors[2:] == pytest.approx([5] * 3, rel=0.01)
    assert (metric.num_without_plane, metric.num_unknown) == (3, 2)


def test_a_new_scene_forgets_older_planes_but_never_the_factor() -> None:
    metric = RunningScale(Scale("camera_height", 1.5), K, SIZE)
    feed(metric, *[road(0.3)] * 9)
    assert metric.update(wall(), new_scene=True, has_content=True) == pytest.approx(5, rel=0.01)
    assert metric.update(road(0.5), new_scene=False, has_content=True) == pytest.approx(3, rel=0.01)
    black = metric.update(road(0.3), new_scene=False, has_content=False)
    assert black == pytest.approx(3, rel=0.01)


@pytest.mark.parametrize(
    ("text", "factor", "unit"),
    [(None, 1.0, "up to scale"), ("none", 1.0, "m"), ("factor=2.5", 2.5, "m")],
)
def test_fixed_scales(text, factor, unit) -> None:
    metric = RunningScale(None if text is None else parse_scale(text), K, SIZE)
    assert feed(metric, wall(), road(1.0)) == [factor, factor]
    assert (metric.unit, metric.num_without_plane) == (unit, 0)


def test_ground_truth_is_not_to_be_had() -> None:
    for scale in (Scale("median"), Scale("camera_height")):
        with pytest.raises(UsageError, match="no ground truth in a video"):
            RunningScale(scale, K, SIZE)
