"""The pinhole camera: pixels to points and back, sampling, and intrinsics under image changes.

Pixel centres lie at integers. `K` is upper triangular with last row (0, 0, 1), in pixels, and is
always changed together with its image. Camera axes: x right, y down, z forward.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from unienc_core.contracts import check_shape
from unienc_core.errors import UsageError
from unienc_core.geometry.precision import full_precision

Size = tuple[int, int]
DepthConvention = Literal["scaled", "inverse"]

# The one sampling convention: grid coordinates -1 and 1 are the centres of the corner pixels, and
# what lies outside repeats the border.
ALIGN_CORNERS = True
PADDING = "border"

MIN_Z = 1e-3
"""A point with a smaller z is not in front of the camera (same unit as the points)."""

BEHIND_PIXEL = -1e4
"""Both coordinates of a point that is not in front: finite, constant, outside every image."""


def pixel_grid(
    H: int, W: int, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return homogeneous pixel coordinates (u, v, 1).

    Args:
        H: Height in pixels.
        W: Width in pixels.
        device: Where to put it.
        dtype: Floating type.

    Returns:
        `3 H W`, px.
    """
    v, u = torch.meshgrid(
        torch.arange(H, device=device, dtype=dtype),
        torch.arange(W, device=device, dtype=dtype),
        indexing="ij",
    )
    return torch.stack((u, v, torch.ones_like(u)))


@full_precision
def backproject(depth: Tensor, K: Tensor) -> Tensor:
    """Lift every pixel to its 3D point, P = depth K^-1 (u, v, 1).

    Args:
        depth: `B 1 H W`, along z.
        K: `B 3 3`, px.

    Returns:
        Points in the camera's frame, `B 3 H W`, unit of `depth`.
    """
    sizes = check_shape(depth, "B 1 H W", "depth")
    check_shape(K, "B 3 3", "K", B=sizes["B"])
    u, v, _ = pixel_grid(sizes["H"], sizes["W"], depth.device, depth.dtype)
    fx, skew, cx, fy, cy = _intrinsics(K)
    # In closed form rather than by inverting K: one rounding less, so identity warps stay put.
    y = (v - cy) / fy
    x = (u - cx - skew * y) / fx
    return torch.cat((x * depth, y * depth, depth), 1)


@full_precision
def project(points: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    """Project points to pixels; a point that is not in front lands on `BEHIND_PIXEL`.

    Args:
        points: `B 3 H W`, in the camera's frame.
        K: `B 3 3`, px.

    Returns:
        Pixels (u, v) `B 2 H W`, always finite and without gradient where z <= `MIN_Z`; and z
        `B 1 H W`, the third coordinate of the points.
    """
    sizes = check_shape(points, "B 3 H W", "points")
    check_shape(K, "B 3 3", "K", B=sizes["B"])
    fx, skew, cx, fy, cy = _intrinsics(K)
    x, y, z = points.chunk(3, 1)
    in_front = z > MIN_Z
    # Chosen before dividing: a division by about zero would poison the gradient even if unused.
    inverse_z = 1.0 / torch.where(in_front, z, 1.0)
    x, y = x * inverse_z, y * inverse_z
    pixels = torch.cat((fx * x + skew * y + cx, fy * y + cy), 1)
    return torch.where(in_front, pixels, BEHIND_PIXEL), z


def in_view(pixels: Tensor, z: Tensor, image_size: Size) -> Tensor:
    """Tell which projected points an image shows.

    Args:
        pixels: `B 2 H W`, px.
        z: `B 1 H W`, as `project` returns it.
        image_size: (h, w) of the image they fall on.

    Returns:
        `B 1 H W`, bool: in front of the camera and on the area of some pixel.
    """
    h, w = image_size
    u, v = pixels.chunk(2, 1)
    return (z > MIN_Z) & (u >= -0.5) & (u <= w - 0.5) & (v >= -0.5) & (v <= h - 0.5)


@full_precision
def to_grid(pixels: Tensor, image_size: Size | None = None) -> Tensor:
    """Turn pixel coordinates into a sampling grid.

    Args:
        pixels: (u, v), `B 2 H W`, px.
        image_size: (h, w) of the image to sample; that of `pixels` if not given.

    Returns:
        `B H W 2`; -1 and 1 are the centres of the corner pixels.
    """
    check_shape(pixels, "B 2 H W", "pixels")
    h, w = image_size or (pixels.shape[2], pixels.shape[3])
    # An image one pixel wide has a single column, wherever the grid points.
    scale = pixels.new_tensor([2 / max(w - 1, 1), 2 / max(h - 1, 1)]).view(1, 2, 1, 1)
    return (pixels * scale - 1).permute(0, 2, 3, 1)


@full_precision
def sample(image: Tensor, grid: Tensor) -> Tensor:
    """Sample an image bilinearly; outside, the border repeats.

    Args:
        image: `B C h w`.
        grid: `B H W 2`, as `to_grid` makes it.

    Returns:
        `B C H W`.
    """
    sizes = check_shape(image, "B C h w", "image")
    check_shape(grid, "B H W 2", "grid", B=sizes["B"])
    return F.grid_sample(
        image, grid, mode="bilinear", padding_mode=PADDING, align_corners=ALIGN_CORNERS
    )


def resize_K(K: Tensor, old_size: Size, new_size: Size) -> Tensor:
    """Return the intrinsics of an image resized from `old_size` to `new_size` (h, w).

    c' = s (c + 0.5) - 0.5, since pixel centres lie at integers.
    """
    check_shape(K, "... 3 3", "K")
    s_x, s_y = new_size[1] / old_size[1], new_size[0] / old_size[0]
    rows = K.unbind(-2)
    bottom = rows[2]
    return torch.stack(
        (rows[0] * s_x + bottom * (s_x - 1) / 2, rows[1] * s_y + bottom * (s_y - 1) / 2, bottom), -2
    )


def crop_K(K: Tensor, x0: float, y0: float) -> Tensor:
    """Return the intrinsics of a crop whose first pixel was (`x0`, `y0`): c' = c - x0."""
    check_shape(K, "... 3 3", "K")
    u, v, bottom = K.unbind(-2)
    return torch.stack((u - bottom * x0, v - bottom * y0, bottom), -2)


def flip_K(K: Tensor, W: int) -> Tensor:
    """Return the intrinsics of an image of width `W` mirrored left to right: c' = W - 1 - c.

    The camera looks at the mirrored world (x becomes -x), so focal lengths stay positive.
    """
    check_shape(K, "... 3 3", "K")
    u, v, bottom = K.unbind(-2)
    keep_fx = K.new_tensor([1.0, -1.0, -1.0])
    return torch.stack((u * keep_fx + bottom * (W - 1), v, bottom), -2)


def K_from_fov(fov_deg_horizontal: float, H: int, W: int) -> Tensor:
    """Return the intrinsics `3 3` of a centred camera with square pixels.

    Args:
        fov_deg_horizontal: Angle between the left and right image edges, degrees.
        H: Height in pixels.
        W: Width in pixels.

    Raises:
        UsageError: If the angle is not between 0 and 180.
    """
    if not 0 < fov_deg_horizontal < 180:
        raise UsageError(f"field of view of {fov_deg_horizontal} degrees, expected 0 to 180")
    f = W / 2 / math.tan(math.radians(fov_deg_horizontal) / 2)
    return torch.tensor([[f, 0.0, (W - 1) / 2], [0.0, f, (H - 1) / 2], [0.0, 0.0, 1.0]])


@full_precision
def disparity_to_depth(
    disparity: Tensor, min_depth: float, max_depth: float, convention: DepthConvention = "scaled"
) -> Tensor:
    """Turn a head's output in 0..1 into depth.

    Args:
        disparity: Any shape.
        min_depth: Nearest depth.
        max_depth: Farthest depth.
        convention: ``scaled``: 1/depth = 1/max + (1/min - 1/max) d. ``inverse``: depth = 1/d, cut
            to min..max.

    Returns:
        Depth, the shape of `disparity`.
    """
    low, high = _inverse_range(min_depth, max_depth)
    if convention == "scaled":
        return 1.0 / (low + (high - low) * disparity)
    return 1.0 / disparity.clamp(low, high)


@full_precision
def depth_to_disparity(
    depth: Tensor, min_depth: float, max_depth: float, convention: DepthConvention = "scaled"
) -> Tensor:
    """Invert `disparity_to_depth`; depths beyond the range give ``scaled`` values beyond 0..1.

    Args:
        depth: Any shape, positive.
        min_depth: Nearest depth.
        max_depth: Farthest depth.
        convention: As in `disparity_to_depth`.

    Returns:
        Disparity, the shape of `depth`.
    """
    low, high = _inverse_range(min_depth, max_depth)
    if convention == "scaled":
        return (1.0 / depth - low) / (high - low)
    return (1.0 / depth).clamp(low, high)


def _intrinsics(K: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return fx, skew, cx, fy, cy, each `B 1 1 1`."""
    entries = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2))
    fx, skew, cx, fy, cy = (K[:, i, j, None, None, None] for i, j in entries)
    return fx, skew, cx, fy, cy


def _inverse_range(min_depth: float, max_depth: float) -> tuple[float, float]:
    if not 0 < min_depth < max_depth:
        raise UsageError(f"depth range {min_depth}..{max_depth}, expected 0 < min < max")
    return 1.0 / max_depth, 1.0 / min_depth
