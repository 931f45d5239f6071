"""Coloured point clouds as PLY, one per frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from unienc_core.data.resample import resize_image
from unienc_core.geometry.camera import backproject, resize_K
from unienc_core.inference.metric import METRES
from unienc_core.inference.results import ClipFacts, FrameResult
from unienc_core.inference.seen import Seen
from unienc_core.inference.sinks.base import FolderSink
from unienc_core.sentences import TASKS

MAX_METRES = 80.0
"""Farthest point where depth is in metres."""

MAX_MEDIANS = 8.0
"""Farthest point where depth is up to scale, in median depths of the clip's first frame."""

_POINT, _COLOUR = ("x", "y", "z"), ("red", "green", "blue")
_FLOW = ("own_flow_x", "own_flow_y", "own_flow_z")
_TYPES = {"<f4": "float", "u1": "uchar"}


class PlySink(FolderSink):
    """One binary little-endian PLY per frame: a point per pixel at the size the network works at.

    Vertices hold ``x y z`` (float32) in the axes of the frame's camera, x right, y down, z forward,
    in the clip's unit, which a comment names; ``red green blue``; and where they are predicted
    ``own_flow_x own_flow_y own_flow_z`` (same axes and unit, see
    `unienc_core.inference.scene_motion`), ``motion_mask`` (0..1) and ``label_id`` (of the class, 0
    where there is none). What is unknown is NaN. Points beyond ``max_depth`` are left out; a frame
    whose depth is unknown has no points.
    """

    suffix = "_ply"

    def __init__(self, target: Path, facts: ClipFacts) -> None:
        super().__init__(target, facts)
        self._max_depth = facts.max_depth
        if self._max_depth is None and facts.unit == METRES:
            self._max_depth = MAX_METRES
        fields = [(name, "<f4") for name in _POINT] + [(name, "u1") for name in _COLOUR]
        if "flow" in facts.outputs:
            fields += [(name, "<f4") for name in _FLOW]
        if "mask" in facts.outputs:
            fields.append(("motion_mask", "<f4"))
        if set(TASKS) & set(facts.outputs):
            fields.append(("label_id", "u1"))
        self._fields = fields

    def write(self, result: FrameResult) -> None:
        """Write the frame's points."""
        points = self._points(result)
        self.put(f"{result.frame.stem}.ply", self._header(result, len(points)) + points.tobytes())

    def describe(self) -> dict[str, Any]:
        """Return unit, intrinsics and limit."""
        return {**super().describe(), "max_depth": self._max_depth}

    def _points(self, result: FrameResult) -> np.ndarray:
        height, width = self.facts.info.height, self.facts.info.width
        size = self.facts.network_size or (height, width)
        depth = result.depth_at(size)
        if depth is None:
            return np.empty(0, self._fields)
        if self._max_depth is None:
            self._max_depth = MAX_MEDIANS * float(np.median(depth))
        K = resize_K(torch.from_numpy(self.facts.K).double(), (height, width), size)
        points = backproject(torch.from_numpy(depth)[None, None].double(), K[None])[0].numpy()
        colours = np.moveaxis(resize_image(result.frame.image, size), -1, 0)
        flow, mask = result.own_flow_at(size), result.motion_mask_at(size)
        unknown = np.full((3, *size), np.nan)
        layers = dict(zip(_POINT + _COLOUR, [*points, *colours], strict=True))
        layers |= zip(_FLOW, unknown if flow is None else flow, strict=True)
        layers["motion_mask"] = unknown[0] if mask is None else mask
        if result.seen is not None:
            layers["label_id"] = _label_ids(result.seen, size)
        near = depth <= self._max_depth
        cloud = np.empty(np.count_nonzero(near), self._fields)
        for name, _ in self._fields:
            cloud[name] = layers[name][near]
        return cloud

    def _header(self, result: FrameResult, count: int) -> bytes:
        lines = [
            "ply",
            "format binary_little_endian 1.0",
            "comment camera coordinates: x right, y down, z forward",
            f"comment unit: {self.facts.unit}; points up to z = {self._max_depth:.6g}",
            f"comment frame {result.frame.index}, {result.frame.time:.6f} s",
        ]
        if "flow" in self.facts.outputs:
            lines.append("comment own_flow: moved by itself since the previous frame, same axes")
        lines.append(f"element vertex {count}")
        lines += [f"property {_TYPES[kind]} {name}" for name, kind in self._fields]
        return "\n".join([*lines, "end_header", ""]).encode("ascii")


def _label_ids(seen: Seen, size: tuple[int, int]) -> np.ndarray:
    """Return the class of each pixel, `h w`, from the segmentation that says most; 0 for none."""
    maps = seen.maps(size)
    if "semantic" in maps:
        return maps["semantic"]
    if seen.segments is not None:
        ids, classes = maps["panoptic"], {s.id: s.category_id for s in seen.segments}
    else:
        ids, classes = maps["instance"], {one.id: one.label_id for one in seen.objects or ()}
    known, places = np.unique(ids, return_inverse=True)
    found = np.array([classes.get(i, 0) for i in known.tolist()], np.uint8)
    return found[places.reshape(ids.shape)]
