"""Where the camera has been: relative poses composed into a path."""

from __future__ import annotations

import numpy as np

MAX_POINTS = 2048


class CameraPath:
    """The camera's way from its first frame on, in bounded memory.

    Attributes:
        T_world_camera: `4 4`, float64, pose of the newest frame; the world is the first camera's
            frame (x right, y down, z forward), its unit that of the translations given.
    """

    def __init__(self) -> None:
        self.T_world_camera = np.eye(4)
        self._points = [np.zeros(3)]
        self._stride = 1
        self._num_steps = 0

    def add(self, T_previous_current: np.ndarray) -> None:
        """Go on by one frame: T_world_current = T_world_previous @ T_previous_current."""
        T_world_camera = self.T_world_camera @ T_previous_current
        # Rounding of a million products must not bend the axes: keep the nearest rotation.
        left, _, right = np.linalg.svd(T_world_camera[:3, :3])
        T_world_camera[:3, :3] = left @ right
        self.T_world_camera = T_world_camera
        self._num_steps += 1
        if self._num_steps % self._stride == 0:
            self._points.append(T_world_camera[:3, 3].copy())
        if len(self._points) > MAX_POINTS:  # a long way is kept at half the detail
            self._points = self._points[::2]
            self._stride *= 2

    @property
    def points(self) -> np.ndarray:
        """Positions in the world, first to newest, `n 3`."""
        return np.array([*self._points, self.T_world_camera[:3, 3]])
