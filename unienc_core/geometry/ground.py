"""The ground under a camera, by RANSAC: batched, seeded, every image on its own points.

A plane is n . P + h = 0: n its unit normal, pointing up, and h the height of the camera above it,
so that n . P + h is the height of a point above the ground. It is fitted as a . P = 1, a = -n / h.
On the ray of a point the plane lies at depth z / (a . P), so that |1 - a . P| = |n . P + h| / h is
the error of the point's depth as a share of the plane's depth there: that is what the
tolerance bounds and what the least squares minimise, and it does not know the unit of depth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from unienc_core.contracts import check_shape
from unienc_core.errors import UsageError
from unienc_core.geometry.precision import full_precision

_NUM_SCORED = 4096
"""Points of an image that hypotheses are scored on; the refit uses all."""
_NUM_REFITS = 3
_COLLINEAR = 1e-6
"""Three points span no plane if the sine of the angle at the first one is smaller."""


@dataclass(frozen=True)
class GroundPlane:
    """The ground planes of a batch, without gradient: n . P + h = 0 for points P on the ground.

    Attributes:
        normal: n, `B 3`, unit length, pointing up (negative y); (0, -1, 0) where not found.
        height: h, `B`, distance of the camera from the plane, unit of the points; 0 where not
            found.
        inlier_share: `B`, share of the points looked at that lie on the plane, 0..1.
        found: `B`, bool.
    """

    normal: Tensor
    height: Tensor
    inlier_share: Tensor
    found: Tensor


@torch.no_grad()
@full_precision
def fit_ground_plane(
    points: Tensor,
    *,
    valid: Tensor | None = None,
    rows: float = 0.4,
    columns: float = 0.5,
    num_hypotheses: int = 128,
    tolerance: float = 0.05,
    max_tilt_deg: float = 20.0,
    min_points: int = 20,
    min_inlier_share: float = 0.3,
    damping: float = 1e-9,
    seed: int = 0,
) -> GroundPlane:
    """Fit the ground plane of each image by RANSAC and least squares over the inliers.

    The plane that the above-ground loss L_g of Nguyen et al. compares depth with. An image's plane
    depends on its own points and the seed only, not on the batch it comes in. Where an image has
    too few points or inliers, or the plane is no ground, `found` is false and nothing is raised.

    Args:
        points: As `backproject` makes them, `B 3 H W`; not finite or z <= 0 means no point.
        valid: Points that may be ground, `B 1 H W`, bool; all if not given.
        rows: Share of the image's height that is looked at, from the bottom.
        columns: Share of the image's width that is looked at, in the middle.
        num_hypotheses: Planes through three random points that are tried.
        tolerance: How far an inlier lies from the plane at most, as a share of the plane's depth on
            the point's ray (which is the distance as a share of the camera's height).
        max_tilt_deg: Largest angle between the normal and the camera's own up, degrees.
        min_points: Points to look at without which no plane is sought.
        min_inlier_share: Share of them that must lie on the plane.
        damping: Added to the diagonal of the normal matrix, as a share of its mean.
        seed: Of the random points.

    Raises:
        UsageError: If an option makes no sense.
    """
    _check_options(rows, columns, num_hypotheses, tolerance)
    cloud, usable = _look_at(points, valid, rows, columns)
    generator = torch.Generator().manual_seed(seed)
    trios = _draw(cloud, usable, num_hypotheses * 3, generator).reshape(-1, 3, num_hypotheses, 3)
    scored = _draw(cloud, usable, _NUM_SCORED, generator)
    min_cosine = math.cos(math.radians(max_tilt_deg))

    plane = _best_hypothesis(trios, scored, tolerance, min_cosine)
    inliers = usable
    for _ in range(_NUM_REFITS):
        inliers = _on_plane(cloud, plane[:, :, None], tolerance).squeeze(1) & usable
        plane = _least_squares(cloud, inliers, damping)
    inliers = _on_plane(cloud, plane[:, :, None], tolerance).squeeze(1) & usable

    count = usable.sum(1)
    share = inliers.sum(1) / count.clamp(min=1)
    found = (count >= min_points) & (share >= min_inlier_share) & _is_ground(plane, min_cosine)
    length = _length(plane)
    up = plane.new_tensor([0.0, -1.0, 0.0])
    return GroundPlane(
        normal=torch.where(found[:, None], -plane / length[:, None], up).to(points.dtype),
        height=torch.where(found, 1 / length, 0.0).to(points.dtype),
        inlier_share=share.to(points.dtype),
        found=found,
    )


def _check_options(rows: float, columns: float, num_hypotheses: int, tolerance: float) -> None:
    for name, share in (("rows", rows), ("columns", columns)):
        if not 0 < share <= 1:
            raise UsageError(f"{name} = {share}, expected a share of the image above 0, at most 1")
    if num_hypotheses < 1 or not tolerance > 0:
        raise UsageError(
            f"num_hypotheses = {num_hypotheses}, tolerance = {tolerance}: expected both above 0"
        )


def _look_at(
    points: Tensor, valid: Tensor | None, rows: float, columns: float
) -> tuple[Tensor, Tensor]:
    """Return the lower middle of the images as points `B 3 N` (float64), and which are usable."""
    sizes = check_shape(points, "B 3 H W", "points")
    H, W = sizes["H"], sizes["W"]
    if valid is None:
        valid = torch.ones_like(points[:, :1], dtype=torch.bool)
    check_shape(valid, "B 1 H W", "valid", B=sizes["B"], H=H, W=W)
    margin = round(W * (1 - columns) / 2)
    window = (..., slice(H - max(1, math.floor(rows * H)), H), slice(margin, W - margin))
    cloud = points[window].flatten(2).double()
    usable = valid[window].flatten(1) & cloud.isfinite().all(1) & (cloud[:, 2] > 0)
    return torch.where(usable[:, None], cloud, 0.0), usable


def _draw(cloud: Tensor, usable: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draw `n` usable points of each image with replacement, `B 3 n`.

    All images share the random numbers, so that none depends on how many came before it.
    """
    fractions = torch.rand(n, generator=generator, dtype=torch.float64).to(cloud.device)
    rank = usable.cumsum(1)  # 1 at the first usable point, 2 at the second, ...
    wanted = (fractions * rank[:, -1:]).floor().long() + 1
    index = torch.searchsorted(rank, wanted).clamp(max=cloud.shape[2] - 1)
    return cloud.gather(2, index[:, None].expand(-1, 3, -1))


def _best_hypothesis(trios: Tensor, scored: Tensor, tolerance: float, min_cosine: float) -> Tensor:
    """Return the plane through one of the trios `B 3 n 3` that most points lie on, a, `B 3`."""
    first, second, third = trios.unbind(3)
    one, two = second - first, third - first
    normal = torch.cross(one, two, dim=1)
    spans = _length(normal) > _COLLINEAR * _length(one) * _length(two)
    offset = (normal * first).sum(1)
    spans &= offset != 0
    planes = torch.where(spans[:, None], normal / torch.where(spans, offset, 1.0)[:, None], 0.0)
    inliers = _on_plane(scored, planes, tolerance).sum(2)
    best = torch.where(_is_ground(planes, min_cosine), inliers, -1).argmax(1)
    return planes.gather(2, best[:, None, None].expand(-1, 3, 1)).squeeze(2)


def _on_plane(cloud: Tensor, planes: Tensor, tolerance: float) -> Tensor:
    """Tell which points `B 3 N` lie on which planes `B 3 n` of their own image, `B n N`."""
    return (1 - planes.transpose(1, 2) @ cloud).abs() <= tolerance


def _is_ground(plane: Tensor, min_cosine: float) -> Tensor:
    """Tell which planes a, `B 3 ...`, lie below the camera and are level enough, `B ...`."""
    return (plane[:, 1] > 0) & (plane[:, 1] >= min_cosine * _length(plane))


def _least_squares(cloud: Tensor, inliers: Tensor, damping: float) -> Tensor:
    """Return the a, `B 3`, that minimises the sum of (1 - a . P)^2 over the inliers."""
    chosen = cloud * inliers[:, None]
    matrix = chosen @ chosen.transpose(1, 2)
    mean = matrix.diagonal(dim1=1, dim2=2).mean(1)
    # Damping belongs on the diagonal: on all entries it would tie the axes together. Without any
    # inlier the matrix is the identity, and the plane none.
    added = torch.where(mean > 0, damping * mean, 1.0)
    eye = torch.eye(3, dtype=cloud.dtype, device=cloud.device)
    solve = cast(Callable[[Tensor, Tensor], Tensor], cast(Any, torch.linalg).solve)
    return solve(matrix + added[:, None, None] * eye, chosen.sum(2))


def _length(vectors: Tensor) -> Tensor:
    """Return the lengths of `B 3 ...`, `B ...`."""
    return vectors.square().sum(1).sqrt()
