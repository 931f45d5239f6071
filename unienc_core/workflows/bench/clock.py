"""Timing on a machine that is never quiet: sides take turns, medians stand with their spread."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

from unienc_core.contracts import Progress, ProgressCallback, no_progress

Side = Callable[[], object]


@dataclass(frozen=True)
class Samples:
    """Values of equal things measured again and again, in the order of the rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The value in the middle."""
        return float(median(self.values))

    @property
    def quartiles(self) -> tuple[float, float]:
        """The values between which the middle half lies."""
        low, high = np.percentile(self.values, [25, 75])
        return float(low), float(high)

    @property
    def spread(self) -> float:
        """Distance of the quartiles as a share of the median: how much noise there was."""
        low, high = self.quartiles
        return (high - low) / self.median if self.median else 0.0

    def over(self, other: Samples) -> Samples:
        """Return the ratio to `other`, round by round, so that slow moments cancel."""
        return Samples(tuple(a / b for a, b in zip(self.values, other.values, strict=True)))

    def record(self, factor: float = 1.0, digits: int = 4) -> dict[str, float | int]:
        """Return median, quartiles and count, JSON-able, each value times `factor`."""
        low, high = self.quartiles
        return {
            "median": round(self.median * factor, digits),
            "low": round(low * factor, digits),
            "high": round(high * factor, digits),
            "rounds": len(self.values),
        }


@dataclass(frozen=True)
class Pace:
    """How long to measure.

    Attributes:
        seconds: Time for all sides together; the rounds that fit into it are made.
        min_rounds: Rounds made in any case.
        max_rounds: Rounds that suffice.
    """

    seconds: float
    min_rounds: int
    max_rounds: int


QUICK = Pace(seconds=0.5, min_rounds=2, max_rounds=4)
THOROUGH = Pace(seconds=15.0, min_rounds=5, max_rounds=40)


def take_turns(
    sides: Mapping[str, Side],
    pace: Pace,
    device: torch.device | None = None,
    progress: ProgressCallback = no_progress,
    task: str = "measure",
) -> dict[str, Samples]:
    """Time all sides in turn, round after round, in shuffled order.

    Whatever else the machine does meets all sides alike: A B B A ... in one process. Each side
    runs once before, untimed: caches, allocators and lazily built kernels.

    Args:
        sides: What to time, by name.
        pace: How long.
        device: Where the work runs; a CUDA device is waited for.
        progress: Told of each round.
        task: What to call it there.

    Returns:
        Seconds of each side.
    """
    for run in sides.values():
        timed(run, device)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    began, order, draw = time.perf_counter(), list(sides), random.Random(0)
    for done in range(1, pace.max_rounds + 1):
        draw.shuffle(order)
        for name in order:
            seconds[name].append(timed(sides[name], device))
        progress(Progress(task, done, None, "round"))
        if done >= pace.min_rounds and time.perf_counter() - began > pace.seconds:
            break
    return {name: Samples(tuple(values)) for name, values in seconds.items()}


def timed(run: Side, device: torch.device | None = None) -> float:
    """Return the seconds of one call, all its work on the device included."""
    synchronize(device)
    began = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - began


def synchronize(device: torch.device | None) -> None:
    """Wait until a CUDA device has done what it was given; on others there is nothing to wait."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
