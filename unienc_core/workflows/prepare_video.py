"""`prepare-data video`: clips of one's own become stores of triplets, one store per split."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2

from unienc_core.contracts import Progress, Reporter
from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import StoreSpec, read_manifest
from unienc_core.data.shard_build import DrivePlan
from unienc_core.data.store_folder import estimate_bytes, existing_manifest
from unienc_core.data.store_writer import StoreWriter
from unienc_core.data.video_source import VIDEO_KEYS, drive_frames
from unienc_core.errors import (
    DataError,
    Interrupted,
    PartialError,
    StoreError,
)
from unienc_core.files import check_writable, require_space
from unienc_core.inference.video import VideoReader
from unienc_core.workflows.video_clips import (
    Clip,
    Failures,
    PlannedClip,
    look,
    open_clips,
    plan_clip,
    store_rate,
    thinned,
)
from unienc_core.workflows.video_report import describe_plan, make_report
from unienc_core.workflows.video_request import VideoRequest


def prepare_video(
    clips: Sequence[Path],
    out: Path,
    request: VideoRequest | None = None,
    *,
    threads: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Make triplets for self-supervised training out of video clips, in ``out/<split>``.

    A clip is read twice: once to find where it may be cut and what frames its picture, once to
    store it. A drive ends where the scene is cut, where frames are missing or damaged, and where
    the camera stands. Faster clips are thinned to come near the rate of the slowest, so that one
    gap serves all. What is finished is never made again: a repeated call does nothing, and one
    after a kill goes on where that stopped.

    Args:
        clips: Video files.
        out: Folder of the stores.
        request: What is to be made of the clips.
        threads: Threads of image processing; None for one per core.
        force: Start over where a split holds another store.
        dry_run: Open every clip, check folders and disk space, and write nothing.
        reporter: Progress in frames, and remarks.

    Returns:
        Plain data: ``out``, ``fps``, ``gap``, ``clips``, ``failed``, ``written`` (frames),
        ``seconds`` and ``stores``, as `describe_store` has them.

    Raises:
        UsageError: If the request makes no sense, or a store of other settings is there.
        DataError: If no clip can be used, or a split is left without a triplet.
        PartialError: If some clips cannot be used, with the report; the others are stored.
        ResourceError: If the disk is full or the folder cannot be written.
        Interrupted: On Ctrl-C.
    """
    reporter, request = reporter or Reporter(), request or VideoRequest()
    if threads is not None:
        cv2.setNumThreads(threads)
    failures = Failures(reporter.say)
    started = time.monotonic()
    try:
        opened = open_clips(clips, failures)
        job = _Job(request, opened, out)
        job.check_target(force)
        written, planned = 0, []
        if dry_run:
            job.check_room()
        elif job.is_complete():
            reporter.say(f"{out} is complete already: nothing to do")
        else:
            planned = _plan(opened, job.gap, request, failures, reporter)
            job = _Job(request, [plan.clip for plan in planned], out)
            written = job.write(planned, force, reporter)
    except KeyboardInterrupt:
        raise Interrupted(f"{out}: interrupted; the same command goes on from here") from None
    report = make_report(
        out,
        job.clips,
        planned,
        failures.found,
        rate=(job.fps, job.gap),
        splits=[] if dry_run else list(request.shares),
        written=written,
        seconds=time.monotonic() - started,
    )
    if failures.found:
        text = f"{len(failures.found)} of {len(clips)} clips cannot be used (named above)"
        raise PartialError(text, report)
    return report


def _plan(
    clips: Sequence[Clip], gap: int, request: VideoRequest, failures: Failures, reporter: Reporter
) -> list[PlannedClip]:
    """Look through all clips, decide what becomes of them, and say it."""
    planned: list[PlannedClip] = []
    for clip in clips:
        try:
            plan = plan_clip(clip, gap, request, reporter)
        except DataError as error:
            failures.add(clip.path, error)
            continue
        planned.append(plan)
        for line in describe_plan(plan):
            reporter.say(line)
    if not planned:
        raise failures.as_error()
    for split in request.shares:
        if not any(split == to for plan in planned for to, _, _ in plan.drives):
            raise DataError(
                f"no triplet is left for the split '{split}': too few frames in which the camera "
                "moves; give more or longer clips, or another --split, like train=1"
            )
    return planned


class _Job:
    """Clips and the stores of a folder that they go into."""

    def __init__(self, request: VideoRequest, clips: Sequence[Clip], out: Path) -> None:
        self.clips, self._request, self._out = clips, request, out
        self.fps, self.gap = store_rate(clips, request.gap)
        self._config = {**request.record(), "clips": [clip.record() for clip in clips]}

    def is_complete(self) -> bool:
        """Say whether all stores are there, finished, of just these clips and settings."""
        stores = [self._out / split for split in self._request.shares]
        return all(self._is_ours(store) and read_manifest(store).complete for store in stores)

    def check_target(self, force: bool) -> None:
        """Check, before anything takes long, that the request fits the clips and the folder."""
        check_writable(self._out)
        views = [look(clip, None, self._request)[1] for clip in self.clips]
        for split in self._request.shares:
            if not self._is_ours(self._out / split):
                asked = self._spec(split, views[0].image_size)
                existing_manifest(self._out / split, asked, force=force)

    def check_room(self) -> None:
        """Check that the disk has room for all frames of all clips."""
        views = [look(clip, None, self._request)[1] for clip in self.clips]
        frames = [(clip.info.num_frames or 0) // clip.stride for clip in self.clips]
        plans = [
            DrivePlan("", count, view.image_size) for count, view in zip(frames, views, strict=True)
        ]
        require_space(self._out, estimate_bytes(self._spec("", views[0].image_size), plans))

    def write(self, planned: Sequence[PlannedClip], force: bool, reporter: Reporter) -> int:
        """Write what is missing; return how many frames that was."""
        specs = {s: self._spec(s, planned[0].view.image_size) for s in self._request.shares}
        drives = [drive for plan in planned for _, _, drive in plan.drives]
        require_space(self._out, estimate_bytes(next(iter(specs.values())), drives))
        total = sum(plan.num_stored for plan in planned)
        written = done = 0
        with ExitStack() as stack:
            # All locks and old stores first: what is refused is refused before anything is written.
            writers = {
                split: stack.enter_context(StoreWriter(self._out / split, spec, force=force))
                for split, spec in specs.items()
            }
            for plan in planned:
                for num_frames, made in _write_clip(plan, writers):
                    done += num_frames
                    written += num_frames * made
                    reporter.progress(Progress("store", done, total, "frame"))
        return written

    def _is_ours(self, store: Path) -> bool:
        """Say whether a store, finished or not, is of just these clips and settings."""
        try:
            spec = read_manifest(store).spec
        except StoreError:
            return False
        return (spec.source, spec.gap, spec.config) == ("video", self.gap, self._config)

    def _spec(self, split: str, image_size: tuple[int, int]) -> StoreSpec:
        return StoreSpec(
            source="video",
            split=split,
            image_size=image_size,
            keys=standard_keys(*VIDEO_KEYS, image_encoding="jpeg"),
            fps=self.fps,
            gap=self.gap,
            config=self._config,
        )


def _write_clip(
    plan: PlannedClip, writers: Mapping[str, StoreWriter]
) -> Iterator[tuple[int, bool]]:
    """Write the drives of a clip; yield the frames of each, and whether it was not there yet."""
    with VideoReader(plan.clip.path) as reader:
        clip = thinned(reader, plan.clip.stride)
        for split, run, drive in plan.drives:
            frames = drive_frames(clip, run, plan.view)
            yield len(run), writers[split].add_shards([[drive]], lambda _, f=frames: f) > 0
