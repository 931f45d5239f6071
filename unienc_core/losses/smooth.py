"""Edge-aware smoothness: neighbours should agree unless the image has an edge between them."""

from __future__ import annotations

from collections.abc import Mapping
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


@register("term", "smooth")
class Smooth(Term):
    """Edge-aware smoothness of the disparity divided by its mean, at each scale's own size.

    The image is brought to the scale's size by area averaging. Scale i of the list (finest 0) is
    divided by 2^i; the scales are averaged.
    """

    requires = ("target_image", "disparity_scales")

    def forward(self, values: Mapping[str, Any], context: StepContext) -> Tensor:
        """Return the loss of each sample, `B`."""
        image = widen(values["target_image"])
        losses: list[Tensor] = []
        for i, disparity in enumerate(values["disparity_scales"]):
            d = widen(disparity)
            relative = d / (d.mean((2, 3), keepdim=True) + _EPSILON)
            small = F.interpolate(image, d.shape[2:], mode="area")
            losses.append(edge_aware_smoothness(relative, small) / 2**i)
        return torch.stack(losses).mean(0)
