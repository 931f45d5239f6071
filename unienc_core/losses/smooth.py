"""Edge-aware smoothness: neighbours should agree unless the image has an edge between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unienc_core.contracts import StepContext, Term, check_shape
from unienc_core.geometry.precision import widen
from unienc_core.registry import register

_EPSILON = 1e-7


def edge_aware_smoothness(maps: Tensor, image: Tensor) -> Tensor:
    """Mean |dx a| exp(-mean_c |dx I|), plus the same along y.

    Args:
        maps: The quantity a, `B C H W`.
        image: I, `B 3 H W`, 0..1.

    Returns:
        `B`: the mean over channels and pixel pairs.
    """
    sizes = check_shape(maps, "B C H W", "maps")
    check_shape(image, "B 3 H W", "image", B=sizes["B"], H=sizes["H"], W=sizes["W"])
    loss = maps.new_zeros(sizes["B"])
    for axis in (2, 3):
        edges = image.diff(dim=axis).abs().mean(1, keepdim=True)
        loss = loss + (maps.diff(dim=axis).abs() * torch.exp(-edges)).mean((1, 2, 3))
    return loss


def smoothness_of_scales(scales: Sequence[Tensor], image: Tensor) -> Tensor:
    """Edge-aware smoothness of each scale at its own size, finest first, over all its channels.

    The image is brought to the scale's size by area averaging. Scale i is divided by 2^i; the
    scales are averaged.

    Args:
        scales: `B C h w` each.
        image: `B 3 H W`, 0..1.

    Returns:
        `B`.
    """
    image = widen(image)
    losses: list[Tensor] = []
    for i, maps in enumerate(scales):
        small = F.interpolate(image, maps.shape[2:], mode="area")
        losses.append(edge_aware_smoothness(maps, small) / 2**i)
    return torch.stack(losses).mean(0)


@register("term", "smooth")
class Smooth(Term):
    """Edge-aware smoothness of the disparity divided by its mean; see `smoothness_of_scales`."""

    task = "views"
    requires = ("target_image", "disparity_scales")

    def forward(self, values: Mapping[str, Any], context: StepContext) -> Tensor:
        """Return the loss of each sample, `B`."""
        wide = [widen(disparity) for disparity in values["disparity_scales"]]
        relative = [d / (d.mean((2, 3), keepdim=True) + _EPSILON) for d in wide]
        return smoothness_of_scales(relative, values["target_image"])


@register("term", "flow_smooth")
class FlowSmooth(Term):
    """Edge-aware smoothness of the complete flow F_C as it is, mean over axes and sources.

    See `smoothness_of_scales`.
    """

    task = "motion"
    requires = ("target_image", "complete_flow_scales")

    def forward(self, values: Mapping[str, Any], context: StepContext) -> Tensor:
        """Return the loss of each sample, `B`."""
        flows = [widen(flow).flatten(1, 2) for flow in values["complete_flow_scales"]]
        return smoothness_of_scales(flows, values["target_image"])


@register("term", "mask_smooth")
class MaskSmooth(Term):
    """Edge-aware smoothness of the motion mask M, 0..1, mean over sources.

    See `smoothness_of_scales`.
    """

    task = "motion"
    requires = ("target_image", "motion_logits_scales")

    def forward(self, values: Mapping[str, Any], context: StepContext) -> Tensor:
        """Return the loss of each sample, `B`."""
        masks = [widen(mask).sigmoid().flatten(1, 2) for mask in values["motion_logits_scales"]]
        return smoothness_of_scales(masks, values["target_image"])
