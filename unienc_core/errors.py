"""Errors that a user can act on, each with the exit code of the command line.

Exit codes: 0 ok; 1 a bug; 2 usage or preset; 3 bad input data; 4 partial success; 5 out of memory,
VRAM or disk; 6 integrity; 7 a figure beyond a threshold; 130 interrupted but resumable.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any


class UniencError(Exception):
    """Base of all errors whose message is one line: what was found, expected, and what to do."""

    exit_code = 1
    reported = False  # whether a JSON document about it is on stdout already
    told = False  # whether another process of the same run tells people
    details: Mapping[str, Any] = MappingProxyType({})  # what a JSON document says beside the line


class UsageError(UniencError):
    """The request itself makes no sense."""

    exit_code = 2


class BusyError(UsageError):
    """Another process is at it."""


class PresetError(UsageError):
    """A preset is not well formed, or an option does not fit its component."""


class WiringError(UsageError):
    """Nodes, terms and stages of a preset do not fit together."""


class ShapeError(UsageError):
    """A tensor at a public door does not have the shape that was asked for."""


class DataError(UniencError):
    """Input data is missing, unreadable or wrong."""

    exit_code = 3


class StoreError(DataError):
    """A store is missing, truncated, edited, or of an unknown version."""


class VideoError(DataError):
    """A video cannot be opened or holds no frame."""


class PartialError(UniencError):
    """Some of the work succeeded; what did not is listed in the message.

    Attributes:
        report: What the verb would have returned, for those who read it.
    """

    exit_code = 4

    def __init__(self, message: str, report: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.report = report


class ResourceError(UniencError):
    """Memory, VRAM or disk ran out, or a folder cannot be written."""

    exit_code = 5


class IntegrityError(UniencError):
    """A checkpoint does not fit or is corrupt, or training diverged."""

    exit_code = 6


class CheckpointError(IntegrityError):
    """A checkpoint is missing parts, corrupt, or of other shapes than the network."""


class ThresholdError(UniencError):
    """A figure lies beyond --fail-under or --fail-over."""

    exit_code = 7


class Interrupted(UniencError):  # noqa: N818 - it reports a state, not a fault
    """The run was stopped by a signal and saved; the same command resumes it."""

    exit_code = 130


def nearest(name: str, choices: list[str]) -> str:
    """Return ``' (did you mean X?)'`` for the choice closest to `name`, or an empty string."""
    from difflib import get_close_matches

    found = get_close_matches(name, choices, n=1, cutoff=0.5)
    return f" (did you mean '{found[0]}'?)" if found else ""


def differences(found: Any, asked: Any, where: str = "") -> Iterator[str]:
    """Yield one phrase for each leaf in which two nested values of plain data differ."""
    if isinstance(found, dict) and isinstance(asked, dict):
        for key in sorted(found.keys() | asked.keys()):
            yield from differences(found.get(key), asked.get(key), f"{where}.{key}".lstrip("."))
    elif isinstance(found, list) and isinstance(asked, list) and len(found) == len(asked):
        for index, pair in enumerate(zip(found, asked, strict=True)):
            yield from differences(*pair, f"{where}.{index}".lstrip("."))
    elif found != asked:
        yield f"{where} is {_short(found)} there, {_short(asked)} asked"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
