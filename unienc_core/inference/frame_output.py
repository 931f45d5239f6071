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
from unienc_core.inference.scene_motion import SceneMotion
from unienc_core.inference.steering import Steering
from unienc_core.presets import DepthSpec
from unienc_core.segmentation import Segmentation
from unienc_core.sentences import TASKS

Output = Literal["depth", "motion", "flow", "mask", "semantic", "instance", "panoptic", "steering"]
OUTPUTS: Final[tuple[Output, ...]] = get_args(Output)
"""What a network may have to say of a frame; `motion` is the camera's, `flow` and `mask` are about
what moves by itself, `steering` is read off the last frames."""

DEPTH_AND_MOTION: Final[tuple[Output, ...]] = ("depth", "motion")

MOTION_KEYS: Final[dict[Output, tuple[str, ...]]] = {
    "motion": ("T_source_target",),
    "flow": ("T_source_target", "complete_flow"),
    "mask": ("motion_logits",),
}
"""The predictions behind what is said of two frames."""

_MADE_FROM: dict[Output, tuple[str, ...]] = {
    **MOTION_KEYS,
    "depth": ("disparity",),
    "flow": ("disparity", *MOTION_KEYS["flow"]),
    **dict.fromkeys(TASKS, ("mask_logits",)),
}
_CALLED: dict[Output, str] = {
    **{task: f"{task} segmentation" for task in TASKS},
    "flow": "scene flow",
    "mask": "motion mask",
}


def outputs_of(keys: Collection[str]) -> tuple[Output, ...]:
    """Return what a network can say that makes these predictions.

    Steering is not among it: that prediction bears the name of its label.
    """
    return tuple(o for o in OUTPUTS if o in _MADE_FROM and set(_MADE_FROM[o]) <= set(keys))


def usual_of(able: Collection[Output]) -> tuple[Output, ...]:
    """Return what a network says if nobody asks for anything else.

    Args:
        able: What it can say.

    Returns:
        Depth, and what there is of motion, flow, mask and steering; without depth, steering alone
        where there is some.
    """
    if "steering" in able and "depth" not in able:
        return ("steering",)
    return ("depth", *(o for o in OUTPUTS if o in able and o not in ("depth", *TASKS)))


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
            what = _CALLED.get(output, output)
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
        scene_motion: What moves by itself, at the network's size; None where there is no previous
            frame, where a head needs a next one and there is none, or it was not asked for.
        steering: Read off the last frames up to this one; None if it was not asked for.
    """

    disparity: np.ndarray | None
    depth_spec: DepthSpec
    size: tuple[int, int]
    T_previous_current: np.ndarray | None
    segmentation: Segmentation = Segmentation()
    scene_motion: SceneMotion | None = None
    steering: Steering | None = None

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

    @property
    def motion_mask(self) -> np.ndarray | None:
        """Probability that the point of a pixel moves by itself, `H W`, float32, or None."""
        return self._enlarged(None if self.scene_motion is None else self.scene_motion.mask)

    @property
    def complete_flow(self) -> np.ndarray | None:
        """F_C = X_previous - X_current, `3 H W`, float32, in the unit of `depth`, or None.

        Each point is in its own camera's axes (x right, y down, z forward), so that the camera's
        motion is part of it.
        """
        return self._enlarged(
            None if self.scene_motion is None else self.scene_motion.complete_flow
        )

    def independent_flow(self, K: np.ndarray) -> np.ndarray | None:
        """Return F_D, the complete flow less the rigid one, `3 H W`, float32, or None.

        Towards the previous frame, in its camera's axes, not masked; see `own_flow` for people.

        Args:
            K: `3 3`, px of the image.
        """
        motion = self.scene_motion
        return self._enlarged(None if motion is None else motion.independent_flow(K, self.size))

    def own_flow(self, K: np.ndarray) -> np.ndarray | None:
        """Return how far each point moved by itself since the previous frame, or None.

        `3 H W`, float32, in the unit of `depth`, in the axes of this frame's camera: x right, y
        down, z forward. It is - R^T M F_D, see `unienc_core.inference.scene_motion`.

        Args:
            K: `3 3`, px of the image.
        """
        motion = self.scene_motion
        return self._enlarged(None if motion is None else motion.own_flow(K, self.size))

    def _enlarged(self, values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else enlarge(values, self.size)


def enlarge(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Interpolate a map `... h w` bilinearly to another size (height, width)."""
    height, width = size
    if values.shape[-2:] == size:
        return values
    layers = values.reshape(-1, *values.shape[-2:])
    made = [cv2.resize(x, (width, height), interpolation=cv2.INTER_LINEAR) for x in layers]
    return np.stack(made).reshape(*values.shape[:-2], height, width)
