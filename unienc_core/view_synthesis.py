"""From predictions and batch to depth and warped source views (Fig. 2e, Nguyen et al.)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor

from unienc_core.contracts import check_shape
from unienc_core.errors import WiringError
from unienc_core.geometry.camera import (
    Size,
    backproject,
    disparity_to_depth,
    in_view,
    project,
    sample,
    to_grid,
)
from unienc_core.geometry.precision import widen
from unienc_core.geometry.se3 import transform
from unienc_core.presets import DepthSpec

Warp = Literal["ego", "complete", "final"]

_DEPTH = ("disparity_scales",)
_WARP = ("source_images", "K", "disparity_scales", "T_source_target")
MADE_FROM: dict[str, tuple[str, ...]] = {
    "depth": _DEPTH,
    "depth_scales": _DEPTH,
    "warped": _WARP,
    "warped_scales": _WARP,
    "in_view": _WARP,
    "in_view_scales": _WARP,
}
"""What `synthesise` adds, and the batch or prediction keys that each is made from."""


def check_warp(warp: Warp) -> None:
    """Check that views can be warped so.

    Raises:
        WiringError: If no network predicts what `warp` needs.
    """
    if warp != "ego":
        raise WiringError(
            f"warp '{warp}' needs a scene flow head, which is not available yet; use 'ego'"
        )


def synthesise(
    values: Mapping[str, Any], warp: Warp, depth_spec: DepthSpec, image_size: Size
) -> dict[str, Any]:
    """Add depth and the source views warped onto the target, as far as `values` allow.

    Every scale's disparity is brought to full size first, so that all warping happens at full
    resolution. What a stream lacks the keys for (see `MADE_FROM`) is left out: a stream of labels
    has no source images.

    Args:
        values: Batch and predictions of one stream: `disparity_scales` (`B 1 h w` each), and for
            warping `source_images` (`B S 3 H W`), `K` (`B 3 3`), `T_source_target` (`B S 4 4`).
        warp: Which points are projected; ``ego``: T P, the camera's own motion.
        depth_spec: How disparity becomes depth.
        image_size: Full size (H, W).

    Returns:
        `values` and, one entry per scale, finest first: `depth_scales` (`B 1 H W`),
        `warped_scales` (`B S 3 H W`), `in_view_scales` (`B S 1 H W`, bool: the source shows that
        point). The finest of each lies under `depth`, `warped` and `in_view` too.

    Raises:
        WiringError: If no network predicts what `warp` needs.
    """
    check_warp(warp)
    added: dict[str, Any] = dict(values)
    if not all(key in values for key in _DEPTH):
        return added
    depths = full_size_depths(values["disparity_scales"], depth_spec, image_size)
    added |= {"depth": depths[0], "depth_scales": depths}
    if not all(key in values for key in _WARP):
        return added
    sources, K, T_source_target = values["source_images"], values["K"], values["T_source_target"]
    H, W = image_size
    check_shape(sources, "B S 3 H W", "source_images", H=H, W=W)
    views = [warp_ego(sources, depth, K, T_source_target) for depth in depths]
    warped, seen = [view for view, _ in views], [mask for _, mask in views]
    added |= {"warped": warped[0], "warped_scales": warped}
    return added | {"in_view": seen[0], "in_view_scales": seen}


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
        if tuple(disparity.shape[2:]) != tuple(image_size):
            disparity = F.interpolate(
                widen(disparity), image_size, mode="bilinear", align_corners=False
            )
        depths.append(
            disparity_to_depth(disparity, depth_spec.min, depth_spec.max, depth_spec.convention)
        )
    return depths


def warp_ego(
    sources: Tensor, depth: Tensor, K: Tensor, T_source_target: Tensor
) -> tuple[Tensor, Tensor]:
    """Rebuild the target view from each source: the source's colour at K T_{s<-t} P.

    Args:
        sources: `B S 3 H W`.
        depth: Of the target, `B 1 H W`.
        K: `B 3 3`, px, of target and sources alike.
        T_source_target: `B S 4 4`.

    Returns:
        Views `B S 3 H W`; and `B S 1 H W`, bool: the source shows that point.
    """
    B, S, _, H, W = sources.shape
    check_shape(T_source_target, "B S 4 4", "T_source_target", B=B, S=S)
    points = backproject(depth, K).unsqueeze(1).expand(B, S, 3, H, W).flatten(0, 1)
    points = transform(T_source_target.flatten(0, 1), points)
    pixels, z = project(points, K.repeat_interleave(S, 0))
    views = sample(sources.flatten(0, 1), to_grid(pixels))
    return views.unflatten(0, (B, S)), in_view(pixels, z, (H, W)).unflatten(0, (B, S))
