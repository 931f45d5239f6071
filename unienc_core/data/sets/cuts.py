"""Drives of numbered frames, cut at a frame that cannot be read.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unienc_core.data.manifest import Attribute
from unienc_core.data.sets.runs import LEAST_RUN
from unienc_core.data.sets.spans import from_spans, to_spans
from unienc_core.data.shard_build import DrivePlan

SEPARATOR = "/"
"""Between the names of a drive's files in its attributes: no name of a file holds it."""


def cut_run(plan: DrivePlan, position: int) -> list[DrivePlan]:
    """Return the runs before and after a frame, those that hold a triplet.

    Args:
        plan: Its attributes hold ``frames`` as spans, and perhaps ``files``, one a frame, and
            ``targets``; its name ends in the number of its first frame.
        position: Of the frame in the drive.
    """
    whole = range(plan.num_frames or 0)
    parts = (_part(plan, places) for places in (whole[:position], whole[position + 1 :]))
    return [part for part in parts if part is not None and (part.num_frames or 0) >= LEAST_RUN]


def cut_images(plan: DrivePlan, position: int) -> list[DrivePlan]:
    """Return what is left of a drive of unrelated frames without one of them; see `cut_run`."""
    part = _part(plan, [n for n in range(plan.num_frames or 0) if n != position])
    return [] if part is None else [part]


def _part(plan: DrivePlan, places: Sequence[int]) -> DrivePlan | None:
    """Return some frames of a drive, or None where no target is among them."""
    if not places:
        return None
    frames = from_spans(str(plan.attrs["frames"]))
    kept = [frames[place] for place in places]
    attrs: dict[str, Attribute] = {**plan.attrs, "frames": to_spans(kept)}
    if "files" in attrs:
        files = str(attrs["files"]).split(SEPARATOR)
        attrs["files"] = SEPARATOR.join(files[place] for place in places)
    if "targets" in attrs:
        targets = set(from_spans(str(attrs["targets"]))).intersection(kept[1:-1])
        if not targets:
            return None
        attrs["targets"] = to_spans(targets)
    head, _, number = plan.name.rpartition("_")
    name = f"{head}_{kept[0]:0{len(number)}d}"
    return replace(plan, name=name, num_frames=len(kept), attrs=attrs)
