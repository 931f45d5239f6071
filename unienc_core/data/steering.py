"""Kinds of steering labels, each with its unit, and how one becomes another.

A label says in its key what it is, and in the unit of its declaration how it is counted; left is
positive in all of them. NaN means that nothing is known: the car stands, or a measurement is
missing. A path has labels ahead of the car, too: ``curvature_5m`` is its curvature 5 m further on.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unienc_core.data.keys import STANDARD_KEYS
from unienc_core.data.manifest import KeySpec
from unienc_core.data.store import DriveInfo
from unienc_core.errors import UsageError

CURVATURE, WHEEL_DEG, WHEEL_RAD = "curvature", "steering_wheel_deg", "steering_wheel_rad"
COMMAND = "steering_unit"

Side = Literal["left", "right"]

MAX_LOOK_AHEAD = 100.0
_AHEAD = re.compile(rf"{CURVATURE}_(\d+(?:\.\d+)?)m", re.ASCII)


@dataclass(frozen=True)
class SteeringKind:
    """A way to count steering.

    Attributes:
        name: The key in a store.
        unit: Of its values.
        bound: No value of a car's is greater.
        least: A recording whose values all stay below is counted in another unit.
        edges: Of the bins of its histogram, on both sides of 0.
        spike: A value further than this from its neighbours is a fault of the measurement; None
            where steps are real.
    """

    name: str
    unit: str
    bound: float
    least: float
    edges: tuple[float, float, float]
    spike: float | None


STEERING_KINDS: dict[str, SteeringKind] = {
    kind.name: kind
    for kind in (
        SteeringKind(CURVATURE, "1/km", bound=500.0, least=0.05, edges=(5, 15, 60), spike=50.0),
        SteeringKind(WHEEL_DEG, "deg", bound=1000.0, least=1.0, edges=(5, 20, 90), spike=60.0),
        SteeringKind(WHEEL_RAD, "rad", bound=17.5, least=0.01, edges=(0.1, 0.4, 1.5), spike=1.0),
        SteeringKind(COMMAND, "-1..1", bound=1.0, least=0.0, edges=(0.1, 0.3, 0.9), spike=None),
    )
}
"""Circles of less than 2 m and wheels of nearly three turns are none of a car's; a spike of the
wheel would be 1,200 degrees a second at 20 Hz. The bins of curvature are those of Lechner et al."""


def ahead_key(metres: float) -> str:
    """Return the key of the curvature this far ahead along the path; 0 is at the car.

    Raises:
        UsageError: If that is behind the car, or out of sight.
    """
    if not 0 <= metres <= MAX_LOOK_AHEAD:
        raise UsageError(f"a look-ahead of {metres:g} m, expected 0 to {MAX_LOOK_AHEAD:g}")
    return CURVATURE if metres == 0 else f"{CURVATURE}_{metres:g}m"


def look_ahead_of(key: str) -> float:
    """Return how many metres ahead of the car the label of a key lies; 0 for those at the car."""
    found = _AHEAD.fullmatch(key)
    return float(found[1]) if found else 0.0


def kind_of(key: str) -> SteeringKind | None:
    """Return what a key of a store counts steering in; None if it is no steering label."""
    return STEERING_KINDS.get(CURVATURE if _AHEAD.fullmatch(key) else key)


def steering_keys(keys: Iterable[str]) -> list[str]:
    """Return the steering labels among the keys of a store, curvature at the car first."""
    order = list(STEERING_KINDS)
    found = [key for key in keys if kind_of(key)]
    return sorted(found, key=lambda k: (order.index(_name(k)), look_ahead_of(k)))


def _name(key: str) -> str:
    kind = kind_of(key)
    assert kind is not None
    return kind.name


def steering_spec(key: str, provenance: str | None = None) -> KeySpec:
    """Declare a steering label.

    Args:
        key: Name of a kind, or a curvature ahead.
        provenance: Where it comes from, and what it was converted with.
    """
    spec, metres = STANDARD_KEYS[_name(key)], look_ahead_of(key)
    if metres:
        text = f"Path curvature {metres:g} m ahead along the path, left positive."
        spec = spec.model_copy(update={"description": text})
    return spec.model_copy(update={"provenance": provenance})


def recording_of(drive: DriveInfo) -> tuple[str, float]:
    """Return which recording a drive was cut from, and when in it the drive begins, in s."""
    name, start = drive.attrs.get("recording"), drive.attrs.get("start")
    if not isinstance(name, str):
        return drive.name, 0.0
    return name, float(start) if isinstance(start, int | float) else 0.0


@dataclass(frozen=True)
class Vehicle:
    """What turns the angle of a steering wheel into a path.

    Attributes:
        steering_ratio: Angle of the steering wheel over that of the front wheels.
        wheelbase: Between the axles, m.
    """

    steering_ratio: float | None = None
    wheelbase: float | None = None

    def __post_init__(self) -> None:
        """Check what is given."""
        for name, value, least, most in (
            ("steering ratio", self.steering_ratio, 1, 50),
            ("wheelbase", self.wheelbase, 0.1, 20),
        ):
            if value is not None and not least <= value <= most:
                raise UsageError(f"a {name} of {value:g}, expected {least:g} to {most:g}")

    def describe(self) -> str:
        """Return it as words for a provenance."""
        return f"steering ratio {self.steering_ratio:g}, wheelbase {self.wheelbase:g} m"

    def curvature(self, wheel: np.ndarray) -> np.ndarray:
        """Return the curvature, 1/km, of the path that a wheel angle in rad holds.

        tan(delta) = L y (a bicycle), wheel = ratio x delta.
        """
        ratio, length = self._known()
        return 1000.0 * np.tan(wheel / ratio) / length

    def wheel(self, curvature: np.ndarray) -> np.ndarray:
        """Return the angle of the steering wheel, rad, on a path of a curvature in 1/km."""
        ratio, length = self._known()
        return ratio * np.arctan(length * curvature / 1000.0)

    def _known(self) -> tuple[float, float]:
        if self.steering_ratio is None or self.wheelbase is None:
            raise UsageError(
                "curvature and wheel angle are one only for a known car: give both "
                "--steering-ratio and --wheelbase"
            )
        return self.steering_ratio, self.wheelbase


def convert(values: np.ndarray, found: str, wanted: str, vehicle: Vehicle) -> np.ndarray:
    """Return labels of one kind as another.

    Args:
        values: Labels, NaN where unknown.
        found: Kind they are of.
        wanted: Kind to return.
        vehicle: The car.

    Raises:
        UsageError: If there is no way from one to the other.
    """
    if found == wanted:
        return values
    check_conversion(found, wanted, vehicle)
    if {found, wanted} == {WHEEL_DEG, WHEEL_RAD}:
        return np.radians(values) if wanted == WHEEL_RAD else np.degrees(values)
    if wanted == CURVATURE:
        return vehicle.curvature(np.radians(values) if found == WHEEL_DEG else values)
    wheel = vehicle.wheel(values)
    return wheel if wanted == WHEEL_RAD else np.degrees(wheel)


def check_conversion(found: str, wanted: str, vehicle: Vehicle) -> None:
    """Check that labels of one kind can become another.

    Raises:
        UsageError: If not.
    """
    if wanted not in STEERING_KINDS:
        raise UsageError(f"no label '{wanted}'; labels are {', '.join(STEERING_KINDS)}")
    if found == wanted:
        return
    if COMMAND in (found, wanted):
        raise UsageError(
            f"labels of the kind {found} cannot become {wanted}: what a command of -1..1 does is "
            "not known"
        )
    if CURVATURE in (found, wanted):
        (vehicle.wheel if found == CURVATURE else vehicle.curvature)(np.zeros(1))


def conversion_words(found: str, wanted: str, vehicle: Vehicle) -> str:
    """Return how labels came to be of a kind, for a provenance; empty where nothing was done."""
    if found == wanted:
        return ""
    through = f" with {vehicle.describe()}" if CURVATURE in (found, wanted) else ""
    return f", from {found}{through}"
