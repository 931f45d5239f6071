"""Raw arrays of each frame as NumPy archives."""

from __future__ import annotations

import io

import numpy as np

from unienc_core.inference.results import FrameResult
from unienc_core.inference.sinks.base import FolderSink

NO_POSE = np.full((4, 4), np.nan)


class NpzSink(FolderSink):
    """One archive per frame.

    It holds ``depth`` (`H W`, float32, the frame's size, the clip's unit), ``disparity`` (`h w`,
    float32, 0..1, as the network gives it) and ``T_previous_current`` (`4 4`, float64, translation
    in the unit of depth). What is unknown is NaN.
    """

    suffix = "_npz"

    def write(self, result: FrameResult) -> None:
        """Write the frame's arrays."""
        depth, motion = result.depth, result.T_previous_current
        if depth is None:
            depth = np.full(result.frame.image.shape[:2], np.nan, np.float32)
        buffer = io.BytesIO()
        np.savez(
            buffer,
            depth=depth,
            disparity=result.output.disparity,
            T_previous_current=NO_POSE if motion is None else motion,
        )
        self.put(f"{result.frame.stem}.npz", buffer.getvalue())
