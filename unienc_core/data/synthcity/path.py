"""The road's centreline, and look-up between it and the plane.

World frame: x right, y down, z forward at the start; the road lies in the plane y = 0. A place on
the road is (s, d): arc length along the centreline and offset to its right, in metres. The heading
psi turns from +z towards +x, so a left turn has a negative heading rate.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from unienc_core.data.synthcity.config import VIEW_DISTANCE, CityConfig, stream
from unienc_core.data.synthcity.noise import remap_flat

STEP = 0.1
"""Spacing of centreline samples, m."""

_LEAD_IN = 30.0
_MAX_HEADING = 1.2
_MAX_CURVATURE = 0.05
_CELL = 0.5
_MARGIN = 70.0
_FINE_RADIUS = 20.0


class Path:
    """A curved centreline with look-up in both directions.

    Attributes:
        start: Arc length of the first sample (negative: road behind the start of the drive).
        curvature: Rate of the heading at each sample, rad/m, positive to the right.
    """

    def __init__(self, curvature: np.ndarray, start: float) -> None:
        self.start = start
        self.curvature = curvature
        # Sines through `math`: numpy's vectorised ones differ in the last bit between machines.
        heading = np.concatenate([[0.0], np.cumsum(curvature[:-1] * STEP)])
        middle = heading + curvature * (STEP / 2)
        origin = round(-start / STEP)
        self.heading = heading - heading[origin]
        middle = middle - heading[origin]
        steps_x = np.array([math.sin(a) for a in middle.tolist()]) * STEP
        steps_z = np.array([math.cos(a) for a in middle.tolist()]) * STEP
        x = np.concatenate([[0.0], np.cumsum(steps_x[:-1])])
        z = np.concatenate([[0.0], np.cumsum(steps_z[:-1])])
        self.x, self.z = x - x[origin], z - z[origin]
        self.sin = np.array([math.sin(a) for a in self.heading.tolist()])
        self.cos = np.array([math.cos(a) for a in self.heading.tolist()])

    @property
    def end(self) -> float:
        """Arc length of the last sample."""
        return self.start + STEP * (len(self.x) - 1)

    def _interpolate(self, s: np.ndarray, *tables: np.ndarray) -> list[np.ndarray]:
        position = np.clip((s - self.start) / STEP, 0.0, len(self.x) - 1.001)
        index = position.astype(np.intp)
        fraction = position - index
        return [t[index] + fraction * (t[index + 1] - t[index]) for t in tables]

    def pose(self, s: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return x, z and the sine and cosine of the heading at (s, d), float64."""
        x, z, sin, cos = self._interpolate(s, self.x, self.z, self.sin, self.cos)
        norm = 1.0 / np.sqrt(sin * sin + cos * cos)
        sin, cos = sin * norm, cos * norm
        return x + d * cos, z - d * sin, sin, cos

    def heading_at(self, s: np.ndarray) -> np.ndarray:
        """Return the heading in radians."""
        return self._interpolate(s, self.heading)[0]

    def curvature_at(self, s: np.ndarray) -> np.ndarray:
        """Return the centreline's curvature in rad/m, positive to the right."""
        return self._interpolate(s, self.curvature)[0]

    def locate(self, x: np.ndarray, z: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Refine (s, d) of points of the plane from a first guess of `s`.

        Three Newton steps on the tangent circle; exact where the guess lies on the right piece.
        """
        for _ in range(3):
            px, pz, sin, cos = self.pose(s, np.zeros_like(s))
            along = (x - px) * sin + (z - pz) * cos
            across = (x - px) * cos - (z - pz) * sin
            bend = np.maximum(1.0 - self.curvature_at(s) * across, 0.2)
            s = s + np.clip(along / bend, -2.0, 2.0)
        px, pz, sin, cos = self.pose(s, np.zeros_like(s))
        return s, (x - px) * cos - (z - pz) * sin


def make_path(config: CityConfig) -> Path:
    """Draw a centreline: pieces of constant curvature, smoothed over 14 m.

    The heading stays within about 70 degrees of the start's, so the road cannot cross itself.
    """
    rng = stream(config, 1)
    travel = config.max_speed * config.num_frames / config.fps
    # Twice the travel: oncoming traffic of the last frame starts that far out.
    count = round((_LEAD_IN + 2.0 * travel + VIEW_DISTANCE + 40.0) / STEP)
    pieces: list[np.ndarray] = []
    heading, total = 0.0, 0
    while total < count + 200:
        length = int(rng.uniform(15.0, 60.0) / STEP)
        straight = rng.random() < 0.3
        value = float(np.clip(rng.laplace(0.0, 0.0127), -_MAX_CURVATURE, _MAX_CURVATURE))
        value = 0.0 if straight else value
        if abs(heading + value * length * STEP) > _MAX_HEADING:
            value = -value
        room = (_MAX_HEADING - abs(heading)) if value * heading > 0 else 2 * _MAX_HEADING
        value = float(np.clip(value, -room / (length * STEP), room / (length * STEP)))
        heading += value * length * STEP
        pieces.append(np.full(length, value))
        total += length
    raw = np.concatenate(pieces)
    return Path(smooth(raw, round(14.0 / STEP))[:count], -_LEAD_IN)


def smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Smooth with a Hann window, by explicit sums so that no BLAS takes part."""
    window = [0.5 - 0.5 * math.cos(2 * math.pi * (k + 1) / (width + 1)) for k in range(width)]
    scale = 1.0 / sum(window)
    padded = np.pad(values, (width // 2, width - width // 2 - 1), mode="edge")
    out = np.zeros_like(values)
    for k, weight in enumerate(window):
        out += padded[k : k + len(values)] * (weight * scale)
    return out


class RoadMap:
    """A raster of (s, d) over the plane, read bilinearly.

    Within 20 m of the centreline the entries are exact; beyond, `d` is the distance to the
    nearest sample with its side's sign.
    """

    def __init__(self, path: Path) -> None:
        self.x0 = float(path.x.min()) - _MARGIN
        self.z0 = float(path.z.min()) - _MARGIN
        columns = int((float(path.x.max()) + _MARGIN - self.x0) / _CELL) + 1
        rows = int((float(path.z.max()) + _MARGIN - self.z0) / _CELL) + 1
        seeds = np.ones((rows, columns), np.uint8)
        i = np.rint((path.z - self.z0) / _CELL).astype(np.intp)
        j = np.rint((path.x - self.x0) / _CELL).astype(np.intp)
        seeds[i, j] = 0
        distance, labels = cv2.distanceTransformWithLabels(
            seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        labels = labels.astype(np.intp)
        sample_of_label = np.zeros(int(labels.max()) + 1, np.intp)
        sample_of_label[labels[i, j]] = np.arange(len(i))
        sample = sample_of_label[labels]
        s = path.start + STEP * sample
        x = self.x0 + _CELL * np.arange(columns)
        z = self.z0 + _CELL * np.arange(rows)
        across = (x[None, :] - path.x[sample]) * path.cos[sample]
        across -= (z[:, None] - path.z[sample]) * path.sin[sample]
        d = np.where(across < 0.0, -_CELL, _CELL) * distance
        near = np.nonzero(distance < _FINE_RADIUS / _CELL)
        s[near], d[near] = path.locate(x[near[1]], z[near[0]], s[near])
        self.s, self.d = s.astype(np.float32), d.astype(np.float32)

    def _position(self, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        column = (x - np.float32(self.x0)) * np.float32(1.0 / _CELL)
        row = (z - np.float32(self.z0)) * np.float32(1.0 / _CELL)
        return column, row

    def offset(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return `d` in m at N plane points, float32."""
        return remap_flat(self.d, *self._position(x, z))

    def arc_length(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return `s` in m at N plane points, float32."""
        return remap_flat(self.s, *self._position(x, z))
