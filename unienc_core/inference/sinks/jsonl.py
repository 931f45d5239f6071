"""One line of JSON per frame."""

from __future__ import annotations

import json
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from unienc_core.inference.results import ClipFacts, FrameResult
from unienc_core.inference.rle import encode_map, encode_mask
from unienc_core.inference.seen import Seen, SeenObject
from unienc_core.inference.sinks.base import Sink

PERCENTILES = (5, 25, 50, 75, 95)


class JsonlSink(Sink):
    """Writes each line at once, so that a reader can follow and a kill loses none.

    Where flow or mask were asked for, ``moving`` holds the ``share`` of pixels that move, the mean
    length of their own flow (``mean_own_flow``, in the line's unit; without a mask head of all
    pixels) and the same a second (``mean_speed``, where times are known).

    Where steering was asked for, ``steering`` holds ``key`` and ``unit`` of its label, its
    ``value`` (left positive; null while too few frames were seen), and how many are ``missing``.

    Of segmentations, where asked for, a line holds ``segments`` (panoptic), ``instances`` and
    ``classes`` (semantic): lists with label id, name, area, the mask as COCO's RLE, and what else
    there is of ``id`` (which lasts along the clip), ``score`` and ``bbox`` (x, y, width, height).
    """

    suffix = ".jsonl"
    _file: FileIO | None = None

    def __init__(self, target: Path, facts: ClipFacts) -> None:
        super().__init__(target, facts)
        self._about_moving = bool({"flow", "mask"} & set(facts.outputs))

    def open(self) -> None:
        """Open the file."""
        self._file = FileIO(self.part, "w")

    def write(self, result: FrameResult) -> None:
        """Write the frame's line."""
        assert self._file is not None
        line = json.dumps(self._line(result), allow_nan=False).encode() + b"\n"
        while line:
            line = line[self._file.write(line) :]

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _line(self, result: FrameResult) -> dict[str, Any]:
        frame, motion = result.frame, result.T_previous_current
        seen = {} if result.seen is None else self._seen(result.seen)
        return {
            "index": frame.index,
            "pts": frame.pts,
            "time": round(frame.time, 6),
            "file": str(frame.path or self.facts.info.path),
            "unit": self.facts.unit,
            "depth": _percentiles(result),
            "scale": result.scale,
            "T_previous_current": None if motion is None else motion.tolist(),
            "lost_before": frame.num_lost,
            "damaged": frame.is_damaged,
            "cut": result.scene.is_cut,
            "black": result.scene.is_black,
            **({"moving": self._moving(result)} if self._about_moving else {}),
            **self._steering(result),
            **seen,
        }

    def _moving(self, result: FrameResult) -> dict[str, float | None]:
        moving, scale = result.moving, result.scale
        share = mean = speed = None
        if moving is not None:
            share = moving.share
            if moving.mean_own_flow is not None and scale is not None:
                mean = moving.mean_own_flow * scale
                speed = mean / moving.seconds if self.facts.info.is_timed else None
        return {"share": share, "mean_own_flow": mean, "mean_speed": speed}

    def _steering(self, result: FrameResult) -> dict[str, Any]:
        head, found = self.facts.steering, result.output.steering
        if head is None or found is None:
            return {}
        what = {**head.describe(), "value": found.value, "missing": found.num_missing}
        return {"steering": what}

    def _seen(self, seen: Seen) -> dict[str, Any]:
        """Return what the line says of segmentations."""
        made: dict[str, Any] = {}
        if seen.panoptic_ids is not None and seen.segments is not None:
            masks = encode_map(seen.panoptic_ids)
            made["segments"] = [
                {"id": s.id, **self._region(s.category_id, s.area, masks[s.id], seen.size)}
                for s in seen.segments
            ]
        if seen.objects is not None:
            made["instances"] = [self._instance(one, seen.size) for one in seen.objects]
        if seen.label_ids is not None:
            areas = np.bincount(seen.label_ids.reshape(-1)).tolist()
            made["classes"] = [
                self._region(label, areas[label], mask, seen.size)
                for label, mask in encode_map(seen.label_ids).items()
            ]
        return made

    def _instance(self, one: SeenObject, size: tuple[int, int]) -> dict[str, Any]:
        (top, left), (height, width) = one.corner, one.mask.shape
        area, mask = int(np.count_nonzero(one.mask)), encode_mask(one.full_mask(size))
        return {
            "id": one.id,
            "score": round(one.score, 4),
            "bbox": [left, top, width, height],
            **self._region(one.label_id, area, mask, size),
        }

    def _region(self, label: int, area: int, counts: str, size: tuple[int, int]) -> dict[str, Any]:
        return {
            "label_id": label,
            "class": self.facts.classes.by_id[label].name,
            "area": area,
            "mask": {"size": list(size), "counts": counts},
        }


def _percentiles(result: FrameResult) -> dict[str, float] | None:
    disparity = result.output.disparity
    if disparity is None:
        return None
    depth = result.depth_at((disparity.shape[0], disparity.shape[1]))
    if depth is None:
        return None
    values = np.percentile(depth, PERCENTILES)
    return {f"p{p}": round(float(v), 4) for p, v in zip(PERCENTILES, values, strict=True)}
