"""What moves by itself between two frames.

A pair is (source, target) = (previous, current), so a network speaks of the way back in time: with
P the point of a pixel of the current frame, F_C = X_previous - P, each point in its own camera's
axes, and the independent flow is F_D = F_C - F_R, rigid flow taken off (`view_synthesis`).

People look forwards in time. So what is drawn, saved and counted is the *own flow*: how far the
point of each pixel has moved by itself since the previous frame, in the axes of the current camera
(x right, y down, z forward),

    own flow = - R^T M F_D,        R the rotation of T_previous_current, M the motion mask:

minus the paper's F_I, turned into the current camera. It is zero for everything that stands,
whatever the camera does, and points ahead for a car that drives away. Without a mask head M is 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from unienc_core.geometry.camera import Size, resize_K
from unienc_core.presets import DepthSpec
from unienc_core.view_synthesis import synthesise

MOVES = 0.5
"""From which value of the motion mask on a point is said to move."""


@dataclass(frozen=True)
class SceneMotion:
    """How a network sees the points of a frame move since the frame before, at its own size.

    Attributes:
        mask: Motion mask M, `h w`, float32, 0..1; None if nobody needs it, or there is no head.
        complete_flow: F_C, `3 h w`, float32, in the unit of depth; None likewise.
        disparity: Of the frame, `h' w'`; there with `complete_flow`.
        T_previous_current: `4 4`, float64; there with `complete_flow`.
        depth_spec: How disparity becomes depth.
    """

    mask: np.ndarray | None
    complete_flow: np.ndarray | None
    disparity: np.ndarray | None
    T_previous_current: np.ndarray | None
    depth_spec: DepthSpec

    def independent_flow(self, K: np.ndarray, size: Size) -> np.ndarray | None:
        """Return F_D = F_C - F_R, `3 h w`, float32; None without a scene flow.

        All is at the network's size, as in training, where flow and depth have their edges in the
        same places.

        Args:
            K: `3 3`, px of the picture.
            size: (H, W) of the picture.
        """
        if self.complete_flow is None or self.disparity is None or self.T_previous_current is None:
            return None
        h, w = self.complete_flow.shape[1:]
        values = {
            "disparity_scales": [torch.from_numpy(self.disparity)[None, None]],
            "complete_flow_scales": [torch.from_numpy(self.complete_flow)[None, None]],
            "T_source_target": torch.from_numpy(self.T_previous_current).float()[None, None],
            "K": resize_K(torch.as_tensor(K).double(), size, (h, w)).float()[None],
        }
        made = synthesise(values, "ego", self.depth_spec, (h, w), wanted=("independent_flow",))
        return made["independent_flow"][0, 0].numpy()

    def own_flow(self, K: np.ndarray, size: Size) -> np.ndarray | None:
        """Return how far each point moved by itself, - R^T M F_D; `3 h w`, float32, or None.

        Args:
            K: `3 3`, px of the picture.
            size: (H, W) of the picture.
        """
        independent = self.independent_flow(K, size)
        if independent is None or self.T_previous_current is None:
            return None
        moved = independent if self.mask is None else self.mask * independent
        back = self.T_previous_current[:3, :3].T.astype(np.float32)
        return -np.einsum("ij,jhw->ihw", back, moved)
