"""A drive of a store, as if it were a video."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from unienc_core.data.store import DriveInfo, Store
from unienc_core.errors import StoreError, UsageError, nearest
from unienc_core.inference.frames import Frame, FrameSource, Losses, SourceInfo
from unienc_core.inference.span import WHOLE, Picker, Span


class DriveSource(FrameSource):
    """One drive of a store.

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
            path,
            chosen.name,
            height,
            width,
            rate,
            1 / rate,
            self._num_frames,
            first.get("K"),
            camera_height=recorded_height(chosen),
        )

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def frames(self, span: Span = WHOLE) -> Iterator[Frame]:
        """Deliver the drive's images in order."""
        picker = Picker(span)
        for index in range(self._num_frames):
            time = index / self.info.rate
            if picker.takes(index, time):
                image = self._store.frame(self._drive, index, ("image",))["image"]
                yield Frame(image, index, index, float(time))
            if picker.ended:
                break


def recorded_height(drive: DriveInfo) -> float | None:
    """Return the height of the camera above the ground that a drive records, m."""
    height = drive.attrs.get("camera_height")
    if isinstance(height, bool) or not isinstance(height, int | float):
        return None
    return float(height) if 0 < height < math.inf else None


def _find_drive(store: Store, path: Path, name: str | None) -> int:
    names = [drive.name for drive in store.drives]
    if not names:
        raise StoreError(f"{path}: the store holds no drive")
    if name is None:
        return 0
    if name not in names:
        raise UsageError(f"{path}: no drive '{name}'{nearest(name, names)}; it has {len(names)}")
    return names.index(name)
