"""Writing a store: shards aside and renamed, then recorded; resumable, parallel, one writer.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from unienc_core.data.manifest import (
    Attribute,
    DriveRecord,
    Manifest,
    ShardRecord,
    StoreSpec,
    write_manifest,
)
from unienc_core.data.shard_build import DrivePlan, Frame, FrameSource, shard_name
from unienc_core.data.store_folder import (
    clear_store,
    estimate_bytes,
    existing_manifest,
    remove_leftovers,
    resource_error,
)
from unienc_core.data.unreadable import Written, write_drives
from unienc_core.data.worker_pool import InlinePool, Pool
from unienc_core.errors import BusyError, ResourceError
from unienc_core.files import require_space, sha256_file

Groups = Sequence[Sequence[DrivePlan]]
Part = tuple["StoreWriter", Groups, FrameSource]
"""A store, the drives of its shards, and what gives their frames."""
Done = Callable[[Written], None]

_PATIENCE = 20
"""A manifest that takes long to write is written so many times as rarely, and not after each shard:
that of a whole Cityscapes takes a third of a second, for 640 shards."""

_QUICK = 0.02
"""Seconds that are never too long."""


class StoreWriter:
    """A store being written: a context that holds its lock and, left in peace, completes it.

    Opening the same store again goes on where it stopped: shards that are recorded and whole are
    kept, all else is made again. A complete and whole store is left as it is. A process that is
    killed may lose the shards of the last few seconds.

    Args:
        path: Folder of the store, made if absent.
        spec: What it is to hold.
        force: Remove an existing store of other content instead of refusing it.

    Raises:
        UsageError: If the folder holds another store (what differs is named), something that is no
            store, or is being written by another process.
        ResourceError: If the folder cannot be written.
    """

    def __init__(self, path: Path | str, spec: StoreSpec, *, force: bool = False) -> None:
        self.path, self.spec = Path(path), spec
        self._called = 0
        self._due = 0.0
        self._lock = self._take_lock()
        try:
            remove_leftovers(self.path)
            self._records = self._finished(force)
        except BaseException as error:
            os.close(self._lock)
            if isinstance(error, OSError):
                raise resource_error(error, self.path, 0) from error
            raise

    @property
    def finished(self) -> dict[int, ShardRecord]:
        """Shard number to record, of the shards that are written and whole."""
        return dict(self._records)

    def add_drive(
        self,
        name: str,
        frames: Iterable[Frame],
        *,
        attrs: dict[str, Attribute] | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> bool:
        """Write one drive as the next shard, unless that is finished already.

        Args:
            name: Unique in the store.
            frames: One mapping per frame, from every declared key to its array.
            attrs: Plain values kept with the drive.
            image_size: (h, w), if other than that of the store.

        Returns:
            Whether it was written now.
        """
        plan = DrivePlan(name, image_size=image_size, attrs=attrs or {})
        return self.add_shards([[plan]], lambda _: frames) > 0

    def add_shards(
        self,
        groups: Groups,
        source: FrameSource,
        pool: Pool | None = None,
        done: Done = lambda written: None,
    ) -> int:
        """Write one shard per group of drives, those that are not finished.

        Args:
            groups: Drives of each shard.
            source: Gives the frames of a drive; picklable if `pool` has processes.
            pool: Where to run; None for this process.
            done: Called with each shard as it is finished.

        Returns:
            How many shards were written now.

        Raises:
            ResourceError: If the disk is too small or full; what is finished stays.
        """
        return write_all([(self, groups, source)], pool, done)

    def pending(self, groups: Groups) -> list[tuple[int, tuple[DrivePlan, ...]]]:
        """Take the next groups and return those that must be written, with their shard numbers."""
        first, self._called = self._called, self._called + len(groups)
        jobs = [(first + n, tuple(group)) for n, group in enumerate(groups)]
        return [job for job in jobs if not self.is_finished(*job)]

    def begin(self) -> None:
        """Declare the store unfinished, before any of its files is written."""
        self._record(complete=False)

    def take(self, index: int, written: Written) -> None:
        """Record a shard that lies in the folder now, or that there is none of this number."""
        if written.record is not None:
            self._records[index] = written.record
            if time.monotonic() >= self._due:
                self._record(complete=False)
            return
        self._records.pop(index, None)
        self._record(complete=False)
        (self.path / shard_name(index)).unlink(missing_ok=True)

    def finish(self) -> None:
        """Declare the store complete, unless it was to hold drives and none could be read."""
        if self._records or not self._called:
            self._record(complete=True)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self.finish()
            elif self._manifest is not None and not self._manifest.complete:
                with suppress(ResourceError):  # the error on its way says more
                    self._record(complete=False)
        finally:
            remove_leftovers(self.path)
            os.close(self._lock)

    def is_finished(self, index: int, plans: Sequence[DrivePlan]) -> bool:
        """Say whether a shard is there and holds just these drives, whole."""
        record = self._records.get(index)
        if record is None or len(record.drives) != len(plans):
            return False
        return all(_is_asked(d, p, self.spec) for d, p in zip(record.drives, plans, strict=True))

    def _record(self, *, complete: bool) -> None:
        """Write the manifest anew, unless it says just that."""
        shards = tuple(self._records[i] for i in sorted(self._records))
        manifest = Manifest(spec=self.spec, shards=shards, complete=complete)
        if self._manifest and manifest == self._manifest.model_copy(update={"digest": ""}):
            return
        began = time.monotonic()
        try:
            self._manifest = write_manifest(self.path, manifest)
        except OSError as error:
            raise resource_error(error, self.path, 0) from error
        took = time.monotonic() - began
        self._due = 0.0 if took < _QUICK else began + took + _PATIENCE * took

    def _finished(self, force: bool) -> dict[int, ShardRecord]:
        """Read what an earlier run left; refuse it, or clear it away, if it is something else."""
        self._manifest = existing_manifest(self.path, self.spec, force=force)
        if self._manifest is None:
            clear_store(self.path)
            return {}
        shards = self._manifest.shards
        return {int(record.file[6:11]): record for record in shards if self._is_whole(record)}

    def _is_whole(self, record: ShardRecord) -> bool:
        path = self.path / record.file
        return (
            path.is_file()
            and path.stat().st_size == record.bytes
            and sha256_file(path) == record.sha256
        )

    def _take_lock(self) -> int:
        """Lock the folder for this process; the system frees the lock however the process ends."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise resource_error(error, self.path, 0) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise BusyError(f"{self.path}: another process is writing this store") from None
        return descriptor


def write_all(
    parts: Sequence[Part],
    pool: Pool | None = None,
    done: Done = lambda written: None,
    *,
    leave_out: bool = False,
) -> int:
    """Write the missing shards of several stores together; see `StoreWriter.add_shards`.

    With `leave_out`, what cannot be read is left out and told to `done`. A shard that lacks
    something is never finished: the next call tries it again, and ends in the same bytes if
    nothing was repaired.

    Raises:
        ResourceError: If the disk is too small or full; what is finished stays.
    """
    jobs = [(w, n, plans, src) for w, groups, src in parts for n, plans in w.pending(groups)]
    # Longest first: the last worker then has little left to do alone.
    jobs.sort(key=lambda job: -sum(plan.num_frames or 0 for plan in job[2]))
    needed = sum(estimate_bytes(writer.spec, plans) for writer, _, plans, _ in jobs)
    if jobs:
        require_space(jobs[0][0].path, needed)
    for writer in dict.fromkeys(job[0] for job in jobs):
        writer.begin()
    arguments = [
        (w.path, index, w.spec, plans, source, leave_out) for w, index, plans, source in jobs
    ]
    number = 0
    try:
        for number, written in (pool or InlinePool()).map(write_drives, arguments):
            writer, index = jobs[number][:2]
            writer.take(index, written)
            done(written)
    except OSError as error:
        raise resource_error(error, jobs[number][0].path, needed) from error
    return len(jobs)


def _is_asked(drive: DriveRecord, plan: DrivePlan, spec: StoreSpec) -> bool:
    size = plan.image_size or spec.image_size
    asked_attrs = {name: drive.attrs.get(name) for name in plan.attrs}
    if plan.num_frames not in (None, drive.num_frames):
        return False  # frames that could not be read were left out
    return (drive.name, drive.image_size, asked_attrs) == (plan.name, size, plan.attrs)
