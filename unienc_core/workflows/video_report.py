"""What `prepare-data video` says: a line or two per clip on the way, a report at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unienc_core.workflows.inspect_data import describe_one
from unienc_core.workflows.intrinsics import ASSUMED_FOV
from unienc_core.workflows.video_clips import Clip, PlannedClip


def describe_plan(plan: PlannedClip) -> Iterator[str]:
    """Yield what people should know of a clip that was looked through."""
    clip, scan, view = plan.clip, plan.scan, plan.view
    if clip.stride > 1:
        yield f"{clip.path}: every {clip.stride}. frame is kept ({clip.fps:g} Hz)"
    if plan.bars:
        left, top, right, bottom = plan.bars
        yield (
            f"{clip.path}: black bars cut off (left {left}, top {top}, right {right}, bottom "
            f"{bottom} px); K moves with them"
        )
    if plan.camera.origin == "assumed":
        yield (
            f"{clip.path}: neither --K nor --fov: a horizontal field of view of {ASSUMED_FOV:g} "
            "degrees is assumed"
        )
    left_out = {
        "scene cuts": scan.num_cuts,
        "gaps in it": scan.num_gaps,
        "frames of a standing camera left out": plan.num_standing,
    }
    found = [f"{number} {what}" for what, number in left_out.items() if number]
    height, width = view.image_size
    parts = [
        f"{plan.num_stored} of {len(scan.times)} frames in {len(plan.drives)} drives",
        *found,
        f"stored at {height}x{width}",
    ]
    yield f"{clip.path}: {', '.join(parts)}"


def make_report(
    out: Path,
    clips: Sequence[Clip],
    planned: Sequence[PlannedClip],
    failed: Sequence[dict[str, str]],
    *,
    rate: tuple[float, int],
    splits: Sequence[str],
    written: int,
    seconds: float,
) -> dict[str, Any]:
    """Return the report, JSON-able.

    Args:
        out: Folder of the stores.
        clips: Clips in the stores, or that would be.
        planned: The same, where they were looked through.
        failed: Clips left out.
        rate: Frames per second and gap of the stores.
        splits: Stores that were written; none in a dry run.
        written: Frames written now.
        seconds: How long it took.
    """
    fps, gap = rate
    details = {plan.clip.name: _details(plan) for plan in planned}
    return {
        "out": str(out),
        "dry_run": not splits,
        "fps": fps,
        "gap": gap,
        "interval": round(gap / fps, 4),
        "clips": [{**_identity(clip), **details.get(clip.name, {})} for clip in clips],
        "failed": list(failed),
        "written": written,
        "seconds": round(seconds, 2),
        "stores": [describe_one(out / split) for split in splits],
    }


def format_report(report: dict[str, Any]) -> str:
    """Return the report as text for people."""
    interval = f"gap {report['gap']} at {report['fps']:g} Hz, {report['interval']:g} s"
    if report["dry_run"]:
        return f"{report['out']}: {len(report['clips'])} clips open; {interval}; settings are fine"
    lines = [
        f"{store['path']}: {store['num_drives']} drives, {store['num_frames']} frames, "
        f"{store['num_triplets']} triplets, {store['num_bytes'] / 1e6:.1f} MB"
        for store in report["stores"]
    ]
    lines.append(f"{interval} from target to source")
    if report["written"]:
        lines.append(f"stored {report['written']} frames in {report['seconds']:.1f} s")
    return "\n".join(lines)


def _identity(clip: Clip) -> dict[str, Any]:
    return {
        "path": str(clip.path),
        "name": clip.name,
        "sha256": clip.sha256,
        "fps": clip.fps,
        "stride": clip.stride,
        "size": [clip.info.height, clip.info.width],
    }


def _details(plan: PlannedClip) -> dict[str, Any]:
    window = plan.view.window
    return {
        "num_frames": len(plan.scan.times),
        "num_stored": plan.num_stored,
        "num_standing": plan.num_standing,
        "num_cuts": plan.scan.num_cuts,
        "num_gaps": plan.scan.num_gaps,
        "num_lost": plan.num_lost,
        "window": [window.left, window.top, window.right, window.bottom],
        "bars": plan.bars,
        "stored_size": list(plan.view.image_size),
        "K": plan.view.K.tolist(),
        "camera": plan.camera.origin,
        "drives": [
            {"name": drive.name, "split": split, "frames": [run.start, run.stop]}
            for split, run, drive in plan.drives
        ],
    }
