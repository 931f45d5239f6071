"""What moves in a frame of a clip, kept small: many frames wait between the stages."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from unienc_core.inference.frame_output import FrameOutput, Output
from unienc_core.inference.scene_motion import MOVES


@dataclass(frozen=True)
class Moving:
    """The own flow and the motion mask of a frame, at the network's size; what is None is unknown.

    Attributes:
        own_flow: `3 h w`, float32, up to scale, as `unienc_core.inference.scene_motion` says.
        mask: `h w`, float32, 0..1.
        seconds: Since the previous frame.
        share: Of pixels that move.
        mean_own_flow: Mean length of the own flow, up to scale: over the pixels that move (None if
            there are none), or without a mask head over all.
    """

    own_flow: np.ndarray | None
    mask: np.ndarray | None
    seconds: float
    share: float | None
    mean_own_flow: float | None

    @classmethod
    def of(
        cls, output: FrameOutput, K: np.ndarray, seconds: float, wanted: Collection[Output]
    ) -> Moving | None:
        """Keep what was asked for; None where the network says nothing.

        Args:
            output: Of the frame.
            K: `3 3`, px of the picture.
            seconds: Since the previous frame.
            wanted: What was asked for.
        """
        motion = output.scene_motion
        if motion is None:
            return None
        own_flow = motion.own_flow(K, output.size)
        moves = None if motion.mask is None else motion.mask > MOVES
        mean = None
        if own_flow is not None:
            lengths = np.linalg.norm(own_flow, axis=0)
            lengths = lengths if moves is None else lengths[moves]
            mean = float(lengths.mean()) if lengths.size else None
        return cls(
            own_flow,
            motion.mask if "mask" in wanted else None,
            seconds,
            None if moves is None else float(moves.mean()),
            mean,
        )
