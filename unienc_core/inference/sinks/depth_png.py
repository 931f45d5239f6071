"""Depth as 16-bit PNG, depth x 256, as KITTI stores it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unienc_core.inference.results import ClipFacts, FrameResult
from unienc_core.inference.sinks.base import FolderSink

PNG_SCALE = 256.0
"""A 16-bit PNG holds depth (or disparity) times this; 0 is unknown."""

_LARGEST = 65535
_COARSE = 50
"""Below this value rounding changes depth by more than 1%."""

_COMPRESSION = 1  # depth is smooth: more effort saves a few percent


class DepthPngSink(FolderSink):
    """One PNG per frame: depth x 256, in the clip's unit; 0 is unknown.

    Depth that does not fit is cut to 1/256 or 65535/256 and counted; so is depth that is too small
    for the format's steps, as depth up to scale may be.
    """

    suffix = "_depth"

    def __init__(self, target: Path, facts: ClipFacts) -> None:
        super().__init__(target, facts)
        self._num_frames = self._num_saturated = self._num_coarse = 0

    def write(self, result: FrameResult) -> None:
        """Write the frame's depth at the frame's size."""
        depth = result.depth
        if depth is None:
            values = np.zeros(result.frame.image.shape[:2], np.uint16)
        else:
            wanted = np.round(depth.astype(np.float64) * PNG_SCALE)
            self._num_saturated += int(np.count_nonzero((wanted < 1) | (wanted > _LARGEST)))
            self._num_coarse += int(np.count_nonzero(wanted < _COARSE))
            values = wanted.clip(1, _LARGEST).astype(np.uint16)
        encoded = cv2.imencode(".png", values, [cv2.IMWRITE_PNG_COMPRESSION, _COMPRESSION])[1]
        self.put(f"{result.frame.stem}.png", encoded.tobytes())
        self._num_frames += 1

    def describe(self) -> dict[str, Any]:
        """Return unit, scale and counts."""
        return {
            **super().describe(),
            "png_scale": PNG_SCALE,
            "num_frames": self._num_frames,
            "num_saturated": self._num_saturated,
            "num_coarse": self._num_coarse,
        }

    def report(self) -> dict[str, Any]:
        """Return how many pixels did not fit, or only roughly."""
        return {"saturated_pixels": self._num_saturated, "coarse_pixels": self._num_coarse}
