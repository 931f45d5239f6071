"""Poses compose into the path that was driven."""

import numpy as np

from unienc_core.inference.path import MAX_POINTS, CameraPath


def forward_and_turn(step: float, angle: float) -> np.ndarray:
    """T_previous_current of a camera that goes ahead by `step`, then turns right by `angle`."""
    c, s = np.cos(angle), np.sin(angle)
    pose = np.eye(4)
    pose[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    pose[2, 3] = step
    return pose


def test_straight_ahead_is_along_z() -> None:
    path = CameraPath()
    for _ in range(5):
        path.add(forward_and_turn(2, 0))
    np.testing.assert_allclose(path.points[:, 2], [0, 2, 4, 6, 8, 10, 10])
    np.testing.assert_allclose(path.points[:, :2], 0)


def test_a_square_closes_and_bends_to_the_right() -> None:
    path = CameraPath()
    for _ in range(4):
        path.add(forward_and_turn(1, np.pi / 2))
    corners = [[0, 0, 0], [0, 0, 1], [1, 0, 1], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(path.points, corners, atol=1e-12)


def test_a_long_path_stays_small_and_right() -> None:
    path, num = CameraPath(), 20_000
    rounded = forward_and_turn(0.1, 2 * np.pi / num).astype(np.float32)
    rounded[:3, :3] *= 1.0001  # what a network gives is a rotation only roughly
    for _ in range(num):
        path.add(rounded)
    assert len(path.points) <= MAX_POINTS + 1
    rotation = path.T_world_camera[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    np.testing.assert_array_equal(path.points[-1], path.T_world_camera[:3, 3])
    radius = 0.1 * num / (2 * np.pi)
    np.testing.assert_allclose(np.ptp(path.points[:, [0, 2]], axis=0), 2 * radius, rtol=0.01)
