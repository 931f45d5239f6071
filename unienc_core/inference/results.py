"""What is known of one frame when it leaves the pipeline."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from unienc_core.class_tables import ClassTable, cityscapes_table
from unienc_core.inference.frame_output import DEPTH_AND_MOTION, FrameOutput, Output, enlarge
from unienc_core.inference.frames import Frame, SourceInfo
from unienc_core.inference.moving import Moving
from unienc_core.inference.road_path import RoadPath
from unienc_core.inference.scene import Scene
from unienc_core.inference.seen import Seen
from unienc_core.inference.steering import SteeringHead


@dataclass(frozen=True)
class ClipFacts:
    """What holds for a whole clip.

    Attributes:
        info: The source.
        K: `3 3`, px of the source.
        unit: Unit of depth and translation: ``m``, or ``up to scale``.
        title: What made the predictions, for people.
        outputs: What is predicted.
        classes: What label ids mean.
        network_size: (h, w) that the network works at; None for that of the source.
        max_depth: Farthest point of point clouds, in `unit`; None for what suits them.
        steering: What the steering of `outputs` is; None without.
        road_path: How it is laid on the road; None for no path.
    """

    info: SourceInfo
    K: np.ndarray
    unit: str
    title: str
    outputs: tuple[Output, ...] = DEPTH_AND_MOTION
    classes: ClassTable = field(default_factory=cityscapes_table)
    network_size: tuple[int, int] | None = None
    max_depth: float | None = None
    steering: SteeringHead | None = None
    road_path: RoadPath | None = None


@dataclass(frozen=True)
class FrameResult:
    """One frame, what the network says of it, and in which unit.

    Attributes:
        frame: The picture and its time.
        output: As the network gives it, without its segmentation and scene motion.
        scale: What its depth, translation and flow are multiplied by; None where that is unknown.
        scene: What is new in it.
        picture: The annotated picture, `H W 3`, uint8, RGB, where somebody wants one.
        seen: Its segmentation, with ids that last along the clip; None if none was asked for.
        moving: What moves by itself; None where nothing is known of it.
    """

    frame: Frame
    output: FrameOutput
    scale: float | None
    scene: Scene
    picture: np.ndarray | None = None
    seen: Seen | None = None
    moving: Moving | None = None

    @cached_property
    def depth(self) -> np.ndarray | None:
        """Depth at the frame's size, `H W`, float32; None where it is unknown, or its scale is."""
        height, width = self.frame.image.shape[:2]
        return self.depth_at((height, width))

    def depth_at(self, size: tuple[int, int]) -> np.ndarray | None:
        """Return depth at a size (height, width), float32; None where it is unknown."""
        if self.scale is None or self.output.disparity is None:
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

    @property
    def steering(self) -> float | None:
        """In the unit of the label, left positive; None while too few frames were seen."""
        return None if self.output.steering is None else self.output.steering.value

    def own_flow_at(self, size: tuple[int, int]) -> np.ndarray | None:
        """Return the own flow at a size, `3 h w`, float32, in the unit of depth; None if unknown.

        See `unienc_core.inference.scene_motion` for what it is.
        """
        if self.moving is None or self.moving.own_flow is None or self.scale is None:
            return None
        return enlarge(self.moving.own_flow, size) * np.float32(self.scale)

    def motion_mask_at(self, size: tuple[int, int]) -> np.ndarray | None:
        """Return the motion mask at a size, `h w`, float32, 0..1; None if unknown."""
        if self.moving is None or self.moving.mask is None:
            return None
        return enlarge(self.moving.mask, size)
