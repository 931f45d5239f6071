"""Stopping politely: a signal is noted, the loop ends its step and saves."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopFlag:
    """While entered, SIGTERM and SIGINT are noted instead of killing; a second one kills.

    A terminal or a cluster signals the whole process group, and data loading workers die of it.
    Their death, which torch would raise in the middle of whatever runs, is expected from then on.

    Attributes:
        number: Of the signal that came, or 0.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopFlag:
        """Take over the signals (only the main thread of a process can)."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in _SIGNALS}
            for number in _SIGNALS:
                signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the signals back."""
        self._give_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self._give_back()
        signal.signal(signal.SIGCHLD, _expected)

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
        self._before = {}


def _expected(number: int, frame: FrameType | None) -> None:
    """Take the death of a worker as it comes."""
