"""Motion of scene points in space and on the image plane."""

from __future__ import annotations

import torch
from torch import Tensor

from unienc_core.contracts import check_shape
from unienc_core.geometry.camera import MIN_Z, backproject, pixel_grid, project
from unienc_core.geometry.precision import full_precision
from unienc_core.geometry.se3 import transform


@full_precision
def rigid_flow(depth: Tensor, K: Tensor, T_source_target: Tensor) -> Tensor:
    """Return the motion that the camera's own motion gives to static points.

    F_R = T_{t->s} P - P, the rigid flow of Nguyen et al.

    Args:
        depth: Of the target, `B 1 H W`.
        K: `B 3 3`, px.
        T_source_target: `B 4 4`.

    Returns:
        `B 3 H W`, unit of `depth`, on the target's pixels.
    """
    points = backproject(depth, K)
    return transform(T_source_target, points) - points


@full_precision
def optical_flow(points_source: Tensor, K: Tensor) -> Tensor:
    """Return how far each target pixel moves on the image plane.

    Args:
        points_source: The point of every target pixel, in the source camera's frame, `B 3 H W`.
        K: Of the source image, `B 3 3`, px.

    Returns:
        `B 2 H W`, px; zero where the point is not in front of the source camera.
    """
    pixels, z = project(points_source, K)
    grid = pixel_grid(pixels.shape[2], pixels.shape[3], pixels.device, pixels.dtype)
    return torch.where(z > MIN_Z, pixels - grid[:2], 0.0)


@full_precision
def project_flow(points: Tensor, flow: Tensor, K: Tensor) -> Tensor:
    """Return the motion on the image plane of points that move in space.

    Args:
        points: `B 3 H W`.
        flow: Displacement of each point, `B 3 H W`, unit of `points`.
        K: `B 3 3`, px.

    Returns:
        `B 2 H W`, px; zero where a point starts or ends not in front of the camera.
    """
    sizes = check_shape(points, "B 3 H W", "points")
    check_shape(flow, "B 3 H W", "flow", **sizes)
    start, z_start = project(points, K)
    end, z_end = project(points + flow, K)
    return torch.where((z_start > MIN_Z) & (z_end > MIN_Z), end - start, 0.0)
