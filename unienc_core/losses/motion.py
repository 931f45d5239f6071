"""What keeps independent motion in bounds: L_c, L_m and L_g (Eq. 2, Nguyen et al.).

Scales go together as in `view_synthesis`; scale i (finest 0) is divided by 2^i, and the scales are
averaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from unienc_core.contracts import StepContext, Term, check_shape
from unienc_core.geometry.camera import (
    MIN_Z,
    backproject,
    depth_to_disparity,
    disparity_to_depth,
    project,
    resize_K,
    to_grid,
)
from unienc_core.geometry.ground import GroundPlane, fit_ground_plane
from unienc_core.geometry.precision import widen
from unienc_core.presets import DepthSpec
from unienc_core.registry import register
from unienc_core.view_synthesis import aligned, to_full_size

Threshold = Literal["image", "batch"]


@register("term", "consistency")
class Consistency(Term):
    """L_c: the complete flow of what does not move is the rigid one.

    Mean over pixels, axes and sources of [d > `min_disparity`] (1 - M) |F_C - F_R| at full size,
    d the disparity as the head predicts it. M is detached, or the mask would turn white to escape.

    Args:
        min_disparity: Beyond the depth of this disparity, where turning outweighs all else, nothing
            counts.
    """

    task = "motion"
    requires = ("independent_flow_scales", "motion_mask_scales", "disparity_scales")

    def __init__(self, *, min_disparity: float = 0.03) -> None:
        super().__init__()
        self.min_disparity = min_disparity

    def forward(self, values: Mapping[str, Any], context: StepContext) -> Tensor:
        """Return the loss of each sample, `B`."""
        losses: list[Tensor] = []
        scales = aligned(*(values[key] for key in self.requires))
        for i, (independent, mask, disparity) in enumerate(scales):
            sizes = check_shape(independent, "B S 3 H W", "independent_flow")
            full = to_full_size(disparity.detach(), (sizes["H"], sizes["W"])).unsqueeze(1)
            static = (1 - mask.detach()) * (full > self.min_disparity)
            losses.append((static * independent.abs()).mean((1, 2, 3, 4)) / 2**i)
        return torch.stack(losses).mean(0)


@register("term", "sparsity")
class Sparsity(Term):
    """L_m: cross-entropy of the mask's logits with 0 where both flows say nearly the same.

    These static pixels are told by the squared distance between where the rigid and the complete
    flow sample the source, in the grid's coordinates (-1..1): it is averaged over each pixel of
    the logits' own size, and lies below its mean. No gradient passes through it. Where a point is
    not in front of the source camera, nothing is known. A pair of images without any static pixel
    adds nothing.

    Args:
        threshold: The mean is that of each pair of images (``image``), or of the batch of all
            processes, each source for itself (``batch``), as in published code: there a still scene
            beside a busy one is all static.

    Attributes:
        logs: `static`, the share of static pixels of the last batch at the finest scale.
    """

    task = "motion"
    requires = (
        "motion_logits_scales",
        "depth_scales",
        "rigid_flow_scales",
        "independent_flow_scales",
        "K",
    )

    def __init__(self, *, threshold: Threshold = "image") -> None:
        super().__init__()
        self.threshold: Threshold = threshold

    def forward(self, values: Mapping[str, Any], context: StepContext) -> Tensor:
        """Return the loss of each sample, `B`."""
        losses: list[Tensor] = []
        scales = aligned(*(values[key] for key in self.requires[:-1]))
        for i, (logits, depth, rigid, independent) in enumerate(scales):
            logits = widen(logits)
            static = self._static(logits, depth, rigid, independent, values["K"], context)
            if i == 0:
                self.logs = {"static": static.to(logits.dtype).mean()}
            # The cross-entropy with 0 is softplus. Pairs without static pixels: 0 / 1.
            summed = torch.where(static, F.softplus(logits), 0.0).sum((2, 3, 4))
            means = summed / static.sum((2, 3, 4)).clamp(min=1)
            losses.append(means.mean(1) / 2**i)
        return torch.stack(losses).mean(0)

    @torch.no_grad()
    def _static(
        self,
        logits: Tensor,
        depth: Tensor,
        rigid: Tensor,
        independent: Tensor,
        K: Tensor,
        context: StepContext,
    ) -> Tensor:
        """Return which pixels are static, `B S 1 h w`, bool."""
        check_shape(logits, "B S 1 h w", "motion_logits", B=rigid.shape[0], S=rigid.shape[1])
        moved = backproject(depth, K).unsqueeze(1) + rigid
        distance, known = sampling_distance(moved, moved + independent, K)
        size = logits.shape[3:]
        distance = F.interpolate(torch.where(known, distance, 0.0).flatten(1, 2), size, mode="area")
        hidden = F.interpolate((~known).flatten(1, 2).to(distance), size, mode="area")
        distance, usable = distance.view_as(logits), (hidden == 0).view_as(logits)
        axes = (2, 3, 4) if self.threshold == "image" else (0, 2, 3, 4)
        summed = torch.where(usable, distance, 0.0).sum(axes, keepdim=True)
        count = usable.sum(axes, keepdim=True).to(summed)
        if self.threshold == "batch":
            summed, count = context.sum_over_processes(torch.stack((summed, count))).unbind()
        return usable & (distance < summed / count.clamp(min=1))


def sampling_distance(points: Tensor, others: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far apart two sets of points are sampled.

    Args:
        points: In the source camera's frame, `B S 3 H W`.
        others: The same.
        K: `B 3 3`, px.

    Returns:
        Squared distance in the grid's coordinates, `B S 1 H W`; and whether both points are in
        front of the camera, alike, bool.
    """
    sizes = check_shape(points, "B S 3 H W", "points")
    check_shape(others, "B S 3 H W", "others", **sizes)
    intrinsics = K.repeat_interleave(sizes["S"], 0)
    (pixels, z), (other_pixels, other_z) = (
        project(x.flatten(0, 1), intrinsics) for x in (points, others)
    )
    distance = (to_grid(pixels) - to_grid(other_pixels)).square().sum(3).unsqueeze(1)
    known = (z > MIN_Z) & (other_z > MIN_Z)
    shape = (sizes["B"], sizes["S"])
    return distance.unflatten(0, shape), known.unflatten(0, shape)


@register("term", "above_ground")
class AboveGround(Term):
    """L_g: nothing lies below the ground.

    Each scale finds the ground plane in its own depth, with intrinsics of its own size, and lowers
    it by what counts as lying on it. A pixel that lies farther away than the plane on its ray is
    below; the loss is the mean over all pixels of how much larger the disparity of the plane is
    there. The plane is detached. Where it is not within the depth range, and in images without a
    plane, nothing is lost.

    Args:
        tolerance: How far from the plane a point of the ground may lie, as a share of the plane's
            depth on its ray. Published code has 0.005 units of a depth of unknown scale.

    Attributes:
        logs: `found`, the share of images of the last batch with a plane at the finest scale.
    """

    task = "motion"
    requires = ("disparity_scales", "K", "depth_spec", "target_image")

    def __init__(self, *, tolerance: Annotated[float, Field(gt=0)] = 0.05) -> None:
        super().__init__()
        self.tolerance = tolerance

    def forward(self, values: Mapping[str, Any], context: StepContext) -> Tensor:
        """Return the loss of each sample, `B`."""
        sizes = check_shape(values["target_image"], "B 3 H W", "target_image")
        image_size = (sizes["H"], sizes["W"])
        losses: list[Tensor] = []
        for i, disparity in enumerate(values["disparity_scales"]):
            d = widen(disparity)
            own = check_shape(d, "B 1 h w", "disparity", B=sizes["B"])
            K = resize_K(values["K"], image_size, (own["h"], own["w"]))
            spec: DepthSpec = values["depth_spec"]
            ground, plane = self._ground_disparity(d, K, spec, context.generator_seed)
            if i == 0:
                self.logs = {"found": plane.found.to(d.dtype).mean()}
            losses.append((ground - d).clamp(min=0).mean((1, 2, 3)) / 2**i)
        return torch.stack(losses).mean(0)

    @torch.no_grad()
    def _ground_disparity(
        self, disparity: Tensor, K: Tensor, spec: DepthSpec, seed: int
    ) -> tuple[Tensor, GroundPlane]:
        """Return the disparity of the lowered plane, minus infinity where none is; and the plane.

        On the ray r of a pixel the plane n . P + h = 0 lies at depth -h / (n . r); what lies on it
        reaches `tolerance` farther.
        """
        depth = disparity_to_depth(disparity, spec.min, spec.max, spec.convention)
        plane = fit_ground_plane(backproject(depth, K), tolerance=self.tolerance, seed=seed)
        rays = backproject(torch.ones_like(depth), K)
        fall = -(plane.normal[:, :, None, None] * rays).sum(1, keepdim=True)
        lowest = (1 + self.tolerance) * plane.height[:, None, None, None]
        hit = plane.found[:, None, None, None] & (fall * spec.max >= lowest)
        ground = lowest / torch.where(hit, fall, 1.0)
        g = depth_to_disparity(ground, spec.min, spec.max, spec.convention)
        return torch.where(hit, g, -torch.inf), plane
