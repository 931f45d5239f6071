"""Stores to be written by one verb: checked, made, resumed and reported alike for every source."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from unienc_core.contracts import Progress, Reporter
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.shard_build import DrivePlan, FrameSource
from unienc_core.data.store_folder import estimate_bytes, existing_manifest
from unienc_core.data.store_writer import StoreWriter, write_all
from unienc_core.data.unreadable import Loss, Written
from unienc_core.data.worker_pool import make_pool
from unienc_core.files import check_writable, require_space


@dataclass(frozen=True)
class StoreJob:
    """A store to be there in the end.

    Attributes:
        folder: Where.
        spec: What it holds.
        source: Gives the frames of a drive.
        groups: Drives of each shard.
    """

    folder: Path
    spec: StoreSpec
    source: FrameSource
    groups: tuple[tuple[DrivePlan, ...], ...]

    @property
    def num_frames(self) -> int:
        """Frames of all drives."""
        return sum(plan.num_frames or 0 for group in self.groups for plan in group)


def check_stores(jobs: Sequence[StoreJob], out: Path, force: bool) -> None:
    """Fail where `write_stores` would, and change nothing.

    Raises:
        UsageError: If a folder holds another store.
        ResourceError: If the disk is too small or the folder cannot be written.
    """
    needed = 0
    check_writable(out)
    for job in jobs:
        if existing_manifest(job.folder, job.spec, force=force) is None:
            needed += estimate_bytes(job.spec, (plan for group in job.groups for plan in group))
    require_space(out, needed)


def write_stores(
    jobs: Sequence[StoreJob], task: str, workers: int, force: bool, reporter: Reporter
) -> tuple[int, list[Loss]]:
    """Write what is missing of all stores, leaving out what cannot be read.

    Args:
        jobs: The stores.
        task: What it is called in the progress.
        workers: Processes; the bytes do not depend on them.
        force: Start over where a folder holds another store.
        reporter: Progress in frames, and remarks.

    Returns:
        How many frames were stored now, and what was left out, by drive.
    """
    total = sum(job.num_frames for job in jobs)
    with ExitStack() as stack:
        # All locks and old stores first: what is refused is refused before anything is made.
        writers = [
            stack.enter_context(StoreWriter(job.folder, job.spec, force=force)) for job in jobs
        ]
        kept = sum(
            plan.num_frames or 0
            for writer, job in zip(writers, jobs, strict=True)
            for index, group in enumerate(job.groups)
            if writer.is_finished(index, group)
            for plan in group
        )
        if 0 < kept < total:
            folder = jobs[0].folder.parent
            reporter.say(f"{folder}: {kept} of {total} frames are there already")
        done, lost = kept, list[Loss]()

        def report(written: Written) -> None:
            nonlocal done
            done += written.num_frames
            lost.extend(written.lost)
            reporter.progress(Progress(task, done, total, "frame"))

        shards = sum(len(job.groups) for job in jobs)
        pool = stack.enter_context(make_pool(min(workers, shards) if kept < total else 1))
        parts = [(w, job.groups, job.source) for w, job in zip(writers, jobs, strict=True)]
        write_all(parts, pool, report, leave_out=True)
    lost.sort(key=lambda loss: (loss.drive, loss.reason))
    return done - kept - sum(loss.num_frames for loss in lost), lost
