"""What `infer-video` tells of its clips, to pipelines and to people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from unienc_core.contracts import Say
from unienc_core.errors import PartialError
from unienc_core.inference.annotate import Annotator
from unienc_core.inference.clip import ClipSummary, SteeringCount
from unienc_core.inference.frames import Losses
from unienc_core.inference.metric import RunningScale
from unienc_core.inference.outputs import Outputs
from unienc_core.inference.results import ClipFacts
from unienc_core.workflows.infer_jobs import Job
from unienc_core.workflows.intrinsics import Intrinsics


def describe_job(job: Job, camera: Intrinsics, losses: Losses) -> dict[str, Any]:
    """Return what is known of a clip before it is processed, and what is missing in it."""
    info = job.info
    return {
        "input": str(info.path),
        "name": info.name,
        "outputs": {name: str(path) for name, path in job.outputs.items()},
        "size": [info.height, info.width],
        "rate": str(info.rate),
        "fps": float(info.rate),
        "frames_stated": info.num_frames,
        "audio": "dropped" if info.has_audio else None,
        "K": camera.K.round(4).tolist(),
        "K_origin": camera.origin,
        "frames_lost": losses.num_lost,
        "frames_damaged": losses.num_damaged,
        "is_cut": losses.is_cut,
        "gaps": [asdict(gap) for gap in losses.gaps],
    }


def describe_clip(
    summary: ClipSummary,
    losses: Losses,
    metric: RunningScale,
    annotator: Annotator,
    outputs: Outputs,
    facts: ClipFacts,
) -> dict[str, Any]:
    """Return what happened to a clip."""
    depth_range = annotator.depth_range
    return {
        "frames_in": summary.num_frames,
        "frames_out": outputs.num_frames,
        "frames_black": summary.num_black,
        "scene_cuts": summary.cuts,
        "num_scene_cuts": summary.num_cuts,
        "depth_range": None if depth_range is None else [depth_range.near, depth_range.far],
        "depth_unit": metric.unit,
        "flow_range": annotator.full_speed,
        "flow_unit": None if annotator.full_speed is None else annotator.speed_unit,
        "scale": {
            "factor": metric.factor,
            "frames_without_plane": metric.num_without_plane,
            "frames_unscaled": metric.num_unknown,
        },
        "steering": _describe_steering(summary.steering, facts),
        **outputs.report(),
        "timing": summary.timing,
    }


def _describe_steering(count: SteeringCount, facts: ClipFacts) -> dict[str, Any] | None:
    """Return what was predicted of the steering along a clip; None where it was not asked for."""
    if facts.steering is None:
        return None
    some, path = count.num_values > 0, facts.road_path
    return {
        **facts.steering.describe(),
        "window": facts.steering.num_frames,
        "frames_warming_up": count.num_without,
        "frames_predicted": count.num_values,
        "mean": count.total / count.num_values if some else None,
        "lowest": count.lowest if some else None,
        "highest": count.highest if some else None,
        "path": None if path is None else path.describe(facts.K),
    }


def say_what_is_missing(report: Mapping[str, Any], say: Say) -> None:
    """Tell of everything in a clip's report that its reader would not expect."""
    where = report["input"]
    if report["frames_lost"] or report["is_cut"]:
        say(f"{where}: {_loss_text(report)}")
    if report["frames_damaged"]:
        say(f"{where}: {plural(report['frames_damaged'], 'frame')} damaged, taken as they are")
    if report["num_scene_cuts"]:
        say(f"{where}: {plural(report['num_scene_cuts'], 'scene cut')}; motion begins anew there")
    steering = report["steering"]
    if steering is not None and not steering["frames_predicted"]:
        say(
            f"{where}: no steering, which needs {steering['window']} frames in a row without a "
            "cut or gap"
        )
    if report["frames_black"]:
        say(f"{where}: {plural(report['frames_black'], 'black frame')} with nothing to see")
    unscaled = report["scale"]["frames_unscaled"]
    if unscaled:
        say(
            f"{where}: no ground was seen before frame {unscaled}; until then depth in metres is "
            "not known"
        )
    borrowed = report["scale"]["frames_without_plane"] - unscaled
    if borrowed:
        say(f"{where}: {plural(borrowed, 'frame')} without ground, scaled like those before them")
    if report.get("coarse_pixels"):
        say(
            f"{where}: {report['coarse_pixels']} pixels of depth are below 0.2, where 16-bit PNG "
            "is coarser than 1%; --scale makes metres of them, npz and h5 keep every digit"
        )
    if report.get("saturated_pixels"):
        say(
            f"{where}: {report['saturated_pixels']} pixels of depth do not fit into 16-bit PNG "
            "(1/256 to 255.996) and were cut to it"
        )


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 frame``, ``2 frames``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _loss_text(report: Mapping[str, Any]) -> str:
    places = plural(len(report["gaps"]), "place")
    lost = f"{plural(report['frames_lost'], 'frame')} could not be decoded ({places})"
    if report["is_cut"]:
        more = "" if report["frames_lost"] else "; how many frames are missing is not known"
        return f"the file is cut before its end: {lost}{more}"
    return lost


def raise_if_incomplete(report: dict[str, Any]) -> None:
    """Raise if anything could not be read.

    Raises:
        PartialError: Saying what, with the report.
    """
    parts = [failure["error"] for failure in report["failures"]]
    for video in report["videos"]:
        if not (video["frames_lost"] or video["is_cut"]):
            continue
        end = ", the file is cut before its end" if video["is_cut"] else ""
        text = f"{video['input']}: {video['frames_lost']} frames lost{end}"
        if not report["dry_run"]:
            places = " and ".join(video["outputs"].values())
            text += f"; the other {video['frames_out']} are in {places}"
        parts.append(text)
    if parts:
        raise PartialError("; ".join(parts), report)


def format_report(report: Mapping[str, Any]) -> str:
    """Return the report as text."""
    lines = [f"{report['preset']} (step {report['step']}) from {report['checkpoint']}"]
    for video in report["videos"]:
        places = ", ".join(video["outputs"].values())
        if report["dry_run"]:
            lines.append(f"{video['input']}: would become {places}")
            continue
        speed = video["frames_out"] / max(video["seconds"], 1e-9)
        busy = ", ".join(f"{k} {v['share']:.0%}" for k, v in video["timing"].items())
        what = f", depth {video['depth_unit']}" if "depth" in report["predictions"] else ""
        if steering := video["steering"]:
            frames = plural(steering["frames_predicted"], "frame")
            what += f", {steering['key']} in {steering['unit']} of {frames}"
        lines.append(
            f"{places}: {video['frames_out']} frames at {video['rate']} a second{what}, "
            f"{speed:.1f} frames/s (busy: {busy})"
        )
    return "\n".join(lines)
