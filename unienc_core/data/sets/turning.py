"""How sharply a vehicle turns: curvature of its path, at the vehicle and ahead of it.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from unienc_core.data.manifest import KeySpec
from unienc_core.data.sets.measured import interpolate
from unienc_core.data.steering import CURVATURE, ahead_key, steering_spec

STANDSTILL = 2.0
"""Below this speed, in m/s, a measured path has no curvature worth the name: it is unknown."""

MAX_STEP = 5.0
"""Points of a path further apart than this, in m, say nothing of what lies between them."""


def path_curvature(yaw_rate: float, speed: float) -> float:
    """Return the curvature of the path, 1/km, left positive: yaw rate / speed x 1000.

    Args:
        yaw_rate: rad/s, left positive.
        speed: m/s.

    Returns:
        NaN where the vehicle stands.
    """
    return 1000.0 * yaw_rate / speed if speed >= STANDSTILL else float("nan")


def curvature_of_poses(T_world_camera: np.ndarray, fps: float) -> np.ndarray:
    """Return the curvature of a driven path, 1/km, left positive, from camera poses.

    The turn from the frame before to the one after, over the way between them. Of a rotation
    R = Ra^T Rb of a camera with x right and z forward, atan2(R02, R22) turns to the right.

    Args:
        T_world_camera: `n 4 4`, m, of consecutive frames.
        fps: Their rate.

    Returns:
        `n`; NaN where the camera stands.
    """
    count = len(T_world_camera)
    if count < 2:
        return np.full(count, np.nan)
    before = np.maximum(np.arange(count) - 1, 0)
    after = np.minimum(np.arange(count) + 1, count - 1)
    R, centres = T_world_camera[:, :3, :3], T_world_camera[:, :3, 3]
    turn = np.einsum("nji,njk->nik", R[before], R[after])
    to_the_right = np.arctan2(turn[:, 0, 2], turn[:, 2, 2])
    way = np.linalg.norm(centres[after] - centres[before], axis=1)
    moving = way * fps >= STANDSTILL * (after - before)
    return np.where(moving, -1000.0 * to_the_right / np.where(moving, way, 1.0), np.nan)


def way_of(centres: np.ndarray) -> np.ndarray:
    """Return how far a camera has driven, `n`, m, from its centres `n 3`."""
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    return np.concatenate(([0.0], np.cumsum(steps)))


def labels_ahead(
    curvature: np.ndarray, way: np.ndarray, look_ahead: Sequence[float]
) -> dict[str, np.ndarray]:
    """Return the curvature at the vehicle and where it will be further along its path.

    Args:
        curvature: `n`, 1/km, NaN where unknown.
        way: `n`, m, driven so far.
        look_ahead: Metres ahead.

    Returns:
        Key to `n` float32; NaN beyond the end of the path.
    """
    found = {CURVATURE: curvature.astype(np.float32)}
    for metres in look_ahead:
        there = interpolate(way + metres, way, curvature, MAX_STEP) if metres else curvature
        found[ahead_key(metres)] = there.astype(np.float32)
    return found


def ahead_specs(look_ahead: Sequence[float], provenance: str) -> Mapping[str, KeySpec]:
    """Declare the curvature at the vehicle and ahead of it."""
    keys = dict.fromkeys((CURVATURE, *(ahead_key(metres) for metres in look_ahead)))
    return {key: steering_spec(key, provenance) for key in keys}
