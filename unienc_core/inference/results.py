"""What is known of one frame when it leaves the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from unienc_core.inference.frames import Frame, SourceInfo
from unienc_core.inference.predictor import FrameOutput
from unienc_core.inference.scene import Scene


@dataclass(frozen=True)
class ClipFacts:
    """What holds for a whole clip.

    Attributes:
        info: The source.
        K: `3 3`, px of the source.
        unit: Unit of depth and translation: ``m``, or ``up to scale``.
        title: What made the predictions, for people.
    """

    info: SourceInfo
    K: np.ndarray
    unit: str
    title: str


@dataclass(frozen=True)
class FrameResult:
    """One frame, what the network says of it, and in which unit.

    Attributes:
        frame: The picture and its time.
        output: As the network gives it.
        scale: What its depth and translation are multiplied by; None where that is unknown.
        scene: What is new in it.
        picture: The annotated picture, `H W 3`, uint8, RGB, where somebody wants one.
    """

    frame: Frame
    output: FrameOutput
    scale: float | None
    scene: Scene
    picture: np.ndarray | None = None

    @cached_property
    def depth(self) -> np.ndarray | None:
        """Depth at the frame's size, `H W`, float32; None where the scale is unknown."""
        height, width = self.frame.image.shape[:2]
        return self.depth_at((height, width))

    def depth_at(self, size: tuple[int, int]) -> np.ndarray | None:
        """Return depth at a size (height, width), float32; None where the scale is unknown."""
        if self.scale is None:
            return None
        return self.output.depth_at(size) * np.float32(self.scale)

    @cached_property
    def T_previous_current(self) -> np.ndarray | None:
        """`4 4`, translation in the unit of depth; None without a previous frame or a scale."""
        motion = self.output.T_previous_current
        if motion is None or self.scale is None:
            return None
        scaled = motion.copy()
        scaled[:3, 3] *= self.scale
        return scaled
