"""A recording: the pictures of one camera in the order of time, with a label a frame.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from unienc_core.data.resample import Size
from unienc_core.data.sets.pictures import picture_size, read_picture
from unienc_core.errors import DataError


class Pictures(Protocol):
    """The pictures of a recording, read in order."""

    @property
    def separate(self) -> bool:
        """Whether one that cannot be read says nothing of those after it."""
        ...

    def size(self) -> Size:
        """Return (h, w).

        Raises:
            DataError: If none can be read.
        """
        ...

    def read(self, positions: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield pictures, `H W 3` uint8 RGB, at ascending positions of the recording.

        Raises:
            DataError: If the next one cannot be read.
        """
        ...

    def name(self, position: int) -> str:
        """Return what a picture is called in errors."""
        ...


@dataclass(frozen=True)
class PictureFiles:
    """Pictures that are files.

    Attributes:
        folder: They lie in.
        names: Relative to it, in the order of time.
    """

    folder: Path
    names: tuple[str, ...]

    @property
    def separate(self) -> bool:
        """Whether one that cannot be read says nothing of those after it."""
        return True

    def size(self) -> Size:
        """Return (h, w) of the first that has one."""
        first: DataError | None = None
        for name in self.names:
            try:
                return picture_size(self.folder / name)
            except DataError as error:
                first = first or error
        raise first or DataError(f"{self.folder}: no picture")

    def read(self, positions: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield pictures at these positions."""
        for position in positions:
            yield read_picture(self.folder / self.names[position])

    def name(self, position: int) -> str:
        """Return the path of a picture."""
        return str(self.folder / self.names[position])


@dataclass(frozen=True)
class Recording:
    """Frames of one camera in the order of time, gaps and all.

    Attributes:
        name: Shared by cameras that filmed at once.
        pictures: `n`.
        times: `n`, s.
        columns: Keys to values of each frame, `n`: the label, perhaps the speed.
        cuts: Positions before which something is missing, whatever the times say.
        camera: Which, where there are several.
        part: Of a recording that comes in several, whose times go on from one to the next.
        K: `3 3`, px, of the pictures on disk, where it is known.
    """

    name: str
    pictures: Pictures
    times: np.ndarray
    columns: Mapping[str, np.ndarray]
    cuts: frozenset[int] = frozenset()
    camera: str = ""
    part: str = ""
    K: np.ndarray | None = None

    @property
    def label(self) -> str:
        """What it is called in a store and in reports."""
        return "_".join(filter(None, (self.name, self.part, self.camera)))

    def digest(self) -> bytes:
        """Return what identifies its times, labels, and the order of its pictures."""
        found = hashlib.sha256(repr((self.label, sorted(self.cuts))).encode())
        for name in sorted(self.columns):
            found.update(name.encode() + np.ascontiguousarray(self.columns[name]).tobytes())
        found.update(np.ascontiguousarray(self.times).tobytes())
        for position in range(len(self.times)):
            found.update(Path(self.pictures.name(position)).name.encode())
        return found.digest()

    def pieces(self, max_gap: float, most: int) -> list[range]:
        """Return the rows of frames without a gap, none longer than `most`."""
        steps = np.diff(self.times)
        starts = set(np.flatnonzero((steps > max_gap) | (steps <= 0)) + 1) | self.cuts
        edges = [0, *sorted(int(n) for n in starts if 0 < n < len(self.times)), len(self.times)]
        rows = (range(a, b) for a, b in pairwise(edges))
        return [row[n : n + most] for row in rows for n in range(0, len(row), most)]
