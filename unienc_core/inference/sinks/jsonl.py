"""One line of JSON per frame."""

from __future__ import annotations

import json
from io import FileIO
from typing import Any

import numpy as np

from unienc_core.inference.results import FrameResult
from unienc_core.inference.sinks.base import Sink

PERCENTILES = (5, 25, 50, 75, 95)


class JsonlSink(Sink):
    """Writes each line at once, so that a reader can follow and a kill loses none."""

    suffix = ".jsonl"
    _file: FileIO | None = None

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
        }


def _percentiles(result: FrameResult) -> dict[str, float] | None:
    shape = result.output.disparity.shape
    depth = result.depth_at((shape[0], shape[1]))
    if depth is None:
        return None
    values = np.percentile(depth, PERCENTILES)
    return {f"p{p}": round(float(v), 4) for p, v in zip(PERCENTILES, values, strict=True)}
