"""A target view rebuilt from its sources: `B S ...` throughout, each source in its own frame."""

from __future__ import annotations

from torch import Tensor

from unienc_core.contracts import check_shape
from unienc_core.geometry.camera import backproject, in_view, project, sample, to_grid
from unienc_core.geometry.se3 import transform


def move(T_source_target: Tensor, points: Tensor) -> Tensor:
    """Move points into the frame of each source.

    Args:
        T_source_target: `B S 4 4`.
        points: `B S 3 H W`, or `B 1 3 H W` for all sources.

    Returns:
        T X, `B S 3 H W`.
    """
    sizes = check_shape(T_source_target, "B S 4 4", "T_source_target", B=points.shape[0])
    shape = (sizes["B"], sizes["S"], *points.shape[2:])
    moved = transform(T_source_target.flatten(0, 1), points.expand(shape).flatten(0, 1))
    return moved.view(shape)


def warp_ego(
    sources: Tensor, depth: Tensor, K: Tensor, T_source_target: Tensor
) -> tuple[Tensor, Tensor]:
    """Rebuild the target view from each source by the camera's motion alone: from T_{s<-t} P.

    Args:
        sources: `B S 3 H W`.
        depth: Of the target, `B 1 H W`.
        K: `B 3 3`, px, of target and sources alike.
        T_source_target: `B S 4 4`.

    Returns:
        Views `B S 3 H W`; and `B S 1 H W`, bool: the source shows that point.
    """
    B, S = sources.shape[:2]
    check_shape(T_source_target, "B S 4 4", "T_source_target", B=B, S=S)
    return warp_points(sources, move(T_source_target, backproject(depth, K).unsqueeze(1)), K)


def warp_points(sources: Tensor, points: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    """Rebuild the target view from each source: the source's colour at K X.

    Args:
        sources: `B S 3 H W`.
        points: X, of each target pixel, in the source camera's frame, `B S 3 H W`.
        K: `B 3 3`, px, of target and sources alike.

    Returns:
        Views `B S 3 H W`; and `B S 1 H W`, bool: the source shows that point.
    """
    sizes = check_shape(sources, "B S 3 H W", "source_images")
    check_shape(points, "B S 3 H W", "points", **sizes)
    B, S, size = sizes["B"], sizes["S"], (sizes["H"], sizes["W"])
    pixels, z = project(points.flatten(0, 1), K.repeat_interleave(S, 0))
    views = sample(sources.flatten(0, 1), to_grid(pixels))
    return views.view(sources.shape), in_view(pixels, z, size).view(B, S, 1, *size)
