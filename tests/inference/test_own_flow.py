"""The own flow: what it means, against float64 and against scenes whose answer is known."""

import numpy as np
import pytest
import torch

from unienc_core.geometry.camera import depth_to_disparity, disparity_to_depth
from unienc_core.geometry.se3 import axis_angle_to_matrix
from unienc_core.inference.frame_output import FrameOutput
from unienc_core.inference.moving import Moving
from unienc_core.inference.scene_motion import SceneMotion
from unienc_core.presets import DepthSpec

SPEC = DepthSpec(min=0.5, max=100.0)
NET, SIZE = (12, 20), (24, 60)  # the picture is wider than the network's
K = np.array([[50.0, 0, 28.0], [0, 40.0, 11.0], [0, 0, 1]])


def pose(axis_angle: tuple[float, ...], translation: tuple[float, ...]) -> np.ndarray:
    T_a_b = np.eye(4)
    T_a_b[:3, :3] = axis_angle_to_matrix(torch.tensor([axis_angle], dtype=torch.float64))[0].numpy()
    T_a_b[:3, 3] = translation
    return T_a_b


TURNING = pose((0.02, -0.05, 0.01), (0.1, -0.02, 0.8))


def rays() -> np.ndarray:
    """K^-1 (u, v, 1) of the network's pixels, whose centres lie in the picture by the rule."""
    v, u = np.meshgrid(np.arange(NET[0]), np.arange(NET[1]), indexing="ij")
    u = (u + 0.5) * SIZE[1] / NET[1] - 0.5
    v = (v + 0.5) * SIZE[0] / NET[0] - 0.5
    return np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones(NET)])


def seen(depth: np.ndarray, moved: np.ndarray, T_before: np.ndarray, mask=None) -> SceneMotion:
    """What a perfect network says where points went `moved` since the previous frame."""
    points = rays() * depth
    earlier = points - moved  # in the axes of the current camera
    flow = np.einsum("ij,jhw->ihw", T_before[:3, :3], earlier) + T_before[:3, 3:, None] - points
    disparity = depth_to_disparity(torch.from_numpy(depth), SPEC.min, SPEC.max).numpy()
    return SceneMotion(mask, flow.astype(np.float32), disparity.astype(np.float32), T_before, SPEC)


@pytest.fixture
def depth() -> np.ndarray:
    return np.random.default_rng(0).uniform(2, 30, NET)


def test_a_standing_world_has_no_own_flow_whatever_the_camera_does(depth) -> None:
    found = seen(depth, np.zeros((3, *NET)), TURNING).own_flow(K, SIZE)
    np.testing.assert_allclose(found, 0, atol=2e-5)
    assert found.dtype == np.float32


def test_own_flow_points_where_things_went_in_the_axes_of_this_camera(depth) -> None:
    moved = np.zeros((3, *NET))
    moved[:, 4:8, 5:12] = np.array([0.3, -0.1, 1.5])[:, None, None]
    motion = seen(depth, moved, TURNING)
    np.testing.assert_allclose(motion.own_flow(K, SIZE), moved, atol=2e-5)
    back = -np.einsum("ij,jhw->ihw", TURNING[:3, :3], moved)  # as the paper has it, and stores
    np.testing.assert_allclose(motion.independent_flow(K, SIZE), back, atol=2e-5)


def test_it_is_masked_where_there_is_a_mask(depth) -> None:
    moved = np.random.default_rng(1).normal(size=(3, *NET))
    mask = np.random.default_rng(2).random(NET).astype(np.float32)
    motion = seen(depth, moved, TURNING, mask)
    np.testing.assert_allclose(motion.own_flow(K, SIZE), mask * moved, atol=2e-5)
    unmasked = -np.einsum("ij,jhw->ihw", TURNING[:3, :3], moved)
    np.testing.assert_allclose(motion.independent_flow(K, SIZE), unmasked, atol=2e-5)


def test_a_frame_shows_it_at_its_own_size(depth) -> None:
    moved = np.zeros((3, *NET))
    moved[2] = 0.5
    mask = np.full(NET, 0.25, np.float32)
    disparity = np.full((6, 10), 0.1, np.float32)
    output = FrameOutput(
        disparity, SPEC, SIZE, None, scene_motion=seen(depth, moved, TURNING, mask)
    )
    assert output.motion_mask.shape == SIZE
    assert (output.motion_mask == 0.25).all()
    assert output.complete_flow.shape == output.independent_flow(K).shape == (3, *SIZE)
    np.testing.assert_allclose(output.own_flow(K)[2], 0.125, atol=2e-5)
    plain = FrameOutput(disparity, SPEC, SIZE, None)
    assert plain.motion_mask is plain.complete_flow is None
    assert plain.own_flow(K) is plain.independent_flow(K) is None
    only_mask = FrameOutput(
        None, SPEC, SIZE, None, scene_motion=SceneMotion(mask, None, None, None, SPEC)
    )
    assert only_mask.own_flow(K) is None
    assert only_mask.motion_mask is not None


def test_depth_lies_between_pixels_as_in_training() -> None:
    """The head's map is smaller than the network's: disparity is interpolated, then inverted."""
    small = np.array([[0.1, 0.3]], np.float32)
    flow = np.zeros((3, 1, 4), np.float32)
    T_before = pose((0.0, 0.1, 0.0), (0.0, 0.0, 0.0))
    motion = SceneMotion(None, flow, small, T_before, SPEC)
    found = motion.independent_flow(np.eye(3), (1, 4))
    wide = torch.tensor([0.1, 0.15, 0.25, 0.3], dtype=torch.float64)
    z = disparity_to_depth(wide, SPEC.min, SPEC.max).numpy()
    points = np.stack([np.arange(4), np.zeros(4), np.ones(4)]) * z
    np.testing.assert_allclose(
        found[:, 0], points - T_before[:3, :3] @ points, rtol=1e-5, atol=1e-5
    )


def test_what_is_kept_of_a_frame(depth) -> None:
    moved = np.zeros((3, *NET))
    moved[:, :3, :10] = np.array([3.0, 0, 4.0])[:, None, None]
    mask = np.where(moved.any(0), 0.8, 0.1).astype(np.float32)
    output = FrameOutput(None, SPEC, SIZE, None, scene_motion=seen(depth, moved, TURNING, mask))
    kept = Moving.of(output, K, 0.04, ("flow", "mask"))
    assert kept.share == pytest.approx(30 / 240)
    assert kept.mean_own_flow == pytest.approx(0.8 * 5, rel=1e-4)
    assert Moving.of(output, K, 0.04, ("flow",)).mask is None
    still = FrameOutput(None, SPEC, SIZE, None, scene_motion=seen(depth, moved, TURNING, 0 * mask))
    assert Moving.of(still, K, 0.04, ("flow", "mask")).mean_own_flow is None
    bare = FrameOutput(None, SPEC, SIZE, None, scene_motion=seen(depth, moved, TURNING))
    without = Moving.of(bare, K, 0.04, ("flow",))
    assert without.share is None
    assert without.mean_own_flow == pytest.approx(5 * 30 / 240, rel=1e-3)
    assert Moving.of(FrameOutput(None, SPEC, SIZE, None), K, 0.04, ("flow",)) is None
