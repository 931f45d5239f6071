"""From predictions and batch to depth, scene motion and warped views (Fig. 2e, Nguyen et al.).

With P the point of a target pixel and T_{t->s} the camera's motion, all at full size:

    F_R = T P - P                  rigid flow: what the camera's motion does to static points
    F_D = F_C - F_R                independent flow: complete less rigid
    F_F = F_R + M F_D              final flow, M the motion mask

The paper's F_I is M F_D; here `independent_flow` is F_D, as it is in ground truth. Nothing is
detached here: the gradient of a warped view reaches all that its points are made from. Elsewhere
are detached: the pose where a motion head takes it in; M in the consistency term L_c; both flows
where the sparsity term L_m tells static pixels; the plane in the above-ground term L_g.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unienc_core.contracts import check_shape
from unienc_core.errors import WiringError
from unienc_core.geometry.camera import Size, backproject, disparity_to_depth
from unienc_core.geometry.precision import widen
from unienc_core.geometry.warp import move, warp_ego, warp_points
from unienc_core.presets import DepthSpec
from unienc_core.specs import Compose, Warp

_DEPTH = ("disparity_scales",)
_MASK = ("motion_logits_scales",)
_FLOW = ("complete_flow_scales",)
_RIGID = ("K", "disparity_scales", "T_source_target")
_POINTS: dict[Warp, tuple[str, ...]] = {
    "ego": _RIGID,
    "complete": ("K", "disparity_scales", *_FLOW),
    "final": (*_RIGID, *_FLOW, *_MASK),
}
_MAPS: dict[str, tuple[str, ...]] = {
    "depth": _DEPTH,
    "motion_mask": _MASK,
    "rigid_flow": _RIGID,
    "independent_flow": (*_RIGID, *_FLOW),
    "final_flow": _POINTS["final"],
}
_HEADS = {_FLOW[0]: "a scene flow head", _MASK[0]: "a motion mask head"}


def made_from(warp: Warp) -> dict[str, tuple[str, ...]]:
    """Return what `synthesise` adds, and the batch or prediction keys that each is made from.

    Args:
        warp: Decides what warped views are made from: ``complete`` needs the complete flow in place
            of the camera's motion, ``final`` both and the motion mask.
    """
    views = ("source_images", *_POINTS[warp])
    single = {**_MAPS, "warped": views, "in_view": views}
    scales = {f"{name}_scales": keys for name, keys in single.items()}
    return {**single, **scales, "depth_spec": _DEPTH}


def check_warp(warp: Warp, produces: Collection[str]) -> None:
    """Check that views can be warped so.

    Args:
        warp: Which points are projected.
        produces: What the network predicts.

    Raises:
        WiringError: If no head predicts what `warp` needs beside depth and pose.
    """
    lacking = [key for key in _HEADS if key in _POINTS[warp] and key not in produces]
    if lacking:
        heads = " and ".join(_HEADS[key] for key in lacking)
        raise WiringError(
            f"warp '{warp}' needs {heads}, since nothing makes {' or '.join(lacking)}; add to "
            "network.heads, or use 'ego'"
        )


def synthesise(
    values: Mapping[str, Any],
    warp: Warp,
    depth_spec: DepthSpec,
    image_size: Size,
    *,
    compose: Compose = "add_independent",
    wanted: Collection[str] | None = None,
) -> dict[str, Any]:
    """Add depth, scene motion and the source views warped onto the target.

    Every scale of a prediction is brought to full size first, so that all algebra and warping
    happens there. Scale i of one list goes with scale i of the others; where depth, flow and mask
    have different numbers of scales, the coarsest of the shorter list goes with those beyond it, so
    that every scale of every head is used. What a stream lacks the keys for (see `made_from`) is
    left out: a stream of labels has no source images.

    Args:
        values: Batch and predictions of one stream: `disparity_scales` (`B 1 h w` each),
            `complete_flow_scales` (`B S 3 h w`), `motion_logits_scales` (`B S 1 h w`),
            `source_images` (`B S 3 H W`), `K` (`B 3 3`), `T_source_target` (`B S 4 4`).
        warp: Which points are projected into the source. ``ego``: T P. ``complete``: P + F_C.
            ``final``: P + F_F.
        depth_spec: How disparity becomes depth.
        image_size: Full size (H, W).
        compose: How F_F is put together. ``add_independent``: F_R + M F_D. ``rotate_independent``:
            the point moves by itself first and with the camera then, T (P + M F_D) - P, so that
            M F_D is rotated.
        wanted: What shall be made of it; all that can be, if not given.

    Returns:
        `values` and, one entry per scale, finest first: `depth_scales` (`B 1 H W`),
        `motion_mask_scales` (`B S 1 H W`, 0..1), `rigid_flow_scales`, `independent_flow_scales`,
        `final_flow_scales` and `warped_scales` (`B S 3 H W`), `in_view_scales` (`B S 1 H W`, bool:
        the source shows that point). The finest of each lies under `depth`, `warped`, ... too; and
        `depth_spec` under its name.
    """
    scene = _Scene(values, warp, depth_spec, image_size, compose)
    added = dict(values)
    for key, sources in made_from(warp).items():
        asked = wanted is None or key in wanted or f"{key}_scales" in wanted
        if asked and all(source in values for source in sources):
            made = getattr(scene, key.removesuffix("_scales"))
            added[key] = made[0] if key in (*_MAPS, "warped", "in_view") else made
    return added


class _Scene:
    """What can be made of one stream, each part when it is first asked for; lists of scales."""

    def __init__(
        self,
        values: Mapping[str, Any],
        warp: Warp,
        depth_spec: DepthSpec,
        image_size: Size,
        compose: Compose,
    ) -> None:
        self._values, self._warp, self._size, self._compose = values, warp, image_size, compose
        self.depth_spec = depth_spec

    @cached_property
    def depth(self) -> list[Tensor]:
        return full_size_depths(self._values["disparity_scales"], self.depth_spec, self._size)

    @cached_property
    def motion_mask(self) -> list[Tensor]:
        masks = self._values["motion_logits_scales"]
        for mask in masks:
            check_shape(mask, "B S 1 h w", "motion_logits")
        return [to_full_size(widen(mask).sigmoid(), self._size) for mask in masks]

    @cached_property
    def rigid_flow(self) -> list[Tensor]:
        T_source_target = self._values["T_source_target"]
        return [move(T_source_target, points) - points for points in self._points]

    @cached_property
    def independent_flow(self) -> list[Tensor]:
        pairs = aligned(self._complete_flow, self.rigid_flow)
        return [complete - rigid for complete, rigid in pairs]

    @cached_property
    def final_flow(self) -> list[Tensor]:
        T_source_target, flows = self._values["T_source_target"], []
        for rigid, independent, mask in aligned(
            self.rigid_flow, self.independent_flow, self.motion_mask
        ):
            own = mask * independent
            if self._compose == "rotate_independent":
                own = move(_rotation_only(T_source_target), own)
            flows.append(rigid + own)
        return flows

    @property
    def warped(self) -> list[Tensor]:
        return [view for view, _ in self._views]

    @property
    def in_view(self) -> list[Tensor]:
        return [seen for _, seen in self._views]

    @cached_property
    def _points(self) -> list[Tensor]:
        """The points of the target's pixels, one copy for all sources, `B 1 3 H W`."""
        return [backproject(depth, self._values["K"]).unsqueeze(1) for depth in self.depth]

    @cached_property
    def _complete_flow(self) -> list[Tensor]:
        flows = self._values["complete_flow_scales"]
        for flow in flows:
            check_shape(flow, "B S 3 h w", "complete_flow")
        return [to_full_size(flow, self._size) for flow in flows]

    @cached_property
    def _views(self) -> list[tuple[Tensor, Tensor]]:
        sources, K = self._values["source_images"], self._values["K"]
        H, W = self._size
        check_shape(sources, "B S 3 H W", "source_images", H=H, W=W)
        if self._warp == "ego":
            T_source_target = self._values["T_source_target"]
            return [warp_ego(sources, depth, K, T_source_target) for depth in self.depth]
        flows = self._complete_flow if self._warp == "complete" else self.final_flow
        pairs = aligned(self._points, flows)
        return [warp_points(sources, points + flow, K) for points, flow in pairs]


def aligned(*lists: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Go through lists of scales together; the last of a shorter one goes with those beyond it."""
    for i in range(max(len(scales) for scales in lists)):
        yield tuple(scales[min(i, len(scales) - 1)] for scales in lists)


def to_full_size(maps: Tensor, image_size: Size) -> Tensor:
    """Enlarge `B ... h w` bilinearly to `B ... H W`."""
    if tuple(maps.shape[-2:]) == tuple(image_size):
        return widen(maps)
    flat = widen(maps).flatten(1, -3)
    enlarged = F.interpolate(flat, image_size, mode="bilinear", align_corners=False)
    return enlarged.reshape(*maps.shape[:-2], *image_size)


def full_size_depths(
    disparity_scales: Sequence[Tensor], depth_spec: DepthSpec, image_size: Size
) -> list[Tensor]:
    """Bring each scale's disparity to full size bilinearly, then turn it into depth.

    Args:
        disparity_scales: `B 1 h w` each.
        depth_spec: Range and convention.
        image_size: Full size (H, W).

    Returns:
        `B 1 H W` each, in the unit of the depth range.
    """
    depths: list[Tensor] = []
    for disparity in disparity_scales:
        check_shape(disparity, "B 1 h w", "disparity")
        full = to_full_size(disparity, image_size)
        depths.append(
            disparity_to_depth(full, depth_spec.min, depth_spec.max, depth_spec.convention)
        )
    return depths


def _rotation_only(T_source_target: Tensor) -> Tensor:
    zero = torch.zeros_like(T_source_target[..., :3, 3:])
    return torch.cat((T_source_target[..., :3], F.pad(zero, (0, 0, 0, 1), value=1.0)), -1)
