"""Raw arrays of each frame as NumPy archives."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from unienc_core.inference.results import FrameResult
from unienc_core.inference.sinks.base import FolderSink

NO_POSE = np.full((4, 4), np.nan)


def frame_arrays(result: FrameResult, size: tuple[int, int]) -> dict[str, Any]:
    """Return the arrays of a frame by name, its maps at a size; those not asked for are absent."""
    arrays: dict[str, Any] = {}
    if result.output.disparity is not None:
        depth = result.depth if size == result.output.size else result.depth_at(size)
        arrays["depth"] = np.full(size, np.nan, np.float32) if depth is None else depth
        arrays["disparity"] = result.output.disparity
    motion = result.T_previous_current
    arrays["T_previous_current"] = NO_POSE if motion is None else motion
    return arrays if result.seen is None else arrays | result.seen.maps(size)


class NpzSink(FolderSink):
    """One archive per frame.

    It holds ``depth`` (`H W`, float32, the frame's size, the clip's unit), ``disparity`` (`h w`,
    float32, 0..1, as the network gives it) and ``T_previous_current`` (`4 4`, float64, translation
    in the unit of depth). What is unknown is NaN. Of segmentations it holds ``panoptic`` and
    ``instance`` (`H W`, int32, ids, 0 where there is none) and ``semantic`` (`H W`, uint8, label
    ids). What was not asked for is absent.
    """

    suffix = "_npz"

    def write(self, result: FrameResult) -> None:
        """Write the frame's arrays."""
        height, width = result.frame.image.shape[:2]
        buffer = io.BytesIO()
        np.savez(buffer, **frame_arrays(result, (height, width)))
        self.put(f"{result.frame.stem}.npz", buffer.getvalue())
