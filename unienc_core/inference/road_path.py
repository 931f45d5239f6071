"""The path that steering means, on a flat road before a level camera."""

from __future__ import annotations

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
    """

    key: str
    camera_height: float = USUAL_CAMERA_HEIGHT
    vehicle: Vehicle = Vehicle()

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
        """Project the path; None where the road lies below the picture.

        Args:
            value: As predicted.
            K: `3 3`, px of the picture.
            size: (H, W) of the picture.
        """
        curvature, height = self.curvature(value) / 1000.0, self.camera_height
        below = size[0] - K[1, 2]
        farthest = REACH * height
        nearest = K[1, 1] * height / max(below, 1e-6)  # at the lower edge of the picture
        turn = abs(curvature)
        if turn * farthest > _LARGEST_TURN:
            farthest = _LARGEST_TURN / turn
        nearest = min(0.7 * nearest, farthest / 2)  # a curved edge begins below its middle
        if below <= 0 or nearest <= 0:
            return None
        # Even steps down the picture: a row is 1 / depth.
        length = 1.0 / np.linspace(1.0 / nearest, 1.0 / farthest, _NUM_STEPS)
        aside = min(_HALF_WIDTH * height, 0.5 / max(turn, 1e-9))
        left, right = (
            _pixels(arc_on_ground(curvature, length, side, height), K) for side in (aside, -aside)
        )
        return Ribbon(left, right, length, 1.0 - length / farthest)


def arc_on_ground(
    curvature: float, length: np.ndarray, aside: float, camera_height: float
) -> np.ndarray:
    """Return points beside an arc on the ground, in the axes of the camera.

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


def _pixels(points: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Project points in front of a camera, `n 3` to `n 2`."""
    pixels, _ = project(torch.from_numpy(points.T)[None, :, None], torch.from_numpy(K)[None])
    return pixels[0, :, 0].T.numpy()
