"""The camera's motion along the road."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from unienc_core.data.synthcity.config import CityConfig, stream
from unienc_core.data.synthcity.path import STEP, Path, smooth


@dataclass(frozen=True)
class Drive:
    """Where the camera is at each frame.

    Attributes:
        T_world_camera: `F 4 4` float64.
        s: Arc length below the camera, `F`.
        d: Constant offset from the centreline, m to the right.
        speed: Ground speed, `F`, m/s.
        curvature: Of the driven path, `F`, 1/km, left positive.
        timestamp: `F`, s.
    """

    T_world_camera: np.ndarray
    s: np.ndarray
    d: float
    speed: np.ndarray
    curvature: np.ndarray
    timestamp: np.ndarray


def make_drive(config: CityConfig, path: Path, d: float) -> Drive:
    """Drive along the lane at offset `d` with a slowly changing speed and a shaking camera."""
    rng = stream(config, 2)
    count = config.num_frames
    span = config.max_speed - config.min_speed
    mean = config.min_speed + span * rng.uniform(0.1, 0.9)
    swing = rng.uniform(0.0, min(0.15 * span, mean - config.min_speed, config.max_speed - mean))
    period, phase = rng.uniform(4.0, 12.0), rng.uniform(0.0, 2 * math.pi)
    substeps = 8
    s, arc, speeds = 0.0, [], []
    for k in range(count * substeps):
        time = k / (substeps * config.fps)
        speed = mean + swing * math.sin(2 * math.pi * time / period + phase)
        if k % substeps == 0:
            arc.append(s)
            speeds.append(speed)
        bend = 1.0 - float(path.curvature_at(np.array(s))) * d
        s += speed / (config.fps * substeps * bend)
    arc_length = np.array(arc)
    height = rng.uniform(1.3, 1.6)
    pitch = _shake(rng, count, config.fps, 0.004)
    roll = _shake(rng, count, config.fps, 0.003)
    kappa = path.curvature_at(arc_length)
    return Drive(
        T_world_camera=_camera_poses(path, arc_length, d, height, pitch, roll),
        s=arc_length,
        d=d,
        speed=np.array(speeds),
        curvature=-1000.0 * kappa / (1.0 - kappa * d),
        timestamp=np.arange(count) / config.fps,
    )


def curvature_ahead(path: Path, drive: Drive, metres: float) -> np.ndarray:
    """Return the curvature that the driven path will have further on, `F`, 1/km, left positive.

    Args:
        path: The road's centreline.
        drive: Along it.
        metres: Way to go from each frame, along the driven path.
    """
    s = path.start + STEP * np.arange(len(path.curvature))
    way = np.cumsum((1.0 - path.curvature * drive.d) * STEP)
    there = np.interp(np.interp(drive.s, s, way) + metres, way, s)
    kappa = path.curvature_at(there)
    return -1000.0 * kappa / (1.0 - kappa * drive.d)


def _shake(rng: np.random.Generator, count: int, fps: float, sd: float) -> np.ndarray:
    """Return Gaussian noise of the given deviation, smoothed over half a second."""
    width = max(1, round(0.5 * fps))
    shake = smooth(rng.standard_normal(count + 2 * width), width)[width:-width]
    window = [0.5 - 0.5 * math.cos(2 * math.pi * (k + 1) / (width + 1)) for k in range(width)]
    return shake * (sd * sum(window) / math.sqrt(sum(w * w for w in window)))


def _camera_poses(
    path: Path, s: np.ndarray, d: float, height: float, pitch: np.ndarray, roll: np.ndarray
) -> np.ndarray:
    """Return `F 4 4` camera-to-world transforms: yaw of the road, then pitch, then roll."""
    poses = np.zeros((len(s), 4, 4))
    x, z, _, _ = path.pose(s, np.full_like(s, d))
    heading = path.heading_at(s)
    for k in range(len(s)):
        cy, sy = math.cos(heading[k]), math.sin(heading[k])
        cp, sp = math.cos(pitch[k]), math.sin(pitch[k])
        cr, sr = math.cos(roll[k]), math.sin(roll[k])
        right, up_tilt = (cy, 0.0, -sy), (sp * sy, cp, sp * cy)
        forward = (cp * sy, -sp, cp * cy)
        poses[k, :3, 0] = [cr * a + sr * b for a, b in zip(right, up_tilt, strict=True)]
        poses[k, :3, 1] = [cr * b - sr * a for a, b in zip(right, up_tilt, strict=True)]
        poses[k, :3, 2] = forward
        poses[k, :3, 3] = (x[k], -height, z[k])
        poses[k, 3, 3] = 1.0
    return poses
