"""What a check of data found: a place, what is wrong there, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Literal

Severity = Literal["finding", "warning"]

_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or, as a warning, worth knowing.

    Attributes:
        check: Name of the check that found it.
        place: Store, drive or file.
        what: What is there, and what was expected.
        remedy: What to do about it.
        severity: Whether the data are wrong (`finding`) or may be as they should (`warning`).
    """

    check: str
    place: str
    what: str
    remedy: str
    severity: Severity = "finding"

    def record(self) -> dict[str, str]:
        """Return it as plain data."""
        return asdict(self)

    def line(self) -> str:
        """Return it as one line of text."""
        return f"{self.place}: {self.what}; {self.remedy}"


@dataclass
class Notes:
    """Faults of the frames of one drive: many frames with one fault are one finding.

    Attributes:
        place: The drive.
    """

    place: str
    _frames: dict[tuple[str, str, str, Severity], list[int]] = field(default_factory=dict)

    def add(
        self,
        check: str,
        frames: int | Iterable[int],
        what: str,
        remedy: str,
        severity: Severity = "finding",
    ) -> None:
        """Note a fault of one frame or several; equal texts are joined.

        Args:
            check: Name of the check.
            frames: Their numbers in the drive; none is no fault.
            what: What is wrong with each.
            remedy: What to do about it.
            severity: See `Finding`.
        """
        numbers = [frames] if isinstance(frames, int) else [int(frame) for frame in frames]
        if numbers:
            self._frames.setdefault((check, what, remedy, severity), []).extend(numbers)

    def __iter__(self) -> Iterator[Finding]:
        """Yield one finding per fault, naming its first frames."""
        for (check, what, remedy, severity), frames in self._frames.items():
            text = f"{what} ({name_frames(frames)})"
            yield Finding(check, self.place, text, remedy, severity)


def name_frames(frames: list[int]) -> str:
    """Return ``frame 3`` or ``frames 3, 4, 5 and 20 more``."""
    first = ", ".join(str(frame) for frame in frames[:_SHOWN])
    more = f" and {len(frames) - _SHOWN} more" if len(frames) > _SHOWN else ""
    return f"frame{'s' if len(frames) > 1 else ''} {first}{more}"
