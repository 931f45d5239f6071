"""How busy each stage of a pipeline is."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from typing import TypeVar

T = TypeVar("T")


class StageClock:
    """Adds up the time that stages work, without the time they wait for each other.

    A stage is an iterable that reads another one: ``working`` is put around it, ``waiting``
    around what it reads. Each stage has a thread of its own.
    """

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._busy: dict[str, float] = {}

    def working(self, stage: str, items: Generator[T]) -> Generator[T]:
        """Iterate `items` and count the time they take."""
        self._busy[stage] = 0.0
        return self._count(stage, items, 1.0)

    def waiting(self, stage: str, items: Generator[T]) -> Generator[T]:
        """Iterate `items` inside of a stage and do not count the time they take."""
        return self._count(stage, items, -1.0)

    def report(self) -> dict[str, dict[str, float]]:
        """Return the seconds each stage worked, and as a share of the time since the start."""
        whole = time.perf_counter() - self._began
        return {
            stage: {"seconds": round(busy, 4), "share": round(busy / whole, 4)}
            for stage, busy in self._busy.items()
        }

    def _count(self, stage: str, items: Generator[T], sign: float) -> Generator[T]:
        with closing(items):
            while True:
                began = time.perf_counter()
                try:
                    item = next(items)
                except StopIteration:
                    return
                finally:
                    self._busy[stage] += sign * (time.perf_counter() - began)
                yield item
