"""A source as the camera's own motion brings it onto the target's pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from unienc_core.contracts import NodeInputs
from unienc_core.geometry.camera import (
    Size,
    backproject,
    disparity_to_depth,
    project,
    resize_K,
    sample,
    to_grid,
)
from unienc_core.geometry.flow import rigid_flow
from unienc_core.geometry.precision import widen
from unienc_core.geometry.se3 import transform
from unienc_core.presets import DepthSpec


class EgoAlignment:
    """What depth and camera motion say of each pair; no gradient passes into either.

    Args:
        inputs: Of a node that sees pairs (source, target), with `VALUES`.
        depth_spec: How disparity becomes depth.
    """

    VALUES = ("disparity", "T_source_target", "K")

    def __init__(self, inputs: NodeInputs, depth_spec: DepthSpec) -> None:
        disparity, T_source_target, K = (widen(inputs.values[key]).detach() for key in self.VALUES)
        self._size: Size = (inputs.images.shape[2], inputs.images.shape[3])
        self._T_source_target = T_source_target
        self._K = K.repeat_interleave(len(disparity) // len(K), 0)  # a batch's K is one per target
        self._spec = depth_spec
        self._disparity = disparity

    @property
    def rigid_flow(self) -> Tensor:
        """F_R = T P - P, `M 3 H W`."""
        return rigid_flow(self._depth(self._size), self._K, self._T_source_target)

    def __call__(self, pair: Tensor) -> Tensor:
        """Return (source, target), `M 2C h w`, with the source sampled where it shows the target.

        Each size has its own intrinsics and depth; outside the source its border repeats.
        """
        source, target = pair.chunk(2, 1)
        size = (pair.shape[2], pair.shape[3])
        return torch.cat([sample(source, self._grid(size).to(source.dtype)), target], 1)

    @torch.no_grad()
    def _grid(self, size: Size) -> Tensor:
        K = resize_K(self._K, self._size, size)
        points = transform(self._T_source_target, backproject(self._depth(size), K))
        return to_grid(project(points, K)[0])

    def _depth(self, size: Size) -> Tensor:
        disparity = F.interpolate(
            self._disparity, size, mode="bilinear", align_corners=False, antialias=True
        )
        spec = self._spec
        return disparity_to_depth(disparity, spec.min, spec.max, spec.convention)
