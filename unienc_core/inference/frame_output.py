"""What a network says of one frame."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, get_args

import cv2
import numpy as np
import torch

from unienc_core.errors import UsageError
from unienc_core.geometry.camera import disparity_to_depth
from unienc_core.presets import DepthSpec
from unienc_core.segmentation import Segmentation

Output = Literal["depth", "motion", "semantic", "instance", "panoptic"]
OUTPUTS: Final[tuple[Output, ...]] = get_args(Output)
"""What a network may have to say of a frame."""

DEPTH_AND_MOTION: Final[tuple[Output, ...]] = ("depth", "motion")

_MADE_FROM = {"depth": "disparity", "motion": "T_source_target"}


def outputs_of(keys: Collection[str]) -> tuple[Output, ...]:
    """Return what a network can say that makes these predictions."""
    return tuple(o for o in OUTPUTS if _MADE_FROM.get(o, "mask_logits") in keys)


def check_able(wanted: Collection[str], able: Collection[Output], name: str) -> None:
    """Check that a network can say what somebody wants.

    Args:
        wanted: Some of `OUTPUTS`.
        able: What the network can say.
        name: Its preset.

    Raises:
        UsageError: If not, naming the first that it cannot.
    """
    for output in OUTPUTS:
        if output in wanted and output not in able:
            what = output if output in DEPTH_AND_MOTION else f"{output} segmentation"
            has = ", ".join(able) or "nothing of the kind"
            raise UsageError(f"the network of '{name}' has no {what}; it has {has}")


@dataclass(frozen=True)
class FrameOutput:
    """What the network says about one frame.

    Attributes:
        disparity: `h w`, float32, 0..1, at the size the head works in; None if it was not asked
            for.
        depth_spec: How disparity becomes depth.
        size: (H, W) of the input image.
        T_previous_current: `4 4`, float64, X_previous = T X_current, translation in the unit of
            `depth`; None where there is no previous frame, or it was not asked for.
        segmentation: At the size of the input, with the tasks that were asked for. Its instances
            are those to show to people, whose class is probable.
    """

    disparity: np.ndarray | None
    depth_spec: DepthSpec
    size: tuple[int, int]
    T_previous_current: np.ndarray | None
    segmentation: Segmentation = Segmentation()

    @cached_property
    def depth(self) -> np.ndarray:
        """Depth at the size of the input, `H W`, float32, up to scale.

        Raises:
            UsageError: If it was not asked for.
        """
        return self.depth_at(self.size)

    def depth_at(self, size: tuple[int, int]) -> np.ndarray:
        """Return depth at another size (height, width), float32, up to scale.

        Disparity is what is interpolated: between a car and the sky lies no surface half way.

        Raises:
            UsageError: If it was not asked for.
        """
        if self.disparity is None:
            raise UsageError("depth is not among the outputs that this frame was decoded for")
        height, width = size
        full = cv2.resize(self.disparity, (width, height), interpolation=cv2.INTER_LINEAR)
        spec = self.depth_spec
        return disparity_to_depth(
            torch.from_numpy(full), spec.min, spec.max, spec.convention
        ).numpy()
