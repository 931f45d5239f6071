"""Where frames come from: what every source of frames offers, whatever lies behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from unienc_core.data.store import Store
from unienc_core.errors import StoreError, UsageError, nearest

MAX_GAPS = 1000  # a damaged film of hours must not fill the memory with its gaps


@dataclass(frozen=True)
class Frame:
    """One picture of a source.

    Attributes:
        image: `H W 3`, uint8, RGB, upright.
        index: Number of the frame among those delivered, from 0.
        pts: When it is shown, in units of the source's time base, strictly increasing.
        time: The same in seconds after the first frame.
    """

    image: np.ndarray
    index: int
    pts: int
    time: float


@dataclass(frozen=True)
class SourceInfo:
    """What is known of a source before it is read.

    Attributes:
        path: File or store.
        name: Name for people, and stem of the output.
        height: Pixels, upright.
        width: Pixels, upright.
        rate: Mean frames a second, exact.
        time_base: Unit of `Frame.pts` in seconds, exact.
        num_frames: As stated or estimated from the duration; None when nothing is known.
        K: `3 3` intrinsics at this size in pixels, where the source knows them.
    """

    path: Path
    name: str
    height: int
    width: int
    rate: Fraction
    time_base: Fraction
    num_frames: int | None
    K: np.ndarray | None = None


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
        is_cut: Whether the file ends before its end.
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


class FrameSource(Protocol):
    """A finite row of frames: open it as a context, iterate once, then read its losses."""

    @property
    def info(self) -> SourceInfo:
        """What is known beforehand."""
        ...

    @property
    def losses(self) -> Losses:
        """What could not be delivered so far."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def __iter__(self) -> Iterator[Frame]:
        """Deliver the frames in order."""
        ...


class DriveSource:
    """One drive of a store, as if it were a video.

    Args:
        path: The store's folder.
        drive: Name of the drive; the first one by default.

    Raises:
        StoreError: The store cannot be read or holds no frame.
        UsageError: It has no drive of that name.
    """

    def __init__(self, path: Path, drive: str | None = None) -> None:
        self._store = Store(path)
        self._drive = _find_drive(self._store, path, drive)
        chosen = self._store.drives[self._drive]
        self._num_frames = chosen.num_frames
        if not self._num_frames:
            raise StoreError(f"{path}: drive '{chosen.name}' holds no frame")
        keys = ("image", "K") if "K" in self._store.keys else ("image",)
        first = self._store.frame(self._drive, 0, keys)
        height, width = first["image"].shape[:2]
        rate = Fraction(self._store.fps).limit_denominator(1001)
        self.losses = Losses()
        self.info = SourceInfo(
            path, chosen.name, height, width, rate, 1 / rate, self._num_frames, first.get("K")
        )

    def __enter__(self) -> Self:
        """Nothing to open: the store's handles are lazy."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the store."""
        self._store.close()

    def __iter__(self) -> Iterator[Frame]:
        """Deliver the drive's images in order."""
        for index in range(self._num_frames):
            image = self._store.frame(self._drive, index, ("image",))["image"]
            yield Frame(image, index, index, float(index / self.info.rate))


def _find_drive(store: Store, path: Path, name: str | None) -> int:
    names = [drive.name for drive in store.drives]
    if not names:
        raise StoreError(f"{path}: the store holds no drive")
    if name is None:
        return 0
    if name not in names:
        raise UsageError(f"{path}: no drive '{name}'{nearest(name, names)}; it has {len(names)}")
    return names.index(name)
