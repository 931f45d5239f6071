"""Decoded pictures in order of time, with a count of those that never came."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

MAX_LATE = 8
_REMEMBERED = 256


class Arrival(NamedTuple, Generic[T]):
    """A picture whose turn has come.

    Attributes:
        picture: What the decoder gave.
        pts: Its time; None where the decoder does not know it.
        num_lost: Pictures that are missing directly before it.
    """

    picture: T
    pts: int | None
    num_lost: int


class Reorder(Generic[T]):
    """Compares the pictures that packets announce with those that the decoder hands out.

    A decoder hands out pictures in order of time until it meets damage; then some come a few
    pictures late. So where earlier ones are still expected, a picture waits, until they come or
    `MAX_LATE` pictures wait. What comes later still is dropped: it has been counted as lost.
    """

    def __init__(self) -> None:
        self._expected: list[int] = []
        self._held: list[tuple[int, int, T]] = []
        self._given_up: deque[int] = deque(maxlen=_REMEMBERED)
        self._number = 0

    def expect(self, pts: int) -> None:
        """Take the time of a picture that a packet announces."""
        heapq.heappush(self._expected, pts)

    def take(self, picture: T, pts: int) -> Iterator[Arrival[T]]:
        """Take a picture from the decoder and yield all whose turn has come."""
        if pts in self._given_up:
            return
        self._number += 1
        heapq.heappush(self._held, (pts, self._number, picture))
        yield from self._release(MAX_LATE)

    def drain(self) -> Iterator[Arrival[T]]:
        """Yield the pictures that still wait, after the last one was taken."""
        yield from self._release(0)

    @property
    def num_outstanding(self) -> int:
        """Pictures announced that neither came nor were given up."""
        return len(self._expected)

    def _release(self, most: int) -> Iterator[Arrival[T]]:
        while self._held:
            pts = self._held[0][0]
            in_turn = not self._expected or self._expected[0] >= pts
            if not in_turn and len(self._held) <= most:
                return
            picture = heapq.heappop(self._held)[2]
            lost = 0
            while self._expected and self._expected[0] <= pts:
                announced = heapq.heappop(self._expected)
                if announced < pts:
                    self._given_up.append(announced)
                    lost += 1
            yield Arrival(picture, pts, lost)
