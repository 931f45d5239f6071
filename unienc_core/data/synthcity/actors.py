"""What moves or is parked, and the proof that nothing runs into anything."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from unienc_core.data.synthcity.config import CityConfig, stream
from unienc_core.data.synthcity.drive import Drive
from unienc_core.data.synthcity.parts import PartList
from unienc_core.data.synthcity.path import Path
from unienc_core.data.synthcity.street import KERB_HEIGHT, PARKING_WIDTH, Street
from unienc_core.data.synthcity.vehicles import Kind, build, draw_kind

CLEARANCE = 0.12
"""Least free space between two footprints, m."""

EGO_HALF = (2.3, 0.95)
"""Half length and half width of the camera's own car, which is never drawn."""


@dataclass
class Footprints:
    """Oriented rectangles on the ground over all frames.

    Attributes:
        poses: One `F 4` (x, z, sine, cosine of the heading) per footprint.
        halves: Half length and half width of each, m.
    """

    poses: list[np.ndarray] = field(default_factory=list)
    halves: list[tuple[float, float]] = field(default_factory=list)

    def add(self, pose: np.ndarray, half: tuple[float, float]) -> None:
        """Record a footprint."""
        self.poses.append(pose)
        self.halves.append(half)

    def is_free(self, pose: np.ndarray, half: tuple[float, float]) -> bool:
        """Return whether a rectangle stays clear of all recorded ones at every frame."""
        if not self.poses:
            return True
        poses, halves = np.stack(self.poses), np.array(self.halves)
        dx, dz = pose[:, 0] - poses[:, :, 0], pose[:, 1] - poses[:, :, 1]
        reach = half[0] + half[1] + halves[:, 0] + halves[:, 1] + CLEARANCE
        close = np.flatnonzero((dx * dx + dz * dz).min(axis=1) < reach * reach)
        grown = (half[0] + CLEARANCE, half[1] + CLEARANCE)
        return not overlaps(poses[close], halves[close], pose, grown).any()


def overlaps(
    poses: np.ndarray, halves: np.ndarray, pose: np.ndarray, half: tuple[float, float]
) -> np.ndarray:
    """Test rectangles against one by the separating axis theorem.

    Args:
        poses: `N F 4` x, z, sine and cosine of the heading.
        halves: `N 2` half length and half width, m.
        pose: `F 4` of the one.
        half: Its half length and half width, m.

    Returns:
        `N F` bool, whether they overlap.
    """
    dx, dz = pose[:, 0] - poses[..., 0], pose[:, 1] - poses[..., 1]
    sin, cos = poses[..., 2], poses[..., 3]
    sin_b, cos_b = pose[:, 2], pose[:, 3]
    # Absolute cosine and sine of the angle between the two.
    c, s = np.abs(sin * sin_b + cos * cos_b), np.abs(cos * sin_b - sin * cos_b)
    length, width = halves[:, :1], halves[:, 1:]
    apart = np.abs(dx * sin + dz * cos) > length + half[0] * c + half[1] * s
    apart |= np.abs(dx * cos - dz * sin) > width + half[0] * s + half[1] * c
    apart |= np.abs(dx * sin_b + dz * cos_b) > half[0] + length * c + width * s
    apart |= np.abs(dx * cos_b - dz * sin_b) > half[1] + length * s + width * c
    return ~apart


@dataclass
class Cast:
    """Everything that has a pose.

    Attributes:
        poses: One `F 4` per actor; actor 0 is the world itself.
        moving: Whether each moves faster than 0.2 m/s.
        footprints: Of the ego car, all actors but 0, and street furniture.
        names: Recipe name of each actor.
        halves: Half length and half width of each actor.
    """

    poses: list[np.ndarray]
    moving: list[bool]
    footprints: Footprints
    names: list[str]
    halves: list[tuple[float, float]]


class Casting:
    """Places actors one by one where there is room."""

    def __init__(
        self, config: CityConfig, path: Path, street: Street, drive: Drive, parts: PartList
    ) -> None:
        self._rng = stream(config, 4)
        self._path, self._street, self._parts = path, street, parts
        self._times = drive.timestamp
        self._drive = drive
        self._traffic = config.traffic
        self._end = float(drive.s[-1]) + 150.0
        # On a long drive small differences of speed would close any gap.
        self._patience = max(1.0, float(drive.timestamp[-1]) / 4.0)
        world = np.tile([0.0, 0.0, 0.0, 1.0], (config.num_frames, 1))
        self.cast = Cast([world], [False], Footprints(), ["world"], [(0.0, 0.0)])
        ego = np.stack(path.pose(drive.s, np.full_like(drive.s, drive.d)), axis=1)
        # The camera sits about a metre ahead of the middle of its car.
        ego[:, 0] -= ego[:, 2]
        ego[:, 1] -= ego[:, 3]
        self.cast.footprints.add(ego, EGO_HALF)

    def try_place(
        self,
        kind: Kind,
        s: float,
        d: float,
        rates: tuple[float, float],
        turn: tuple[float, float],
        *,
        lift: float = 0.0,
        ridden: bool = True,
    ) -> bool:
        """Add an actor if it stays on the path and free of all others.

        Args:
            kind: Recipe and size.
            s: Arc length at the first frame, m.
            d: Offset at the first frame, m.
            rates: Change of s and d, m/s.
            turn: Cosine and sine of its heading against the road's.
            lift: Height of the ground below it, m.
            ridden: Whether a two-wheeler carries a rider.
        """
        along, across = s + rates[0] * self._times, d + rates[1] * self._times
        low, high = self._path.start + 1.0, self._path.end - 1.0
        if min(along[0], along[-1]) < low or max(along[0], along[-1]) > high:
            return False
        x, z, sin, cos = self._path.pose(along, across)
        pose = np.stack(
            [x, z, sin * turn[0] + cos * turn[1], cos * turn[0] - sin * turn[1]], axis=1
        )
        half = (kind.half_length, kind.half_width)
        if not self.cast.footprints.is_free(pose, half):
            return False
        self.cast.footprints.add(pose, half)
        self.cast.poses.append(pose)
        self.cast.moving.append(abs(rates[0]) + abs(rates[1]) > 0.2)
        self.cast.names.append(kind.name)
        self.cast.halves.append(half)
        self._parts.lift = lift
        build(self._parts, self._rng, kind, len(self.cast.poses) - 1, ridden)
        self._parts.lift = 0.0
        return True

    def traffic(self) -> None:
        """Place what drives: lanes of both directions and two-wheelers near the kerb."""
        rng, street = self._rng, self._street
        for lane in range(street.lanes):
            d = (lane + 0.5) * street.lane_width
            if self._traffic > 0:
                self._lane(d, 1.0, float(rng.uniform(10.0, 70.0)))
                self._lane(-d, -1.0, float(rng.uniform(0.0, 60.0)))
        for _ in range(round(rng.uniform(1.0, 5.5) * self._traffic * self._end / 170.0)):
            side = 1.0 if rng.random() < 0.6 else -1.0
            name = "bicycle" if rng.random() < 0.68 else "motorcycle"
            speed = rng.uniform(3.0, 6.0) if name == "bicycle" else rng.uniform(6.0, 11.0)
            d = side * (street.lanes * street.lane_width - rng.uniform(0.25, 0.4))
            s = float(rng.uniform(4.0, self._end - 95.0))
            heading = (side, 0.0)
            self.try_place(draw_kind(rng, name), s, d, (side * float(speed), 0.0), heading)

    def _lane(self, d: float, sense: float, first: float) -> None:
        """Fill a lane; vehicles keep their distance because they share a speed, roughly."""
        rng = self._rng
        mean = float(self._drive.speed.mean())
        speed = float(rng.uniform(6.0, 13.0))
        if abs(d - self._drive.d) < 0.5:  # the ego lane: keep near the camera's speed
            speed = mean + float(rng.uniform(-1.0, 2.0)) / self._patience
        reach = speed * float(self._times[-1]) if sense < 0 else 0.0
        s = first
        while s < self._end + reach:
            name = str(rng.choice(["car", "van", "truck", "bus", "train"], p=_VEHICLES[sense]))
            kind = draw_kind(rng, name)
            v = speed + float(rng.uniform(-0.3, 0.3)) / self._patience
            jitter = d + float(rng.uniform(-0.15, 0.15))
            self.try_place(kind, s + kind.half_length, jitter, (sense * v, 0.0), (sense, 0.0))
            s += 2 * kind.half_length + float(rng.uniform(18.0, 90.0)) / self._traffic

    def parked(self) -> None:
        """Fill the parking strips."""
        rng, street = self._rng, self._street
        if not street.parking:
            return
        for side in (-1.0, 1.0):
            s = self._path.start + 2.0
            fill = float(rng.uniform(0.25, 0.75))
            while s < self._end:
                name = str(rng.choice(["car", "van", "truck", "motorcycle"], p=_PARKED))
                kind = draw_kind(rng, name)
                slot = 2 * kind.half_length + float(rng.uniform(0.5, 1.4))
                middle = s + slot / 2
                clear = all(abs(middle - c) > 4.0 + slot / 2 for c in street.crossings)
                if clear and rng.random() < fill:
                    d = side * (street.half_width - PARKING_WIDTH / 2 + float(rng.uniform(0, 0.1)))
                    sense = side if rng.random() < 0.9 else -side
                    turn = (sense, float(rng.uniform(-0.02, 0.02)))
                    self.try_place(kind, middle, d, (0.0, 0.0), _unit(turn), ridden=False)
                s += slot

    def people(self) -> None:
        """Place pedestrians on the pavements and crossings."""
        rng, street = self._rng, self._street
        for c in street.crossings:
            if not 3.0 < c < self._end:
                continue
            for _ in range(int(rng.integers(0, 1 + round(4 * self._traffic)))):
                sense = 1.0 if rng.random() < 0.5 else -1.0
                s = c + float(rng.uniform(-1.3, 1.3))
                d = float(rng.uniform(-street.half_width, street.half_width))
                speed = sense * float(rng.uniform(0.9, 1.6))
                self.try_place(draw_kind(rng, "person"), s, d, (0.0, speed), (0.0, sense))
        length = self._end
        for _ in range(round(length * float(rng.uniform(0.10, 0.24)))):
            side = 1.0 if rng.random() < 0.5 else -1.0
            s = float(rng.uniform(0.0, length))
            d = side * float(rng.uniform(street.half_width + 1.0, street.outer - 0.5))
            walking = rng.random() < 0.65 and self._traffic > 0
            sense = 1.0 if rng.random() < 0.5 else -1.0
            speed = sense * float(rng.uniform(0.8, 1.7)) if walking else 0.0
            turn = (sense, 0.0) if walking else _unit(tuple(rng.uniform(-1, 1, 2).tolist()))
            kind = draw_kind(rng, "person")
            self.try_place(kind, s, d, (speed, 0.0), turn, lift=KERB_HEIGHT)


_VEHICLES = {1.0: [0.77, 0.13, 0.05, 0.05, 0.0], -1.0: [0.76, 0.12, 0.045, 0.045, 0.03]}
_PARKED = [0.80, 0.10, 0.04, 0.06]


def _unit(v: tuple[float, float]) -> tuple[float, float]:
    norm = float(np.sqrt(v[0] * v[0] + v[1] * v[1])) or 1.0
    return v[0] / norm, v[1] / norm
