"""Reading a store: manifest and shards, opened lazily, safe across processes."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unienc_core.data.manifest import (
    MANIFEST_NAME,
    Attribute,
    DriveRecord,
    KeySpec,
    KeyStats,
    read_manifest,
)
from unienc_core.data.shard_read import Shard, check_hash, check_size
from unienc_core.data.triplets import targets_at_gap, triplet_index
from unienc_core.errors import DataError, StoreError, nearest

MAX_OPEN_SHARDS = 64

_inherited: list[Any] = []
"""Handles a fork left us: never used and never closed, since closing acts on shared state."""


@dataclass(frozen=True)
class DriveInfo:
    """A drive as users see it.

    Attributes:
        name: Unique in the store.
        num_frames: Consecutive frames.
        split: Split of the store.
        attrs: Plain values kept with the drive.
        image_size: Height and width.
        num_triplets: Entries of its triplet index.
        stats: Range of each key that is not an image.
    """

    name: str
    num_frames: int
    split: str
    attrs: dict[str, Attribute]
    image_size: tuple[int, int]
    num_triplets: int
    stats: dict[str, KeyStats] = field(repr=False)


class Store:
    """A store opened for reading. May be pickled, forked and shared by threads.

    Opening reads the manifest and looks at the sizes of the shards. What is in a shard is opened
    when it is first asked for, and checked then: a damaged one is a `StoreError` of that call.

    Args:
        path: Its folder.
        verify: Hash every shard against the manifest and check what is in it, too.

    Raises:
        StoreError: If it is missing, unfinished, truncated, edited, or of another version.
    """

    def __init__(self, path: Path | str, *, verify: bool = False) -> None:
        self.path = Path(path)
        self._manifest = read_manifest(self.path)
        if not self._manifest.complete:
            done = sum(len(shard.drives) for shard in self._manifest.shards)
            raise StoreError(
                f"{self.path}: unfinished store ({done} drives so far); "
                "repeat the prepare-data command, which goes on where it stopped"
            )
        self.drives = [
            _drive_info(drive, self._manifest.spec.split)
            for shard in self._manifest.shards
            for drive in shard.drives
        ]
        self._place = [
            (shard, number)
            for shard, record in enumerate(self._manifest.shards)
            for number in range(len(record.drives))
        ]
        self._open: OrderedDict[int, Shard] = OrderedDict()
        self._lock, self._pid = threading.Lock(), os.getpid()
        for record in self._manifest.shards:
            check_size(self.path / record.file, record)
        if verify:
            self._verify()

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest as plain data: that of the store, with the fields of its spec on top."""
        raw = self._manifest.model_dump(mode="json")
        return {**raw.pop("spec"), **raw}

    @property
    def keys(self) -> dict[str, KeySpec]:
        """Name to declaration of what every frame holds."""
        return dict(self._manifest.spec.keys)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of a drive that does not say otherwise."""
        return self._manifest.spec.image_size

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self._manifest.spec.fps

    @property
    def gap(self) -> int:
        """Frames between a target and each of its sources in the stored triplet index."""
        return self._manifest.spec.gap

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, and so of all data: two stores with equal digests are equal."""
        return self._manifest.digest

    @property
    def num_frames(self) -> int:
        """Frames of all drives."""
        return sum(drive.num_frames for drive in self.drives)

    @property
    def num_bytes(self) -> int:
        """Bytes of all shards."""
        return sum(shard.bytes for shard in self._manifest.shards)

    def require(self, keys: Iterable[str]) -> None:
        """Check that the store declares all of `keys`.

        Raises:
            DataError: If not, naming what it holds.
        """
        for key in keys:
            if key not in self._manifest.spec.keys:
                known = sorted(self._manifest.spec.keys)
                raise DataError(
                    f"{self.path}: store holds no '{key}'{nearest(key, known)}; "
                    f"it holds {', '.join(known)}"
                )

    def frame(self, drive: int, index: int, keys: Iterable[str]) -> dict[str, np.ndarray]:
        """Read a frame; threads may do so side by side, and decode at the same time.

        Args:
            drive: Position in `drives`.
            index: Frame within the drive.
            keys: What to read; images come decoded, `H W 3` uint8 RGB.

        Raises:
            DataError: If a key is not declared, or the frame cannot be decoded.
        """
        keys = tuple(keys)
        with self._lock:  # another thread could close the shard
            opened, number = self._find(drive, index, keys)
            stored = {key: opened.stored(number, index, key) for key in keys}
        return {key: opened.decoded(number, index, key, data) for key, data in stored.items()}

    def encoded(self, drive: int, index: int, key: str) -> np.ndarray:
        """Read the bytes of an image as they are stored: a PNG or JPEG file, uint8.

        Raises:
            DataError: If the key is not declared or no image, or the frame cannot be read.
        """
        with self._lock:
            opened, number = self._find(drive, index, (key,))
            if not self._manifest.spec.keys[key].encoded:
                raise DataError(f"{self.path}: '{key}' is no image, so it has no bytes of a file")
            return opened.stored(number, index, key)

    def column(self, drive: int, key: str) -> np.ndarray:
        """Read a key of all frames of a drive (poses, speeds), first axis frames."""
        self.require([key])
        if self._manifest.spec.keys[key].encoded:
            raise DataError(f"{self.path}: '{key}' holds images, read it frame by frame")
        shard, number = self._place[drive]
        with self._lock:
            return self._shard(shard).column(number, key)

    def triplets(self, gap: int | None = None) -> np.ndarray:
        """List the triplets: sources are the frames `gap` before and after the target.

        Frames that were found standing when the store was made are targets at no gap.

        Args:
            gap: None for the stored index; another gap is worked out by the same rule.

        Returns:
            `n 2` int64: drive, target frame.
        """
        gap = self.gap if gap is None else gap
        parts = [np.empty((0, 2), np.int64)]
        for drive in range(len(self.drives)):
            targets = self._targets(drive, gap).astype(np.int64)
            parts.append(np.stack((np.full_like(targets, drive), targets), axis=1))
        return np.concatenate(parts)

    def close(self) -> None:
        """Close all files; reading opens them again."""
        while self._open:
            self._open.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict(), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock(), _pid=os.getpid())

    def _targets(self, drive: int, gap: int) -> np.ndarray:
        """Return the targets of a drive."""
        spec, info = self._manifest.spec, self.drives[drive]
        possible = triplet_index(info.num_frames, spec.gap)[:, 1]
        stored = possible[: info.num_triplets]  # where these are all or none, nothing is opened
        if 0 < info.num_triplets < len(possible):
            shard, number = self._place[drive]
            with self._lock:
                stored = self._shard(shard).triplets(number)[:, 1]
        if gap == spec.gap:
            return stored
        by_pose = "T_world_camera" in spec.keys and spec.min_motion > 0
        centres = self.column(drive, "T_world_camera")[:, :3, 3] if by_pose else None
        return targets_at_gap(gap, stored, spec.gap, info.num_frames, centres, spec.min_motion)

    def _verify(self) -> None:
        """Check the structure and the bytes of every shard."""
        for index, record in enumerate(self._manifest.shards):
            self._shard(index).check()
            check_hash(self.path / record.file, record)

    def _find(self, drive: int, index: int, keys: tuple[str, ...]) -> tuple[Shard, int]:
        """Return the shard of a frame that exists, and the drive's number in it."""
        self.require(keys)
        count = self.drives[drive].num_frames
        if not 0 <= index < count:
            raise IndexError(f"frame {index} of drive {self.drives[drive].name}, which has {count}")
        shard, number = self._place[drive]
        return self._shard(shard), number

    def _shard(self, index: int) -> Shard:
        if self._pid != os.getpid():
            _inherited.append(self._open)
            self._open, self._pid = OrderedDict(), os.getpid()
        shard = self._open.get(index)
        if shard is None:
            record = self._manifest.shards[index]
            shard = Shard(self.path / record.file, record, self._manifest.spec.keys)
            self._open[index] = shard
            if len(self._open) > MAX_OPEN_SHARDS:
                self._open.popitem(last=False)[1].close()
        else:
            self._open.move_to_end(index)
        return shard


def _drive_info(drive: DriveRecord, split: str) -> DriveInfo:
    return DriveInfo(
        name=drive.name,
        num_frames=drive.num_frames,
        split=split,
        attrs=dict(drive.attrs),
        image_size=drive.image_size,
        num_triplets=drive.num_triplets,
        stats=dict(drive.stats),
    )


def is_store(path: Path) -> bool:
    """Say whether a folder has a store's manifest."""
    return (path / MANIFEST_NAME).is_file()


def resolve_store(path: Path | str, split: str) -> Path:
    """Find a store: the folder itself, or its subfolder for a split.

    ``prepare-data`` writes one store per split into its folder, so training verbs ask for `train`
    and evaluators for `val`, and both also take the folder of one store.

    Raises:
        DataError: If the folder does not exist.
        StoreError: If there is no store, naming those that are there.
    """
    path = Path(path)
    if is_store(path):
        return path
    if is_store(path / split):
        return path / split
    if not path.exists():
        raise DataError(f"{path}: no such folder; make a store with 'unienc prepare-data'")
    others = sorted(p.name for p in path.iterdir() if is_store(p)) if path.is_dir() else []
    found = f"it holds {', '.join(others)}" if others else f"no {MANIFEST_NAME} in it"
    raise StoreError(f"{path}: neither a store nor a folder with a store '{split}'; {found}")
