"""What a frozen encoder makes of a store, kept for training heads: a store of small grids.

It is a store as any other (kind `grids`), written by the same writer. Long drives are cut into
parts, so that a shard, which is built in memory, stays small. Its settings name all that decides
its numbers, and it is read only by who asks for just these.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from unienc_core.data.manifest import Attribute, KeySpec, StoreSpec
from unienc_core.data.shard_build import DrivePlan
from unienc_core.data.store import Store
from unienc_core.errors import StoreError, differences

GRID = "grid"
PREPROCESSING = "stored frame, resized, 0..1; levels averaged over cells, float16 (1)"
"""How a stored frame becomes a grid; another number wherever that changes."""

PART_BYTES = 16 << 20
"""Of a drive in one part."""

_HALF = np.dtype("float16")


class GridKey(BaseModel):
    """All that decides the numbers of a cache.

    Attributes:
        store: Digest of the store that the frames come from; it covers their crop.
        encoder: Digest of the weights and options of all that runs before the pyramid.
        pyramid: Name of the pyramid.
        image_size: (h, w) of the frames as the encoder sees them.
        channels: Of each level, finest first; a grid holds them joined.
        grid: (h, w) in cells.
        flipped: Whether the frames are mirrored first.
        preprocessing: See `PREPROCESSING`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    store: str
    encoder: str
    pyramid: str
    image_size: tuple[int, int]
    channels: tuple[int, ...]
    grid: tuple[int, int]
    flipped: bool = False
    preprocessing: str = PREPROCESSING

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(json.dumps(self.config(), sort_keys=True).encode()).hexdigest()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the grid of a frame: C, h, w."""
        return (sum(self.channels), *self.grid)

    @property
    def frame_bytes(self) -> int:
        """Bytes of the grid of a frame."""
        return int(np.prod(self.shape)) * _HALF.itemsize

    def config(self) -> dict[str, Any]:
        """Return it as the settings of a store."""
        return self.model_dump(mode="json")

    def folder(self, root: Path) -> Path:
        """Return where the cache lies among others."""
        return root / self.digest[:16]

    def spec(self, store: Store) -> StoreSpec:
        """Return what the cache of a store holds."""
        text = f"Levels of '{self.pyramid}', finest first, averaged over the cells of one grid."
        key = KeySpec(dtype=_HALF.name, shape=self.shape, description=text)
        return StoreSpec(
            kind="grids",
            source=f"grids of {store.manifest['source']}",
            split=store.manifest["split"],
            image_size=self.image_size,
            keys={GRID: key},
            fps=store.fps,
            config=self.config(),
        )

    def parts(self, store: Store) -> Iterator[DrivePlan]:
        """Yield the drives of the cache: those of the store, long ones in parts."""
        most = max(1, PART_BYTES // self.frame_bytes)
        for number, drive in enumerate(store.drives):
            for first in range(0, drive.num_frames, most):
                count = min(most, drive.num_frames - first)
                attrs: dict[str, Attribute] = {"drive": number, "first": first}
                yield DrivePlan(f"{drive.name} from {first}", count, attrs=attrs)


class GridCache:
    """The grids of a store's frames, opened for reading. May be pickled and forked.

    Args:
        folder: Of the cache.
        key: What it must hold.
        flipped: The grids of the mirrored frames, if there are any.

    Raises:
        StoreError: If it is missing, unfinished or damaged, or holds anything else.
    """

    def __init__(self, folder: Path, key: GridKey, flipped: GridCache | None = None) -> None:
        if flipped and flipped.key != key.model_copy(update={"flipped": True}):
            raise StoreError(f"{flipped.path}: holds no grids of the mirrored frames of {folder}")
        self.key, self.flipped = key, flipped
        self._store = Store(folder)
        found = self._store.manifest["config"]
        if found != key.config():
            raise StoreError(
                f"{folder}: holds other grids: {'; '.join(differences(found, key.config()))}; "
                "make them anew, or train without a cache"
            )
        self._parts: dict[int, list[tuple[int, int]]] = {}
        for number, part in enumerate(self._store.drives):
            place = (int(part.attrs["first"] or 0), number)
            self._parts.setdefault(int(part.attrs["drive"] or 0), []).append(place)

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._store.path

    @property
    def num_bytes(self) -> int:
        """Bytes on disk."""
        return self._store.num_bytes

    def window(self, drive: int, first: int, count: int) -> np.ndarray:
        """Read the grids of consecutive frames.

        Args:
            drive: Number of the drive in the store that the grids were made of.
            first: First frame.
            count: N.

        Returns:
            `N C h w` float16.

        Raises:
            DataError: If they cannot be read.
        """
        parts = self._parts[drive]
        grids = np.empty((count, *self.key.shape), _HALF)
        for row, frame in enumerate(range(first, first + count)):
            begin, part = parts[bisect_right(parts, frame, key=lambda place: place[0]) - 1]
            grids[row] = self._store.frame(part, frame - begin, (GRID,))[GRID]
        return grids

    def close(self) -> None:
        """Close all files; reading opens them again."""
        self._store.close()
        if self.flipped:
            self.flipped.close()
