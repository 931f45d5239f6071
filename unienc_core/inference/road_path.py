"""The path that steering means, on a flat road."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from unienc_core.data.steering import (
    CURVATURE,
    STEERING_KINDS,
    Vehicle,
    convert,
    kind_of,
    look_ahead_of,
)
from unienc_core.geometry.camera import Size, project

USUAL_CAMERA_HEIGHT = 1.5
"""Metres above the road: behind the windscreen of a car."""

REACH = 40.0
"""Length of the path in heights of the camera: 60 m from 1.5 m, 6 m from a toy car."""

_HALF_WIDTH = 0.6  # in heights of the camera: a car's
_NEAREST = 0.05  # likewise
_LARGEST_TURN = np.pi / 2
_NUM_STEPS = 48


class Ribbon(NamedTuple):
    """A path as the camera sees it, from near to far.

    Attributes:
        left: Its left edge, `n 2`, px.
        right: Its right edge, `n 2`, px.
        length: Along the path from the camera on, `n`, m.
        fade: 1 at the camera to 0 at the end, `n`.
    """

    left: np.ndarray
    right: np.ndarray
    length: np.ndarray
    fade: np.ndarray


@dataclass(frozen=True)
class RoadPath:
    """How predicted steering becomes a path: an arc that begins straight below the camera.

    A curvature some way ahead is taken to hold all along.

    Attributes:
        key: The label that is predicted; its curvature must be known, see `check_conversion`.
        camera_height: Above the road, m.
        vehicle: What turns the angle of a steering wheel into curvature.
        pitch: Angle by which the camera looks up, rad.
    """

    key: str
    camera_height: float = USUAL_CAMERA_HEIGHT
    vehicle: Vehicle = Vehicle()
    pitch: float = 0.0

    @property
    def look_ahead(self) -> float:
        """Metres along the path at which the prediction holds."""
        return look_ahead_of(self.key)

    def curvature(self, value: float) -> float:
        """Return the curvature of the path, 1/km, left positive; cut to what a car can drive.

        Args:
            value: As predicted.
        """
        kind = kind_of(self.key)
        assert kind is not None  # else there is no such label
        most = np.array(STEERING_KINDS[CURVATURE].bound)
        bound = convert(most, CURVATURE, kind.name, self.vehicle)
        cut = np.clip(value, -bound, bound)
        return float(convert(cut, kind.name, CURVATURE, self.vehicle))

    def ribbon(self, value: float, K: np.ndarray, size: Size) -> Ribbon | None:
        """Project the path; None where the road is out of sight.

        Args:
            value: As predicted.
            K: `3 3`, px of the picture.
            size: (H, W) of the picture.
        """
        below = size[0] - self.horizon(K)
        if below <= 0:
            return None
        # In heights of the camera: the picture of a toy car's path is that of a lorry's.
        curvature = self.curvature(value) / 1000.0 * self.camera_height
        turn = abs(curvature)
        farthest = min(REACH, _LARGEST_TURN / max(turn, 1e-9))
        # Below the picture's lower edge, for both edges of a bend.
        nearest = 0.7 * (K[1, 1] + (size[0] - K[1, 2]) * math.tan(self.pitch)) / below
        nearest = min(max(nearest, _NEAREST), farthest / 2)
        # Even steps down the picture: a row is 1 / depth.
        length = 1.0 / np.linspace(1.0 / nearest, 1.0 / farthest, _NUM_STEPS)
        aside = min(_HALF_WIDTH, 0.5 / max(turn, 1e-9))
        left, right = (
            _tilted(arc_on_ground(curvature, length, side, 1.0), self.pitch)
            for side in (aside, -aside)
        )
        ahead = np.minimum(left[:, 2], right[:, 2]) > _NEAREST
        if np.count_nonzero(ahead) < 2:
            return None
        return Ribbon(
            _pixels(left[ahead], K),
            _pixels(right[ahead], K),
            length[ahead] * self.camera_height,
            1.0 - length[ahead] / farthest,
        )

    def horizon(self, K: np.ndarray) -> float:
        """Return the row at which the road ends for a camera of these intrinsics, px."""
        return float(K[1, 2] + K[1, 1] * np.tan(self.pitch))

    def describe(self, K: np.ndarray) -> dict[str, float]:
        """Return where it lies, as reports name it."""
        return {"camera_height": self.camera_height, "horizon": round(self.horizon(K), 4)}


def arc_on_ground(
    curvature: float, length: np.ndarray, aside: float, camera_height: float
) -> np.ndarray:
    """Return points beside an arc on the ground, in the axes of a level camera.

    With k the curvature and s the length, the arc itself is x = -(1 - cos ks) / k, z = sin ks / k:
    it begins straight ahead, and a positive k bends it to the left, that is to negative x.

    Args:
        curvature: 1/m, left positive.
        length: Along the arc, `n`, m.
        aside: How far to the left of it, m.
        camera_height: Above the ground, m.

    Returns:
        `n 3`, m: x right, y down, z forward.
    """
    angle = curvature * length
    ahead = length * np.sinc(angle / np.pi)
    left = length * np.sin(angle / 2) * np.sinc(angle / 2 / np.pi)
    x, z = -left - aside * np.cos(angle), ahead - aside * np.sin(angle)
    return np.stack((x, np.full_like(x, camera_height), z), 1)


def _tilted(points: np.ndarray, pitch: float) -> np.ndarray:
    """Return points `n 3` of a level camera in the axes of one that looks up by `pitch`, rad."""
    x, y, z = points.T
    cos, sin = np.cos(pitch), np.sin(pitch)
    return np.stack((x, y * cos + z * sin, z * cos - y * sin), 1)


def _pixels(points: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Project points in front of a camera, `n 3` to `n 2`."""
    pixels, _ = project(torch.from_numpy(points.T)[None, :, None], torch.from_numpy(K)[None])
    return pixels[0, :, 0].T.numpy()
