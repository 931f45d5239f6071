"""Raw arrays of each frame as NumPy archives."""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import Any

import numpy as np

from unienc_core.inference.frame_output import Output
from unienc_core.inference.results import FrameResult
from unienc_core.inference.sinks.base import FolderSink

NO_POSE = np.full((4, 4), np.nan)


def frame_arrays(
    result: FrameResult, size: tuple[int, int], outputs: Collection[Output]
) -> dict[str, Any]:
    """Return the arrays of a frame by name, its maps at a size; those not asked for are absent.

    Args:
        result: The frame.
        size: (height, width) of the maps.
        outputs: What was asked for.
    """
    arrays: dict[str, Any] = {}
    if result.output.disparity is not None:
        depth = result.depth if size == result.output.size else result.depth_at(size)
        arrays["depth"] = np.full(size, np.nan, np.float32) if depth is None else depth
        arrays["disparity"] = result.output.disparity
    motion = result.T_previous_current
    arrays["T_previous_current"] = NO_POSE if motion is None else motion
    if "flow" in outputs:
        flow = result.own_flow_at(size)
        arrays["own_flow"] = np.full((3, *size), np.nan, np.float32) if flow is None else flow
    if "mask" in outputs:
        mask = result.motion_mask_at(size)
        arrays["motion_mask"] = np.full(size, np.nan, np.float32) if mask is None else mask
    if "steering" in outputs:
        arrays["steering"] = np.float64(np.nan if result.steering is None else result.steering)
    return arrays if result.seen is None else arrays | result.seen.maps(size)


class NpzSink(FolderSink):
    """One archive per frame.

    It holds ``depth`` (`H W`, float32, the frame's size, the clip's unit), ``disparity`` (`h w`,
    float32, 0..1, as the network gives it), ``T_previous_current`` (`4 4`, float64, translation in
    the unit of depth), ``own_flow`` (`3 H W`, float32, how far each point moved by itself since the
    previous frame, in the unit of depth, see `unienc_core.inference.scene_motion`) and
    ``motion_mask`` (`H W`, float32, 0..1), and ``steering`` (a number, float64, left positive; its
    label and unit stand in the folder's ``unienc.json``). What is unknown is NaN. Of segmentations
    it holds ``panoptic`` and ``instance`` (`H W`, int32, ids, 0 where there is none) and
    ``semantic`` (`H W`, uint8, label ids). What was not asked for is absent.
    """

    suffix = "_npz"

    def describe(self) -> dict[str, Any]:
        """Return unit, intrinsics, and what steering means."""
        head = self.facts.steering
        return super().describe() | ({} if head is None else {"steering": head.describe()})

    def write(self, result: FrameResult) -> None:
        """Write the frame's arrays."""
        height, width = result.frame.image.shape[:2]
        buffer = io.BytesIO()
        np.savez(buffer, **frame_arrays(result, (height, width), self.facts.outputs))
        self.put(f"{result.frame.stem}.npz", buffer.getvalue())
