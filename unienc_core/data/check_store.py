"""One shard of a store, looked through once, frame by frame.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unienc_core.data.check_pictures import is_grey, picture_digest, useless
from unienc_core.data.check_values import (
    check_coverage,
    check_intrinsics,
    check_map,
    check_poses,
    check_scalars,
    check_steering,
    check_times,
)
from unienc_core.data.findings import Finding, Notes
from unienc_core.data.manifest import DriveRecord, ShardRecord, StoreSpec
from unienc_core.data.picture_motion import STANDING, apparent_motion, small_picture
from unienc_core.data.shard_read import Shard, check_hash, check_size
from unienc_core.data.steering import kind_of
from unienc_core.errors import DataError, StoreError

MANY_STANDING = 0.2
_RESTORE = "restore the file, or repeat prepare-data, which makes damaged shards again"
_LEAVE_OUT = "leave these frames out of the source and prepare the store again"


@dataclass(frozen=True)
class DriveCheck:
    """What is known of a drive that was looked through.

    Attributes:
        name: Of the drive.
        num_frames: That could be read.
        digests: Of its pictures that show something, in order.
        static_share: Share of its pairs of target and source between which the camera stands;
            None where there is no such pair.
    """

    name: str
    num_frames: int
    digests: tuple[bytes, ...]
    static_share: float | None

    @property
    def digest(self) -> bytes:
        """Of all pictures in order: equal for drives of equal pictures, whatever their names."""
        return hashlib.blake2b(b"".join(self.digests), digest_size=16).digest()


@dataclass
class ShardCheck:
    """What was found in a shard."""

    findings: list[Finding] = field(default_factory=list)
    drives: list[DriveCheck] = field(default_factory=list)


def check_shard(folder: Path, record: ShardRecord, spec: StoreSpec) -> ShardCheck:
    """Check a shard: its bytes against the manifest, then every value of every frame.

    A shard whose bytes do not fit is not read: what it holds is not what was written.
    """
    result, path = ShardCheck(), folder / record.file
    try:
        check_size(path, record)
        check_hash(path, record)
        shard = Shard(path, record, spec.keys)
        shard.check()
    except StoreError as error:
        result.findings.append(_from_error(error, str(path)))
        return result
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        result.findings.append(Finding("integrity", str(path), what, _RESTORE))
        return result
    try:
        for number, drive in enumerate(record.drives):
            notes = Notes(f"{folder}, drive {drive.name}")
            result.drives.append(_DriveReader(shard, number, drive, spec, notes).check())
            result.findings += notes
    finally:
        shard.close()
    return result


def _from_error(error: StoreError, place: str) -> Finding:
    text, _, remedy = str(error).removeprefix(f"{place}: ").rpartition("; ")
    return Finding("integrity", place, text or remedy, remedy if text else _RESTORE)


class _DriveReader:
    """One drive while it is looked through."""

    def __init__(
        self, shard: Shard, number: int, drive: DriveRecord, spec: StoreSpec, notes: Notes
    ) -> None:
        self._shard, self._number, self._drive = shard, number, drive
        self._spec, self._notes = spec, notes
        self._digests: list[bytes] = []
        self._seen: set[bytes] = set()
        self._recent: deque[np.ndarray] = deque(maxlen=spec.gap)
        self._num_read = self._num_grey = self._pairs = self._standing = 0
        self._coverage: dict[str, list[float]] = {}

    def check(self) -> DriveCheck:
        """Check everything and return what is known of the drive."""
        self._check_columns()
        for frame in range(self._drive.num_frames):
            self._check_frame(frame)
        notes, drive = self._notes, self._drive
        for name, shares in self._coverage.items():
            check_coverage(name, shares, notes)
        share = self._standing / self._pairs if self._pairs else None
        if share is not None and share > MANY_STANDING:
            what = f"the camera stands in {share:.0%} of its pairs of frames"
            self._warn("static", what, "leave these frames out: they teach no depth")
        if self._num_read and self._num_grey == self._num_read:
            self._warn("grey", "all pictures are grey", "expected where the camera is")
        if self._spec.kind == "drives" and not drive.num_triplets:
            what = f"{drive.num_frames} frames hold no triplet of gap {self._spec.gap}"
            self._warn("triplets", what, "longer drives or a smaller gap would")
        return DriveCheck(drive.name, self._num_read, tuple(self._digests), share)

    def _warn(self, check: str, what: str, remedy: str) -> None:
        self._notes.add(check, range(self._drive.num_frames), what, remedy, "warning")

    def _check_columns(self) -> None:
        """Check what is small enough to be read for all frames at once."""
        keys, notes = self._spec.keys, self._notes
        small = [name for name, key in keys.items() if not {"H", "W"} & set(key.shape)]
        columns = {name: self._shard.column(self._number, name) for name in small}
        times = np.arange(self._drive.num_frames) / self._spec.fps
        if "timestamp" in columns and check_times(columns["timestamp"], notes):
            times = columns["timestamp"]
        for name, values in columns.items():
            if keys[name].role == "intrinsics":
                check_intrinsics(values, self._drive.image_size, notes)
            elif keys[name].role == "pose":
                check_poses(values, times, notes)
            elif kind_of(name):
                check_steering(name, values, notes)
            elif values.dtype.kind == "f":
                check_scalars(name, values, notes)

    def _check_frame(self, frame: int) -> None:
        for name, key in self._spec.keys.items():
            if not {"H", "W"} <= set(key.shape):
                continue
            try:
                value = self._shard.read(self._number, frame, name)
            except DataError:
                self._notes.add("unreadable", frame, f"{name} cannot be decoded", _RESTORE)
                continue
            if key.role == "image":
                self._check_image(name, value, frame)
                continue
            share = check_map(name, key, value, frame, self._notes)
            if key.invalid is not None:
                self._coverage.setdefault(name, []).append(share)

    def _check_image(self, name: str, image: np.ndarray, frame: int) -> None:
        fault = useless(image)
        if fault:
            self._notes.add("useless", frame, f"{name} {fault}", _LEAVE_OUT)
        if name != "image":
            return
        self._num_grey += is_grey(image)
        self._num_read += 1
        if not fault:  # nothing is learnt from two black pictures being equal
            digest = picture_digest(image)
            if digest in self._seen:
                what = f"{name} is the very picture of an earlier frame"
                self._notes.add("repeated", frame, what, _LEAVE_OUT)
            self._seen.add(digest)
            self._digests.append(digest)
        if self._spec.kind == "drives":
            small = small_picture(image)
            if len(self._recent) == self._spec.gap:
                self._pairs += 1
                self._standing += apparent_motion(self._recent[0], small) < STANDING
            self._recent.append(small)
