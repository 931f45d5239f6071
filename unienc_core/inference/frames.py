"""Where frames come from: what every source of frames offers, whatever lies behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Self

import numpy as np

from unienc_core.inference.span import WHOLE, Span

MAX_GAPS = 1000  # a damaged film of hours must not fill the memory with its gaps


@dataclass(frozen=True)
class Frame:
    """One picture of a source.

    Attributes:
        image: `H W 3`, uint8, RGB, upright.
        index: Number of the frame in its source, from 0; in a damaged video, among those that can
            be decoded.
        pts: When it is shown, in units of the source's time base, strictly increasing.
        time: The same in seconds after the source's first frame.
        num_lost: Frames that are missing between the one delivered before and this one.
        is_damaged: Whether the decoder had to guess parts of it.
        name: What files about this frame are called, without suffix; its number by default.
        path: The file that holds this frame alone, if there is one.
    """

    image: np.ndarray
    index: int
    pts: int
    time: float
    num_lost: int = 0
    is_damaged: bool = False
    name: str = ""
    path: Path | None = None

    @property
    def stem(self) -> str:
        """Name of files about this frame."""
        return self.name or f"{self.index:06d}"


@dataclass(frozen=True)
class SourceInfo:
    """What is known of a source before it is read.

    Attributes:
        path: File, folder or store.
        name: Name for people, and stem of the output.
        height: Pixels, upright.
        width: Pixels, upright.
        rate: Mean frames a second, exact.
        time_base: Unit of `Frame.pts` in seconds, exact.
        num_frames: As stated or estimated from the duration; None when nothing is known.
        K: `3 3` intrinsics at this size in pixels, where the source knows them.
        has_audio: Whether there is sound, which nothing here takes up.
        is_still: Whether it is one picture and no film.
        is_timed: Whether the times of its frames are known, not assumed.
        camera_height: Above the ground, m, where the source knows it.
    """

    path: Path
    name: str
    height: int
    width: int
    rate: Fraction
    time_base: Fraction
    num_frames: int | None
    K: np.ndarray | None = None
    has_audio: bool = False
    is_still: bool = False
    is_timed: bool = True
    camera_height: float | None = None


@dataclass(frozen=True)
class Gap:
    """Frames that could not be read.

    Attributes:
        before: Index of the delivered frame that follows the gap (or would have).
        time: Seconds after the first frame at which the gap begins.
        num_lost: Frames in it.
    """

    before: int
    time: float
    num_lost: int


@dataclass
class Losses:
    """What a source could not deliver.

    Attributes:
        num_lost: Frames that are missing, as far as they can be counted.
        num_damaged: Frames delivered although the decoder had to guess parts of them.
        is_cut: Whether the source ends before its end.
        gaps: Where, the first 1000 places.
    """

    num_lost: int = 0
    num_damaged: int = 0
    is_cut: bool = False
    gaps: list[Gap] = field(default_factory=list)

    def add(self, before: int, time: float, num_lost: int = 1) -> None:
        """Record a gap, or lengthen the last one when no frame came since."""
        self.num_lost += num_lost
        last = self.gaps[-1] if self.gaps else None
        if last is not None and last.before == before:
            self.gaps[-1] = Gap(before, last.time, last.num_lost + num_lost)
        elif len(self.gaps) < MAX_GAPS:
            self.gaps.append(Gap(before, time, num_lost))

    @property
    def any(self) -> bool:
        """Whether anything is missing."""
        return self.is_cut or self.num_lost > 0


class FrameSource:
    """A row of frames: open it as a context, go through it once, then read its losses.

    Attributes:
        info: What is known beforehand.
        losses: What could not be delivered so far.
    """

    info: SourceInfo
    losses: Losses

    def frames(self, span: Span = WHOLE) -> Iterator[Frame]:
        """Deliver the frames of a span, in order of their time."""
        raise NotImplementedError

    def check(self) -> None:
        """Look for what is missing as far as that shows without decoding; fills `losses`."""

    def stop(self) -> None:
        """End a wait for the next frame; may be called from another thread."""

    def close(self) -> None:
        """Let go of files and devices."""

    def __iter__(self) -> Iterator[Frame]:
        """Deliver all frames in order."""
        return self.frames()

    def __enter__(self) -> Self:
        """A source is open from the beginning."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close it."""
        self.close()
