"""Depth baselines on hand-made maps."""

import numpy as np
import pytest

from unienc_core.errors import DataError
from unienc_core.metrics.protocols import PROTOCOLS
from unienc_core.metrics.scale import Scale
from unienc_core.workflows.baselines import (
    HORIZON_DEPTH,
    ground_plane,
    make_baselines,
    measure_training_depths,
)
from unienc_core.workflows.depth_sources import DepthSample

SYNTH = PROTOCOLS["synth"]


def sample(height: int, width: int, K: np.ndarray | None = None) -> DepthSample:
    blank = np.zeros((height, width))
    return DepthSample("x", blank, blank, (height, width), K=K, camera_height=1.4)


def test_training_depths_by_hand() -> None:
    maps = [np.array([[2.0, 4.0, 0.0, 200.0]]), np.array([[8.0, 0.0, 0.0, 90.0]])]
    found = measure_training_depths(iter(maps), SYNTH)
    assert found.num_images == 2
    assert found.constant == pytest.approx((2 * 4 * 8) ** (1 / 3))
    # Places 2 and 3 hold nothing that is scored and take the nearest place that does.
    assert found.per_pixel == pytest.approx(np.array([[4.0, 4.0, 4.0, 4.0]]))


def test_geometric_mean_equals_a_recomputation() -> None:
    rng = np.random.default_rng(0)
    maps = rng.uniform(1, 70, (5, 6, 7)).astype(np.float32)
    found = measure_training_depths(maps, SYNTH)
    logs = np.log(maps.astype(np.float64))
    assert found.per_pixel == pytest.approx(np.exp(logs.mean(0)), rel=1e-12)
    assert found.constant == pytest.approx(np.exp(logs.mean()), rel=1e-12)


def test_the_crop_of_a_protocol_does_not_apply_to_training_depths() -> None:
    found = measure_training_depths([np.full((38, 124), 7.0)], PROTOCOLS["kitti-eigen"])
    assert found.per_pixel == pytest.approx(np.full((38, 124), 7.0))


def test_training_maps_of_another_size_join_without_mixing_depths() -> None:
    maps = [np.array([[2.0, 8.0]]), np.array([[2.0, 8.0, 8.0, 8.0]])]
    assert measure_training_depths(maps, SYNTH).per_pixel.tolist() == [pytest.approx([2.0, 8.0])]


@pytest.mark.parametrize("maps", [[], [np.zeros((3, 4))]])
def test_nothing_to_learn_from(maps) -> None:
    with pytest.raises(DataError, match="no training image"):
        measure_training_depths(maps, SYNTH)


def test_ground_plane_is_the_plane() -> None:
    K = np.array([[50.0, 0, 30.0], [0, 40.0, 9.5], [0, 0, 1]])
    depth = ground_plane(K, 1.5, (24, 60))
    assert (depth[:10] == HORIZON_DEPTH).all()
    assert depth[10, 0] == HORIZON_DEPTH  # 40 x 1.5 / 0.5 = 120 m, cut
    assert depth[23, 59] == pytest.approx(40 * 1.5 / 13.5)
    # Points on it lie 1.5 m below the camera.
    v = np.arange(11, 24)
    assert (v - 9.5) / 40 * depth[11:, 7] == pytest.approx(np.full(13, 1.5))


def test_what_can_be_had() -> None:
    training = measure_training_depths([np.array([[2.0, 8.0]])], SYNTH)
    K = np.eye(3)
    every = make_baselines(training, Scale("none"), with_ground=True)
    assert list(every) == ["constant", "per_pixel_mean", "ground_plane"]
    assert every["constant"](sample(2, 3)).tolist() == [[4.0] * 3] * 2
    assert every["per_pixel_mean"](sample(1, 2)) == pytest.approx(np.array([[2.0, 8.0]]))
    # At another size it is resized as disparity.
    assert every["per_pixel_mean"](sample(1, 4))[0, 1] == pytest.approx(1 / (0.75 / 2 + 0.25 / 8))
    expected = ground_plane(K, 1.4, (5, 6))
    assert (every["ground_plane"](sample(5, 6, K)) == expected).all()
    assert list(make_baselines(None, Scale("median"), with_ground=False)) == ["constant"]
    assert list(make_baselines(None, Scale("none"), with_ground=False)) == []
