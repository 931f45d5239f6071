"""Geometry and losses once more: float64 NumPy and SciPy, one image at a time, no torch.

Written from the formulas, so that both sides can only agree if both are right. Maps are `C H W`,
pixels `2 H W` (u, v), as in the core.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import map_coordinates

BEHIND, MIN_Z = -1e4, 1e-3


def backproject(depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Depth `1 H W` to points `3 H W`."""
    v, u = np.indices(depth.shape[1:], dtype=np.float64)
    rays = np.stack([u, v, np.ones_like(u)]).reshape(3, -1)
    return (np.linalg.inv(K) @ rays).reshape(3, *depth.shape[1:]) * depth


def transform(T_st: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Move points `3 H W`."""
    homogeneous = np.concatenate([points.reshape(3, -1), np.ones((1, points[0].size))])
    return (T_st @ homogeneous)[:3].reshape(points.shape)


def project(points: np.ndarray, K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points `3 H W` to pixels `2 H W` and z `H W`."""
    x = (K @ points.reshape(3, -1)).reshape(points.shape)
    front = points[2] > MIN_Z
    pixels = np.full((2, *points.shape[1:]), BEHIND)
    pixels[:, front] = x[:2, front] / x[2, front]
    return pixels, points[2]


def in_view(pixels: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Whether the area of some pixel holds the point, `H W`."""
    height, width = z.shape
    nearest = np.floor(pixels + 0.5)
    inside = (nearest >= 0) & (nearest < np.array([width, height])[:, None, None])
    return inside.all(0) & (z > MIN_Z)


def sample(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Bilinear colours `C H W` at pixels; beyond the border it repeats."""
    where = pixels[::-1]
    return np.stack([map_coordinates(c, where, order=1, mode="nearest") for c in image])


def warp(source: np.ndarray, depth: np.ndarray, K: np.ndarray, T_st: np.ndarray):
    """Return the source seen from the target, and which pixels it shows."""
    pixels, z = project(transform(T_st, backproject(depth, K)), K)
    return sample(source, pixels), in_view(pixels, z)


def optical_flow(start: np.ndarray, end: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Image motion `2 H W` between two sets of points; 0 where one is not in front."""
    (before, z_before), (after, z_after) = project(start, K), project(end, K)
    return np.where((z_before > MIN_Z) & (z_after > MIN_Z), after - before, 0.0)


def upsample(disparity: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear `1 h w` to `1 H W`, pixel centres at integers, by OpenCV."""
    return cv2.resize(disparity[0], size[::-1], interpolation=cv2.INTER_LINEAR)[None]


def disparity_to_depth(disparity: np.ndarray, low: float, high: float) -> np.ndarray:
    """The ``scaled`` convention."""
    return 1 / (1 / high + (1 / low - 1 / high) * disparity)


def windows(image: np.ndarray) -> np.ndarray:
    """All 3 x 3 windows of `C H W` with reflected borders, `C H W 9`."""
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    return sliding_window_view(padded, (3, 3), (1, 2)).reshape(*image.shape, 9)


def photometric_error(view: np.ndarray, target: np.ndarray) -> np.ndarray:
    """0.85 (1 - SSIM) / 2 + 0.15 L1 of two `3 H W` images, `H W`."""
    x, y = windows(view), windows(target)
    mx, my = x.mean(-1), y.mean(-1)
    dx, dy = x - mx[..., None], y - my[..., None]
    ssim = (2 * mx * my + 1e-4) * (2 * (dx * dy).mean(-1) + 9e-4)
    ssim /= (mx**2 + my**2 + 1e-4) * ((dx * dx).mean(-1) + (dy * dy).mean(-1) + 9e-4)
    return (0.85 * (1 - ssim) / 2 + 0.15 * np.abs(view - target)).mean(0)


def shrink(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Area average `C H W` to `C h w`: output i covers pixels floor(iH/h) to ceil((i+1)H/h)."""
    for axis, n in ((1, size[0]), (2, size[1])):
        N = image.shape[axis]
        spans = [(i * N // n, -(-(i + 1) * N // n)) for i in range(n)]
        parts = [image.take(range(a, b), axis).mean(axis) for a, b in spans]
        image = np.stack(parts, axis)
    return image


def edge_aware(maps: np.ndarray, image: np.ndarray) -> float:
    """Edge-aware smoothness of `C h w` as it is, image of any larger size."""
    small = shrink(image, maps.shape[1:])
    total = 0.0
    for axis in (1, 2):
        edges = np.abs(np.diff(small, axis=axis)).mean(0)
        total += (np.abs(np.diff(maps, axis=axis)) * np.exp(-edges)).mean()
    return total


def smoothness(disparity: np.ndarray, image: np.ndarray) -> float:
    """Edge-aware smoothness of a disparity `1 h w` over its mean."""
    return edge_aware(disparity / (disparity.mean() + 1e-7), image)
