"""Measurements that are no pictures: brought to the times of frames, cleaned, and judged.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unienc_core.data.manifest import KeySpec
from unienc_core.data.steering import (
    STEERING_KINDS,
    Side,
    SteeringKind,
    Vehicle,
    check_conversion,
    conversion_words,
    convert,
    steering_spec,
)
from unienc_core.errors import DataError, UsageError

MAX_GAP = 0.5
"""Longest time, in s, from one measurement to the next, and from one frame of a drive to the next,
unless another is asked for."""

MAX_BEYOND = 0.01
"""Share of labels beyond the bound of their unit that are faults of the measurement; more mean
another unit."""

_SPIKE_WINDOW = 5


def interpolate(
    at: np.ndarray, times: np.ndarray, values: np.ndarray, max_gap: float
) -> np.ndarray:
    """Return a measurement at other times, linearly between its neighbours.

    Args:
        at: `n`, where it is wanted.
        times: `m`, where it was made, not decreasing.
        values: `m`; those that are not finite were not made.
        max_gap: Neighbours further apart say nothing of what lies between them.

    Returns:
        `n` float64; NaN where there is no measurement before and after, near enough.
    """
    made = np.isfinite(values)
    times, values = times[made], np.asarray(values, np.float64)[made]
    if not len(times):
        return np.full(len(at), np.nan)
    after = np.clip(np.searchsorted(times, at), 0, len(times) - 1)
    before = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 1)
    inside = (at >= times[0]) & (at <= times[-1]) & (times[after] - times[before] <= max_gap)
    return np.where(inside, np.interp(at, times, values), np.nan)


def without_spikes(values: np.ndarray, threshold: float) -> np.ndarray:
    """Return values with those unknown that leap off their neighbours and back.

    A value further than `threshold` from the median of the five around it is such a spike; a step
    stays where it is, since the median follows it.

    Args:
        values: `n`, NaN where unknown.
        threshold: In the unit of the values.
    """
    reach = _SPIKE_WINDOW // 2
    known = np.flatnonzero(np.isfinite(values))
    if len(known) < _SPIKE_WINDOW:
        return values
    padded = np.pad(values[known], reach, mode="reflect")
    middle = np.median(np.lib.stride_tricks.sliding_window_view(padded, _SPIKE_WINDOW), axis=1)
    out = np.array(values, np.float64)
    out[known[np.abs(values[known] - middle) > threshold]] = np.nan
    return out


@dataclass(frozen=True)
class LabelRequest:
    """What is wanted of the labels of a set.

    Attributes:
        label: Kind to store; None for that of the files.
        vehicle: Turns wheel angles into curvature and back.
        outlier: Values further than this from their neighbours, in the unit of the files, are
            faults; 0 keeps them all, None is the usual threshold of the unit.
        max_gap: See `MAX_GAP`.
    """

    label: str | None = None
    vehicle: Vehicle = Vehicle()
    outlier: float | None = None
    max_gap: float = MAX_GAP

    def __post_init__(self) -> None:
        """Check every setting."""
        if self.label is not None and self.label not in STEERING_KINDS:
            raise UsageError(f"no label '{self.label}'; labels are {', '.join(STEERING_KINDS)}")
        if not 0 < self.max_gap < 1e6 or not 0 <= (self.outlier or 0.0) < 1e9:
            raise UsageError(
                f"longest gap {self.max_gap:g} s, outlier threshold {self.outlier}: expected more "
                "than 0, and 0 or more"
            )


class Labels:
    """Labels of one set on their way into a store: cleaned, judged by their bounds, converted.

    Args:
        found: Kind that the files hold.
        request: What is wanted.
        source: What they come from, in words.
        positive: The side that is positive in the files.
    """

    def __init__(
        self, found: str, request: LabelRequest, source: str, positive: Side = "left"
    ) -> None:
        self.found, self._request = STEERING_KINDS[found], request
        self.key = request.label or found
        check_conversion(found, self.key, request.vehicle)
        self._sign = 1.0 if positive == "left" else -1.0
        negated = "" if positive == "left" else ", negated"
        words = conversion_words(found, self.key, request.vehicle)
        self.spec: KeySpec = steering_spec(self.key, f"{source}{negated}{words}")
        self._spikes = self._beyond = self._count = 0
        self._largest: list[float] = []

    def clean(self, values: np.ndarray) -> np.ndarray:
        """Return measurements as they are in the files with spikes unknown."""
        threshold = self.found.spike if self._request.outlier is None else self._request.outlier
        if not threshold:
            return values
        cleaned = without_spikes(values, threshold)
        self._spikes += int(np.isfinite(values).sum() - np.isfinite(cleaned).sum())
        return cleaned

    def finish(self, values: np.ndarray, where: str | Path) -> np.ndarray:
        """Return cleaned values as labels of the store, float32, left positive.

        Raises:
            DataError: If none is known, or too many lie beyond what their unit allows.
        """
        known = np.abs(values[np.isfinite(values)])
        if not len(known):
            raise DataError(f"{where}: no frame has a label")
        beyond = known > self.found.bound * (1 + 1e-6)
        if beyond.mean() > MAX_BEYOND:
            raise DataError(
                f"{where}: {beyond.mean():.0%} of the labels lie beyond {_bounds(self.found)} (up "
                f"to {known.max():.4g}): they are of another unit"
            )
        self._beyond += int(beyond.sum())
        self._count += len(known)
        self._largest.append(float(np.quantile(known, 0.99)))
        inside = np.where(np.abs(values) > self.found.bound * (1 + 1e-6), np.nan, values)
        labels = convert(self._sign * inside, self.found.name, self.key, self._request.vehicle)
        return (labels + 0.0).astype(np.float32)  # no -0

    def remarks(self) -> list[str]:
        """Say what was left out, and what looks odd."""
        lines: list[str] = []
        kind = self.found
        if self._spikes:
            lines.append(f"{self._spikes} labels leap off their neighbours and are unknown")
        if self._beyond:
            lines.append(f"{self._beyond} labels beyond {_bounds(kind)} are unknown")
        if self._largest and max(self._largest) < kind.least:
            lines.append(
                f"99% of the labels lie within +-{max(self._largest):.3g} {kind.unit}: a straight "
                "road, or another unit"
            )
        return lines


def _bounds(kind: SteeringKind) -> str:
    return f"+-{kind.bound:.4g} {kind.unit}"


def check_increasing(times: np.ndarray, where: str | Path) -> None:
    """Check that times are finite and do not decrease.

    Raises:
        DataError: If not, naming the first place.
    """
    bad = ~np.isfinite(times)
    bad[1:] |= np.diff(times) < 0
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"{where}: time {times[row]} of entry {row}, expected times that increase")
