"""One shard: a group of drives as the bytes of an HDF5 file, built in memory.

HDF5 cannot survive a failing write (a full disk ends in a segmentation fault when the file is
closed), and its files are unreadable after a kill. So a shard is built in memory, hashed, and
written aside by plain file operations. Equal frames give equal bytes: no times, no free space.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from unienc_core.data.codecs import encode_image
from unienc_core.data.manifest import (
    FORMAT,
    VERSION,
    Attribute,
    DriveRecord,
    KeySpec,
    KeyStats,
    ShardRecord,
    StoreSpec,
)
from unienc_core.data.triplets import triplet_index
from unienc_core.errors import DataError
from unienc_core.files import write_atomic

MAX_SHARD_BYTES = 2 << 30
"""A shard is built in memory; longer drives must be cut into several."""

LIBVER = ("v110", "v110")
"""Checksummed metadata, readable since HDF5 1.10."""
GZIP_LEVEL = 4

Frame = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class DrivePlan:
    """A drive to be written.

    Attributes:
        name: Unique in the store.
        num_frames: How many frames are expected, if known (progress, disk estimate).
        image_size: (h, w), or None for that of the store.
        attrs: Plain values kept with the drive (the seed of its world, ...).
    """

    name: str
    num_frames: int | None = None
    image_size: tuple[int, int] | None = None
    attrs: dict[str, Attribute] = field(default_factory=dict)


FrameSource = Callable[[DrivePlan], Iterable[Frame]]
"""Frames of a drive in order; picklable when several workers are used. What it returns may have
two attributes that are known only when all frames were given: `attrs`, plain values kept with the
drive, and `standing`, positions (from 0) of frames that must not be targets: the picture hardly
differs from that of a neighbour, or a list of targets does not name them. They are stored like the
others, as sources, and `Store.triplets` gives them at no gap; that the camera moves less than the
spec's `min_motion`, where there are poses, needs no mark."""


def shard_name(index: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{index:05d}.h5"


def write_shard(
    folder: Path, index: int, spec: StoreSpec, plans: Iterable[DrivePlan], source: FrameSource
) -> ShardRecord:
    """Build one shard, write it aside, fsync, rename, and return its record.

    Raises:
        DataError: If a frame does not fit the declared keys.
        OSError: If the file cannot be written.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=LIBVER) as file:
        set_attrs(file, {"format": FORMAT, "version": VERSION, "source": spec.source})
        drives = tuple(_write_drive(file, n, spec, p, source) for n, p in enumerate(plans))
    content = buffer.getvalue()
    write_atomic(folder / shard_name(index), content)
    digest = hashlib.sha256(content).hexdigest()
    return ShardRecord(file=shard_name(index), bytes=len(content), sha256=digest, drives=drives)


def drive_group(number: int) -> str:
    """Return the HDF5 group of the drive with this number within its shard."""
    return f"drive-{number:05d}"


def set_attrs(node: Any, attrs: Mapping[str, Any]) -> None:
    """Set attributes, text at fixed length: a damaged heap of free-length text hangs HDF5."""
    for name, value in attrs.items():
        if isinstance(value, str):
            length = max(1, len(value.encode()))
            node.attrs.create(name, value, dtype=h5py.string_dtype("utf-8", length))
        else:
            node.attrs[name] = value


def _write_drive(
    file: h5py.File, number: int, spec: StoreSpec, plan: DrivePlan, source: FrameSource
) -> DriveRecord:
    size = plan.image_size or spec.image_size
    group = file.create_group(drive_group(number))
    set_attrs(group, {"name": plan.name, "image_size": size, "fps": spec.fps})
    columns = {name: _Column(group, name, key, size) for name, key in spec.keys.items()}
    count, filled = 0, 0
    frames = source(plan)
    for frame in frames:
        _check_frame(frame, columns, f"{plan.name}, frame {count}")
        filled += sum(column.append(frame[name]) for name, column in columns.items())
        count += 1
        if filled > MAX_SHARD_BYTES:
            raise DataError(f"drive {plan.name} is larger than {MAX_SHARD_BYTES} bytes; cut it")
    if count == 0:
        raise DataError(f"drive {plan.name} has no frames")
    if plan.num_frames not in (None, count):
        raise DataError(f"drive {plan.name} gave {count} frames, expected {plan.num_frames}")
    for column in columns.values():
        column.close()
    poses = columns.get("T_world_camera")
    positions = np.stack(poses.frames)[:, :3, 3] if poses and poses.frames else None
    triplets = np.empty((0, 3), np.int32)
    if spec.kind == "drives":
        triplets = triplet_index(count, spec.gap, positions, spec.min_motion)
        triplets = triplets[~np.isin(triplets[:, 1], list(getattr(frames, "standing", ())))]
    index = group.create_dataset("triplets", data=triplets, track_times=False)
    what = "Previous, target and next frame of each triplet."
    set_attrs(index, {"unit": "frame", "description": what})
    return DriveRecord(
        name=plan.name,
        num_frames=count,
        num_triplets=len(triplets),
        image_size=size,
        attrs={**plan.attrs, **getattr(frames, "attrs", {})},
        stats={n: c.stats.record() for n, c in columns.items() if not c.key.encoded},
    )


def _check_frame(frame: Frame, columns: Mapping[str, _Column], where: str) -> None:
    if frame.keys() != columns.keys():
        missing, extra = columns.keys() - frame.keys(), frame.keys() - columns.keys()
        raise DataError(f"{where}: missing keys {sorted(missing)}, undeclared {sorted(extra)}")
    for name, column in columns.items():
        value = frame[name]
        if value.dtype != column.dtype or value.shape != column.shape:
            raise DataError(
                f"{where}: {name} is {value.dtype} {value.shape}, "
                f"declared as {column.dtype} {column.shape}"
            )


class _Column:
    """One key of one drive while it is written."""

    def __init__(self, group: h5py.Group, name: str, key: KeySpec, size: tuple[int, int]) -> None:
        self.group, self.name, self.key = group, name, key
        self.dtype, self.shape = np.dtype(key.dtype), key.frame_shape(size)
        self.frames: list[np.ndarray] = []
        self.stats = _Stats(key.invalid)
        self._rows = None
        if key.encoding == "gzip":
            self._rows = group.create_dataset(
                name,
                shape=(0, *self.shape),
                maxshape=(None, *self.shape),
                chunks=(1, *self.shape),
                dtype=self.dtype,
                compression="gzip",
                compression_opts=GZIP_LEVEL,
                shuffle=True,
                track_times=False,
            )

    def append(self, value: np.ndarray) -> int:
        """Take the next frame; return about how many bytes it needs."""
        if self.key.encoded:
            data = encode_image(value, self.key.encoding)  # type: ignore[arg-type]
            self.frames.append(data)
            return data.nbytes
        self.stats.add(value)
        if self._rows is None:
            self.frames.append(np.array(value))
            return value.nbytes
        count = self._rows.shape[0]
        self._rows.resize(count + 1, axis=0)
        self._rows[count] = value
        return value.nbytes // 4

    def close(self) -> None:
        """Write what was kept, and what the key means."""
        if self.key.encoded:
            target: Any = self.group.create_group(self.name)
            ends = np.cumsum([0, *(len(data) for data in self.frames)], dtype=np.uint64)
            flat = np.concatenate(self.frames)
            target.create_dataset("bytes", data=flat, track_times=False)
            target.create_dataset("offsets", data=ends, track_times=False)
        elif self._rows is None:
            rows = np.stack(self.frames)
            target = self.group.create_dataset(self.name, data=rows, track_times=False)
        else:
            target = self._rows
        key = self.key
        text = {"unit": key.unit, "encoding": key.encoding, "description": key.description}
        set_attrs(target, text)


class _Stats:
    """Running range of the valid values of a key."""

    def __init__(self, invalid: float | None) -> None:
        self.invalid = invalid
        self.low, self.high, self.total = np.inf, -np.inf, 0.0
        self.valid, self.count = 0, 0

    def add(self, value: np.ndarray) -> None:
        """Take one frame."""
        values = value if self.invalid is None else value[value != self.invalid]
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            values = values[np.isfinite(values)]
        self.count += value.size
        self.valid += values.size
        if values.size:
            self.low = min(self.low, float(values.min()))
            self.high = max(self.high, float(values.max()))
            self.total += float(values.sum(dtype=np.float64))

    def record(self) -> KeyStats:
        """Return the range so far."""
        if not self.valid:
            return KeyStats(min=None, max=None, mean=None, valid=0.0)
        mean = self.total / self.valid
        return KeyStats(min=self.low, max=self.high, mean=mean, valid=self.valid / self.count)
