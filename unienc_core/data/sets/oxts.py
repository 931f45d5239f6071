"""KITTI's OXTS records (GPS and inertial sensor) as speed, turning and camera poses.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unienc_core.data.sets.turning import path_curvature
from unienc_core.errors import DataError

NUM_FIELDS = 30
LATITUDE, LONGITUDE, ALTITUDE, ROLL, PITCH, YAW = range(6)
FORWARD_SPEED, LEFTWARD_SPEED = 8, 9
YAW_RATE = 22
"""Turning rate about the vehicle's upward axis, rad/s, left positive."""

EARTH_RADIUS = 6_378_137.0


def read_oxts(path: Path) -> np.ndarray:
    """Read the record of one frame: `NUM_FIELDS` float64 values.

    Raises:
        DataError: If it is missing or no such record.
    """
    try:
        fields = [float(part) for part in path.read_text(encoding="utf-8").split()]
    except (OSError, ValueError) as error:
        line = " ".join(str(error).split())
        raise DataError(f"{path}: no OXTS record can be read ({line})") from None
    if len(fields) < NUM_FIELDS - 5 or not np.isfinite(fields[: NUM_FIELDS - 5]).all():
        # Some tools leave the five status fields out at the end; nothing here needs them.
        raise DataError(f"{path}: {len(fields)} numbers, expected the {NUM_FIELDS} of an OXTS file")
    latitude, longitude = fields[LATITUDE], fields[LONGITUDE]
    if not (abs(latitude) < 90 and abs(longitude) <= 360):
        raise DataError(
            f"{path}: latitude {latitude:g} and longitude {longitude:g} degrees, expected a place "
            "on Earth off its poles"
        )
    return np.array(fields)


def speed(record: np.ndarray) -> float:
    """Return the speed over ground, m/s."""
    return math.hypot(record[FORWARD_SPEED], record[LEFTWARD_SPEED])


def curvature(record: np.ndarray) -> float:
    """Return the curvature of the path, 1/km, left positive: yaw rate / speed x 1000."""
    return path_curvature(float(record[YAW_RATE]), speed(record))


def poses(records: Sequence[np.ndarray]) -> np.ndarray:
    """Return where the vehicle is, in a frame of east, north and up.

    Latitude and longitude are laid flat by Mercator's projection, at the scale of the first
    record; roll, pitch and yaw turn about x, y and z in this order (x forward, y left, z up).

    Returns:
        T_earth_imu, `n 4 4`, m.
    """
    scale = math.cos(math.radians(records[0][LATITUDE]))
    return np.stack([_pose(record, scale) for record in records])


def _pose(record: np.ndarray, scale: float) -> np.ndarray:
    latitude, longitude = record[LATITUDE], record[LONGITUDE]
    T_earth_imu = np.eye(4)
    T_earth_imu[:3, :3] = _turn(2, record[YAW]) @ _turn(1, record[PITCH]) @ _turn(0, record[ROLL])
    T_earth_imu[0, 3] = scale * EARTH_RADIUS * math.radians(longitude)
    T_earth_imu[1, 3] = scale * EARTH_RADIUS * math.log(math.tan(math.radians(90.0 + latitude) / 2))
    T_earth_imu[2, 3] = record[ALTITUDE]
    return T_earth_imu


def _turn(axis: int, angle: float) -> np.ndarray:
    """Rotation about an axis, right-handed."""
    c, s = math.cos(angle), math.sin(angle)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    R = np.eye(3)
    R[first, first] = R[second, second] = c
    R[second, first], R[first, second] = s, -s
    return R
