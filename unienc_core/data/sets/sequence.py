"""The frames of a run: pictures of one camera in order, with what else is known of each.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from unienc_core.data.manifest import Attribute
from unienc_core.data.resample import Size
from unienc_core.data.sets.pictures import View, picture_size, read_picture
from unienc_core.data.sets.runs import LEAST_RUN
from unienc_core.data.sets.standing import StandingWatch
from unienc_core.data.shard_build import Frame
from unienc_core.data.unreadable import reading
from unienc_core.errors import DataError

MIN_DISTANCE = 0.1
"""Targets nearer than this, in m, to one of their sources are left out: the camera stands."""

MAX_DRIVE_PIXELS = 256 << 20
"""Of all pictures of a drive; longer runs are cut, since a drive is built in memory. At 192x640
these are 2,184 frames, so that the sequences of the odometry protocol stay whole."""

MOST_LABELLED = 100
"""Images of a drive of a labelled store: they keep the size they have on disk."""


def most_frames(image_size: Size) -> int:
    """Return how many frames of this size (h, w) a drive may have."""
    return max(LEAST_RUN, MAX_DRIVE_PIXELS // (image_size[0] * image_size[1]))


def common_size(pictures: Sequence[Path]) -> Size:
    """Return (h, w) of the first picture that has one; a damaged one says nothing of the others.

    Raises:
        DataError: If none has, naming the first.
    """
    first: DataError | None = None
    for path in pictures:
        try:
            return picture_size(path)
        except DataError as error:
            first = first or error
    raise first or DataError("no picture")


class SequenceFrames:
    """Pictures of a run as frames of a store: `image`, `K`, `timestamp` and further columns.

    Args:
        pictures: Files in the order of time.
        view: How a picture becomes that of the store.
        K: `3 3`, px, of the pictures on disk.
        times: Of each picture, s after the first frame.
        columns: Further keys, first axis frames.
        min_motion: Least apparent motion between pictures, in widths, where no pose tells it; 0
            counts none as standing.
        others: Positions of frames that are sources only, for a list says which are targets.
        attrs: Plain values to be kept with the drive: its recording, and when in it it begins.
    """

    def __init__(
        self,
        pictures: Sequence[Path],
        view: View,
        K: np.ndarray,
        times: np.ndarray,
        columns: Mapping[str, np.ndarray] | None = None,
        *,
        min_motion: float = 0.0,
        others: Collection[int] = (),
        attrs: Mapping[str, Attribute] | None = None,
    ) -> None:
        self.attrs: dict[str, Attribute] = dict(attrs or {})
        self._pictures, self._view, self._K = pictures, view, view.K(K)
        self._columns = {"timestamp": np.asarray(times, np.float64), **(columns or {})}
        self._watch = StandingWatch(min_motion)
        self._others = frozenset(others)

    @property
    def standing(self) -> frozenset[int]:
        """Positions of the frames that are no targets; known when all frames were given."""
        return self._others | self._watch.standing

    def __iter__(self) -> Iterator[Frame]:
        for position, path in enumerate(self._pictures):
            with reading(position):
                image = self._view.image(read_picture(path), str(path))
            self._watch.add(image)
            row = {name: np.asarray(values[position]) for name, values in self._columns.items()}
            yield {"image": image, "K": self._K, **row}
