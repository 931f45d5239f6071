"""What a student takes over from its teacher: L_distil (Eq. 3, Nguyen et al.).

    L_distil = b1 ||F_teacher - F_student||_1 + b2 ||M_teacher - M_student||_1

F is the complete flow, M the motion mask, the norms are means, and b1 and b2 are the weights that a
preset gives the two terms. Scale i (finest 0) is divided by 2^i, and the scales that both networks
have are averaged, as with every other term.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from unienc_core.contracts import TEACHER, StepContext, Term, check_shape
from unienc_core.geometry.precision import widen
from unienc_core.registry import register
from unienc_core.view_synthesis import to_full_size

Unit = Literal["as_is", "depth"]


@register("term", "distil_flow")
class DistilFlow(Term):
    """||F_teacher - F_student||_1, mean over pixels, axes and sources, in the student's unit.

    Args:
        unit: Learnt from video alone, depth and flow have a unit of their own in each network.
            ``as_is`` compares the flows as they are, as the paper has it. ``depth`` multiplies the
            teacher's by the ratio of the median depths of the image, student's over teacher's, so
            that both are in the student's unit. No gradient passes through the ratio.

    Attributes:
        logs: With `depth`, `unit`: that ratio, mean over the last batch.
    """

    task = "distillation"

    def __init__(self, *, unit: Unit = "as_is") -> None:
        super().__init__()
        self.unit: Unit = unit
        read = ("complete_flow_scales",) if unit == "as_is" else ("complete_flow_scales", "depth")
        self.requires = (*read, *(TEACHER + key for key in read))

    def forward(self, values: Mapping[str, Any], context: StepContext) -> Tensor:
        """Return the loss of each sample, `B`."""
        taught = [widen(flow) for flow in values[f"{TEACHER}complete_flow_scales"]]
        if self.unit == "depth":
            ratio = _median(values["depth"]) / _median(values[f"{TEACHER}depth"])
            self.logs = {"unit": ratio.mean()}
            taught = [ratio[:, None, None, None, None] * flow for flow in taught]
        return distance_of_scales([widen(f) for f in values["complete_flow_scales"]], taught)


@register("term", "distil_mask")
class DistilMask(Term):
    """||M_teacher - M_student||_1, mean over pixels and sources, of probabilities (0..1)."""

    task = "distillation"
    requires = ("motion_logits_scales", f"{TEACHER}motion_logits_scales")

    def forward(self, values: Mapping[str, Any], context: StepContext) -> Tensor:
        """Return the loss of each sample, `B`."""
        ours, taught = ([widen(x).sigmoid() for x in values[key]] for key in self.requires)
        return distance_of_scales(ours, taught)


def distance_of_scales(scales: Sequence[Tensor], taught: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of each scale that both have, divided by 2^i; their mean.

    Args:
        scales: The student's maps, `B S C h w` each, finest first.
        taught: The teacher's, of any size: each is brought to that of the student's. Detached.

    Returns:
        `B`.
    """
    losses: list[Tensor] = []
    for i, (own, other) in enumerate(zip(scales, taught, strict=False)):
        sizes = check_shape(own, "B S C h w", "maps")
        check_shape(other, "B S C H W", "the teacher's maps", **{k: sizes[k] for k in "BSC"})
        other = _resized(other.detach(), (sizes["h"], sizes["w"]))
        losses.append((own - other).abs().mean((1, 2, 3, 4)) / 2**i)
    return torch.stack(losses).mean(0)


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring `B S C h w` to another size: bilinearly, or by the means of areas where it shrinks."""
    if maps.shape[-1] <= size[1]:
        return to_full_size(maps, size)
    small = F.interpolate(maps.flatten(1, 2), size, mode="area")
    return small.unflatten(1, maps.shape[1:3])


def _median(depth: Tensor) -> Tensor:
    return widen(depth.detach()).flatten(1).median(1).values
