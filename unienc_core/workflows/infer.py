"""`infer-video`: videos in, annotated videos out."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unienc_core.checkpoint import Checkpoint, find_checkpoint
from unienc_core.contracts import Progress, Reporter
from unienc_core.errors import DataError, PartialError, VideoError
from unienc_core.inference.annotate import Annotator
from unienc_core.inference.frames import Frame, Losses
from unienc_core.inference.predictor import FrameOutput, Predictor, predictor_from
from unienc_core.inference.stream import ahead
from unienc_core.inference.video_writer import VideoWriter
from unienc_core.workflows.infer_jobs import Job, check_outputs, probe
from unienc_core.workflows.intrinsics import (
    ASSUMED_FOV,
    Intrinsics,
    parse_camera,
    remembered_intrinsics,
)


def infer_video(
    inputs: Sequence[Path],
    *,
    out: Path | None = None,
    checkpoint: Path | None = None,
    drive: str | None = None,
    intrinsics: str | None = None,
    fov: float | None = None,
    device: str = "auto",
    force: bool = False,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Annotate videos with depth and the camera's path.

    Every frame that decodes gives one frame, at its exact time. What cannot be decoded is
    counted; a video that cannot be read does not stop the others.

    Args:
        inputs: Videos, or stores, of which one drive is taken.
        out: For one input a file (``.mp4``) or a folder, for several a folder; default: the
            current folder. In a folder, files are called ``<stem>_unienc.mp4``.
        checkpoint: `find_checkpoint` says where it is looked for by default.
        drive: Drive of a store; default: its first.
        intrinsics: ``FX,FY,CX,CY`` in pixels of the video; default: from the store, from the
            checkpoint, or 60 degrees.
        fov: Horizontal field of view in degrees, in place of `intrinsics`.
        device: Where the network runs.
        force: Replace videos that exist.
        dry_run: Open everything and build the network, but write nothing.
        reporter: Takes progress and remarks.

    Returns:
        ``{checkpoint, preset, step, device, dry_run, videos, failures, seconds}``.

    Raises:
        UsageError: If the request makes no sense, a video exists already, or there is no
            checkpoint.
        DataError: If no input can be read.
        PartialError: If frames or some of the videos are missing.
        ResourceError: If a video cannot be written, or memory or disk run out.
        CheckpointError: If the checkpoint is damaged.
    """
    began, reporter = time.monotonic(), reporter or Reporter()
    request = parse_camera(intrinsics, fov)
    failures: list[dict[str, str]] = []

    def on_failure(path: Path, error: DataError) -> None:
        if len(inputs) == 1:
            raise error
        failures.append({"input": str(path), "error": str(error)})
        reporter.say(f"skipped: {error}")

    jobs = probe(inputs, out, drive, request, on_failure)
    if not jobs:
        raise VideoError("; ".join(failure["error"] for failure in failures))
    check_outputs(jobs, force)
    found = find_checkpoint(checkpoint, say=reporter.say)
    predictor = predictor_from(found, device)
    videos: list[dict[str, Any]] = []
    for job in jobs:
        camera = _settle_camera(job, found, reporter)
        if dry_run:
            videos.append(_describe(job, camera))
            continue
        try:
            videos.append(_describe(job, camera) | _annotate(job, predictor, reporter))
        except DataError as error:
            on_failure(job.info.path, error)
    report = {
        "checkpoint": str(found.path),
        "preset": found.preset.name,
        "step": found.step,
        "device": str(predictor.device),
        "dry_run": dry_run,
        "videos": videos,
        "failures": failures,
        "seconds": round(time.monotonic() - began, 3),
    }
    _raise_if_incomplete(report)
    return report


def _settle_camera(job: Job, checkpoint: Checkpoint, reporter: Reporter) -> Intrinsics:
    camera = job.camera or remembered_intrinsics(job.info, checkpoint)
    if camera.origin == "assumed":
        reporter.say(
            f"{job.info.path}: intrinsics unknown, assuming {ASSUMED_FOV:g} degrees "
            "horizontally (--fov or --K say better)"
        )
    return camera


def _describe(job: Job, camera: Intrinsics) -> dict[str, Any]:
    info = job.info
    return {
        "input": str(info.path),
        "name": info.name,
        "output": str(job.output),
        "size": [info.height, info.width],
        "rate": str(info.rate),
        "fps": float(info.rate),
        "frames_stated": info.num_frames,
        "K": camera.K.round(4).tolist(),
        "K_origin": camera.origin,
    }


def _annotate(job: Job, predictor: Predictor, reporter: Reporter) -> dict[str, Any]:
    """Decode, compute, and draw with encoding: three threads, bounded queues between them."""
    began, info = time.monotonic(), job.info
    predictor.reset()
    annotator = Annotator(info, f"unienc  {predictor.preset.name}")
    with job.open() as source, VideoWriter(job.output, info.rate, info.time_base) as writer:
        with closing(ahead(_predict(source, predictor))) as results:
            for picture, pts in annotator.draw(results):
                writer.write(picture, pts)
                total = info.num_frames and max(info.num_frames, writer.num_frames)
                reporter.progress(Progress(info.name, writer.num_frames, total, "frame"))
        losses = source.losses
    if losses.any:
        reporter.say(f"{info.path}: {_loss_text(losses)}")
    depth_range = annotator.depth_range
    return {
        "frames_in": writer.num_frames,
        "frames_out": writer.num_frames,
        "frames_lost": losses.num_lost,
        "frames_damaged": losses.num_damaged,
        "is_cut": losses.is_cut,
        "gaps": [asdict(gap) for gap in losses.gaps],
        "depth_range": None if depth_range is None else [depth_range.near, depth_range.far],
        "depth_unit": "up to scale",
        "seconds": round(time.monotonic() - began, 3),
    }


def _predict(source: Iterable[Frame], predictor: Predictor) -> Generator[tuple[Frame, FrameOutput]]:
    with closing(ahead(source)) as frames:
        for frame in frames:
            yield frame, predictor.step(frame.image)


def _loss_text(losses: Losses) -> str:
    places = f"{len(losses.gaps)} place{'s' if len(losses.gaps) != 1 else ''}"
    lost = f"{losses.num_lost} frames could not be decoded ({places})"
    if losses.is_cut:
        more = "" if losses.num_lost else "; how many frames are missing is not known"
        return f"the file is cut before its end: {lost}{more}"
    return lost


def _raise_if_incomplete(report: dict[str, Any]) -> None:
    parts = [failure["error"] for failure in report["failures"]]
    for video in report["videos"]:
        if video.get("frames_lost") or video.get("is_cut"):
            end = ", the file is cut before its end" if video["is_cut"] else ""
            parts.append(
                f"{video['input']}: {video['frames_lost']} frames lost{end}; the other "
                f"{video['frames_out']} are in {video['output']}"
            )
    if parts:
        raise PartialError("; ".join(parts), report)


def format_report(report: Mapping[str, Any]) -> str:
    """Return the report as text."""
    lines = [f"{report['preset']} (step {report['step']}) from {report['checkpoint']}"]
    for video in report["videos"]:
        if report["dry_run"]:
            lines.append(f"{video['input']}: would become {video['output']}")
            continue
        speed = video["frames_out"] / max(video["seconds"], 1e-9)
        lines.append(
            f"{video['output']}: {video['frames_out']} frames at {video['rate']} a second, "
            f"{speed:.1f} frames/s"
        )
    return "\n".join(lines)
