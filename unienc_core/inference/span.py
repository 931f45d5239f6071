"""Which frames of a source are taken: from where, to where, and every how many."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from unienc_core.errors import UsageError

Moment = int | Fraction
"""A frame number (int), or seconds after the first frame (Fraction)."""

_SECONDS = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s")
_CLOCK = re.compile(r"(?:([0-9]{1,4}):)?([0-9]{1,4}):([0-9]{1,2}(?:\.[0-9]{1,9})?)")
_NUMBER = re.compile(r"[0-9]{1,12}")


def parse_moment(text: str, option: str) -> Moment:
    """Read ``250`` (a frame number), ``12.5s``, ``1:30`` or ``1:02:03.5``.

    Args:
        text: What the user gave.
        option: Where, for the error.

    Raises:
        UsageError: If it is none of these.
    """
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return int(text)
    if seconds := _SECONDS.fullmatch(text):
        return Fraction(seconds[1])
    if clock := _CLOCK.fullmatch(text):
        hours, minutes = int(clock[1] or 0), int(clock[2])
        return 3600 * hours + 60 * minutes + Fraction(clock[3])
    raise UsageError(
        f"{option} '{text}': expected a frame number like 250, or a time like 12.5s or 1:30"
    )


@dataclass(frozen=True)
class Span:
    """Frames from `start` until just before `stop`, every `stride`-th of them.

    Attributes:
        start: First moment.
        stop: Moment at which nothing is taken any more; None for the end.
        stride: 1 for every frame.

    Raises:
        UsageError: If it can hold no frame.
    """

    start: Moment = 0
    stop: Moment | None = None
    stride: int = 1

    def __post_init__(self) -> None:
        comparable = isinstance(self.start, int) == isinstance(self.stop, int)
        if self.stop is not None and (self.stop <= 0 or (comparable and self.stop <= self.start)):
            raise UsageError("--stop must lie after --start")
        if self.stride < 1:
            raise UsageError(f"--stride {self.stride}: expected 1 or more")

    @property
    def from_start(self) -> bool:
        """Whether it begins with the first frame there is."""
        return self.start == 0

    def expected(self, num_frames: int | None, rate: Fraction) -> int | None:
        """Return how many frames it holds of so many at an even rate, if that can be told."""
        stop = None if self.stop is None else _frame_at(self.stop, rate)
        ends = [end for end in (stop, num_frames) if end is not None]
        if not ends:
            return None
        return max(0, -(-(min(ends) - _frame_at(self.start, rate)) // self.stride))


WHOLE = Span()


class Picker:
    """Says of each frame of a source, asked in order, whether a span takes it.

    Attributes:
        started: Whether the span has begun.
        ended: Whether it is over: no later frame will be taken.
    """

    def __init__(self, span: Span) -> None:
        self._span = span
        self._passed = 0
        self.started = self.ended = False

    def takes(self, index: int, time: Fraction) -> bool:
        """Tell whether the frame of this number and time, in seconds, is taken."""
        start, stop = self._span.start, self._span.stop
        if stop is not None and (index if isinstance(stop, int) else time) >= stop:
            self.ended = True
        if self.ended or (index if isinstance(start, int) else time) < start:
            return False
        self.started = True
        self._passed += 1
        return (self._passed - 1) % self._span.stride == 0


def _frame_at(moment: Moment, rate: Fraction) -> int:
    """The first frame that is not before a moment, at an even rate."""
    return moment if isinstance(moment, int) else math.ceil(moment * rate)
