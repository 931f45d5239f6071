"""From depth up to scale to metres, frame by frame, for as long as a stream lasts."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch

from unienc_core.errors import UsageError
from unienc_core.geometry.camera import resize_K
from unienc_core.inference.frame_output import FrameOutput
from unienc_core.metrics.scale import Scale, scale_factor

SCALE_WINDOW = 25
"""Factors of which the median is taken: a second of video. One frame's ground plane jitters, and
the scale of a network's depth drifts slowly."""

METRES = "m"
UP_TO_SCALE = "up to scale"


def refuse_ground_truth(scale: Scale | None) -> None:
    """Check that a scale can be reached from a video alone.

    Raises:
        UsageError: If it needs ground truth.
    """
    if scale is not None and (scale.mode == "median" or scale.from_store):
        raise UsageError(
            f"--scale {scale}: there is no ground truth in a video; give camera_height=M (m) or "
            "factor=F"
        )


class RunningScale:
    """What the depth of each frame of a stream is multiplied by.

    With the camera's height, the factor is the median over the planes of the last frames that
    showed one. A frame without a plane keeps the factor of the frame before it.

    Args:
        scale: How to reach metres; None leaves depth up to scale.
        K: `3 3`, px, of an image of `size`.
        size: (H, W) of the stream's images.

    Attributes:
        K: `3 3`, float64, as given.
        unit: What depth is in.
        num_without_plane: Frames in which no ground plane was found.
        num_unknown: Frames before the first plane, for which no factor is known.
        factor: The newest factor; None while it is unknown.

    Raises:
        UsageError: If `scale` needs ground truth, which a video does not have.
    """

    def __init__(self, scale: Scale | None, K: np.ndarray, size: tuple[int, int]) -> None:
        refuse_ground_truth(scale)
        self._scale, self.K, self._size = scale, np.asarray(K, np.float64), size
        self._recent: deque[float] = deque(maxlen=SCALE_WINDOW)
        self.unit = UP_TO_SCALE if scale is None else METRES
        self.num_without_plane = self.num_unknown = 0
        self.factor: float | None = None
        if scale is None or scale.mode != "camera_height":
            self.factor = 1.0 if scale is None or scale.value is None else scale.value

    def update(self, output: FrameOutput, *, new_scene: bool, has_content: bool) -> float | None:
        """Take the next frame and return its factor; None while none is known.

        Args:
            output: What the network says of it.
            new_scene: Whether it follows a cut: then older planes no longer count.
            has_content: Whether it shows anything.
        """
        if self._scale is None or self._scale.mode != "camera_height":
            return self.factor
        if new_scene:
            self._recent.clear()
        found = self._from_plane(self._scale, output) if has_content else None
        if found is None:
            self.num_without_plane += 1
        else:
            self._recent.append(found)
            self.factor = float(np.median(self._recent))
        self.num_unknown += self.factor is None
        return self.factor

    def _from_plane(self, scale: Scale, output: FrameOutput) -> float | None:
        assert output.disparity is not None  # whoever asks for metres asks for depth
        size = output.disparity.shape[0], output.disparity.shape[1]
        K = resize_K(torch.from_numpy(self.K), self._size, size)
        return scale_factor(scale, output.depth_at(size), K)
