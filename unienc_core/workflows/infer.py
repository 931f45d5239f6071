"""`infer-video`: videos and pictures in; annotated videos, depth and poses out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unienc_core.checkpoint import Checkpoint, find_checkpoint
from unienc_core.contracts import Progress, Reporter
from unienc_core.errors import DataError, Interrupted, VideoError
from unienc_core.inference.annotate import Annotator
from unienc_core.inference.clip import process_clip
from unienc_core.inference.frame_output import Output
from unienc_core.inference.frames import FrameSource
from unienc_core.inference.metric import RunningScale
from unienc_core.inference.outputs import Outputs
from unienc_core.inference.predictor import Predictor, predictor_from
from unienc_core.inference.results import ClipFacts
from unienc_core.inference.road_path import RoadPath
from unienc_core.inference.scene import MAX_CUT_STEP
from unienc_core.inference.sinks import sink_class
from unienc_core.inference.steering import SteeringHead
from unienc_core.workflows.infer_inputs import is_single
from unienc_core.workflows.infer_jobs import Job, check_outputs, choose_outputs, probe
from unienc_core.workflows.infer_plan import Plan, VideoRequest
from unienc_core.workflows.infer_report import (
    describe_clip,
    describe_job,
    format_report,
    raise_if_incomplete,
    say_what_is_missing,
)
from unienc_core.workflows.infer_steering import (
    check_horizon,
    check_path_options,
    lay_path,
    means_a_path,
)
from unienc_core.workflows.intrinsics import (
    ASSUMED_FOV,
    Intrinsics,
    parse_camera,
    remembered_intrinsics,
)

__all__ = ["VideoRequest", "format_report", "infer_video"]


def infer_video(
    inputs: Sequence[str | Path],
    *,
    request: VideoRequest | None = None,
    out: Path | None = None,
    checkpoint: Path | None = None,
    device: str = "auto",
    force: bool = False,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Annotate videos with depth, the camera's path, segmentations and steering.

    Every frame that decodes gives one frame, at its exact time. What cannot be decoded is
    counted; a video that cannot be read does not stop the others.

    Args:
        inputs: Videos, pictures, folders or patterns of either, ``@list.txt``, ``-`` for a pipe,
            the number of a webcam, or stores, of which one drive is taken.
        request: What is wanted of them.
        out: For one input a file or a folder, for several a folder; default: the current folder.
            In a folder, outputs are called ``<stem>_unienc`` and their suffix.
        checkpoint: `find_checkpoint` says where it is looked for by default.
        device: Where the network runs.
        force: Replace outputs that exist.
        dry_run: Open everything and build the network, but write nothing.
        reporter: Takes progress and remarks.

    Returns:
        ``{checkpoint, preset, step, device, predictions, dry_run, videos, failures, seconds}``.

    Raises:
        UsageError: If the request makes no sense, an output exists already, or there is no
            checkpoint.
        DataError: If no input can be read.
        PartialError: If frames or some of the videos are missing.
        ResourceError: If an output cannot be written, or memory or disk run out.
        CheckpointError: If the checkpoint is damaged.
        Interrupted: On Ctrl-C; says what is left of the clip in work.
    """
    began, reporter = time.monotonic(), reporter or Reporter()
    plan = Plan.make(request or VideoRequest())
    failures: list[dict[str, str]] = []

    def on_failure(path: Path, error: DataError) -> None:
        failures.append({"input": str(path), "error": str(error)})
        if len(inputs) > 1 or not is_single(str(inputs[0])):
            reporter.say(f"skipped: {error}")

    with ExitStack() as opened:
        camera = parse_camera(plan.request.intrinsics, plan.request.fov)
        jobs = probe(inputs, plan.reading, out, plan.sinks, camera, on_failure, opened)
        if not jobs:
            raise VideoError("; ".join(failure["error"] for failure in failures))
        check_outputs(jobs, force)
        found = find_checkpoint(checkpoint, say=reporter.say)
        predictor = predictor_from(found, device)
        predictions = choose_outputs(plan.outputs, predictor, plan.sinks, plan.scale)
        head = predictor.steering if "steering" in predictions else None
        is_drawn = head is not None and "mp4" in plan.sinks
        check_path_options(plan.path_options, head, plan.vehicle, is_drawn)
        check_horizon(plan.request.horizon, [job.info for job in jobs])
        has_path = head is not None and is_drawn and means_a_path(head, plan.vehicle, reporter.say)
        run = _Run(plan, found, predictor, predictions, head, has_path, reporter)
        videos: list[dict[str, Any]] = []
        for job in jobs:
            try:
                videos.append(run.inspect(job) if dry_run else run.annotate(job))
            except DataError as error:
                if len(jobs) == 1 and not failures:
                    raise
                on_failure(job.info.path, error)
    report = {
        "checkpoint": str(found.path),
        "preset": found.preset.name,
        "step": found.step,
        "device": str(run.predictor.device),
        "predictions": list(run.predictions),
        "dry_run": dry_run,
        "videos": videos,
        "failures": failures,
        "seconds": round(time.monotonic() - began, 3),
    }
    raise_if_incomplete(report)
    return report


@dataclass(frozen=True)
class _Run:
    """All that the clips of one call share."""

    plan: Plan
    checkpoint: Checkpoint
    predictor: Predictor
    predictions: tuple[Output, ...]
    steering: SteeringHead | None
    has_path: bool
    reporter: Reporter

    def inspect(self, job: Job) -> dict[str, Any]:
        """Look at a clip as far as that goes without decoding it."""
        with job.open() as source:
            if self.plan.span.stop is None:
                source.check()
            camera = self._camera(job)
            self._road_path(job, camera)
            return describe_job(job, camera, source.losses)

    def annotate(self, job: Job) -> dict[str, Any]:
        """Process a clip."""
        began, camera, info = time.monotonic(), self._camera(job), job.info
        metric = RunningScale(self.plan.scale, camera.K, (info.height, info.width))
        title = f"unienc  {self.predictor.preset.name}"
        facts = ClipFacts(
            info,
            camera.K,
            metric.unit,
            title,
            self.predictions,
            self.predictor.classes,
            self.predictor.preset.image_size,
            self.plan.request.max_depth,
            self.steering,
            self._road_path(job, camera),
        )
        sinks = [sink_class(n, info.is_still)(path, facts) for n, path in job.outputs.items()]
        outputs, annotator = Outputs(sinks), Annotator(facts)
        if info.has_audio:
            self.reporter.say(f"{info.path}: its sound is dropped")
        step = float(self.plan.span.stride / info.rate)
        if self.steering is not None and step > MAX_CUT_STEP:
            self.reporter.say(
                f"{info.path}: at {step:g} s between frames no scene cuts are looked for; what "
                "steering is read off may cross one"
            )
        with job.open() as source:
            try:
                with outputs:
                    summary = process_clip(
                        source,
                        self.predictor,
                        outputs,
                        metric=metric,
                        wanted=self.predictions,
                        annotator=annotator if outputs.needs_picture else None,
                        span=self.plan.span,
                        on_frame=lambda done: self._progress(job, done),
                    )
                    self._refuse_nothing(source, summary.num_frames)
            except KeyboardInterrupt:
                raise _interrupted(outputs) from None
            clip = describe_clip(summary, source.losses, metric, annotator, outputs, facts)
            seconds = round(time.monotonic() - began, 3)
            report = describe_job(job, camera, source.losses) | clip | {"seconds": seconds}
        say_what_is_missing(report, self.reporter.say)
        return report

    def _refuse_nothing(self, source: FrameSource, num_frames: int) -> None:
        if num_frames == 0:
            raise VideoError(
                f"{source.info.path}: has no frame from --start to --stop; it is shorter than that"
            )

    def _progress(self, job: Job, done: int) -> None:
        info = job.info
        total = self.plan.span.expected(info.num_frames, info.rate)
        total = total and max(total, done)
        self.reporter.progress(Progress(info.name, done, total, "frame"))

    def _road_path(self, job: Job, camera: Intrinsics) -> RoadPath | None:
        if self.steering is None or not self.has_path:
            return None
        plan, say = self.plan, self.reporter.say
        height, horizon = plan.camera_height, plan.request.horizon
        return lay_path(self.steering, plan.vehicle, height, horizon, job.info, camera, say)

    def _camera(self, job: Job) -> Intrinsics:
        camera = job.camera or remembered_intrinsics(job.info, self.checkpoint)
        if camera.origin == "assumed" and self.predictions != ("steering",):  # it needs none
            self.reporter.say(
                f"{job.info.path}: intrinsics unknown, assuming {ASSUMED_FOV:g} degrees "
                "horizontally (--fov or --K say better)"
            )
        elif camera.origin == "checkpoint" and (self.plan.needs_camera or self.has_path):
            what = "metres rest" if self.plan.needs_camera else "the path on the road rests"
            self.reporter.say(
                f"{job.info.path}: {what} on the camera of the checkpoint's training data, "
                f"fx {camera.K[0, 0]:.0f} and fy {camera.K[1, 1]:.0f} px (--fov or --K say better)"
            )
        return camera


def _interrupted(outputs: Outputs) -> Interrupted:
    parts = ", ".join(str(sink.part) for sink in outputs.sinks)
    done = outputs.num_frames
    if not done:
        return Interrupted("interrupted before the first frame; nothing was written")
    return Interrupted(
        f"interrupted after {done} frames, which are in {parts}; repeating starts over"
    )
