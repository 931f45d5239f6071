"""Rays against solids, part by part, each only inside its projected rectangle.

Along a ray the *nearness* (1 / depth under perspective, minus the distance under a parallel
projection) at which it crosses a plane is affine in the image position. So a convex solid is the
minimum over the planes it is entered by, valid where that exceeds the maximum over the planes it
is left by; there is no division per pixel, and a larger nearness hides a smaller one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unienc_core.data.synthcity.shapes import PLANES, QUADRICS

NEAR_PLANE = 0.25
"""Metres in front of the camera from which parts are drawn."""

_CORNERS = np.array([(x, y, z) for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
_EDGES = np.array(
    [(i, j) for i in range(8) for j in range(i + 1, 8) if bin(i ^ j).count("1") == 1], np.intp
)


@dataclass(frozen=True)
class Frames:
    """Local frames of P parts as one camera sees them.

    Attributes:
        axes: `P 3 3`, rows are the part's right, down and forward axes in camera coordinates.
        eye: `P 3`, the camera's centre in the part's coordinates, m.
        half: `P 3`, half extents, m.
        shape: `P`, shape codes.
    """

    axes: np.ndarray
    eye: np.ndarray
    half: np.ndarray
    shape: np.ndarray


@dataclass(frozen=True)
class Forms:
    """Affine and quadratic forms of image position (x, y, 1) that bound P parts.

    Attributes:
        planes: `P 7 3`, nearness of each plane.
        enters: `P 7` bool, whether a ray enters through it.
        middle: `P 3`, mean nearness of the two crossings of the quadric.
        spread: `P 6`, squared half difference of them: coefficients of 1, x, y, xx, xy, yy about
            the anchor.
        anchor: `P 2`, image position of the quadric's centre.
        bounded: `P` bool, whether there is a quadric.
    """

    planes: np.ndarray
    enters: np.ndarray
    middle: np.ndarray
    spread: np.ndarray
    anchor: np.ndarray
    bounded: np.ndarray

    def take(self, chosen: np.ndarray) -> Forms:
        """Return the forms of some of the parts."""
        return Forms(
            planes=self.planes[chosen],
            enters=self.enters[chosen],
            middle=self.middle[chosen],
            spread=self.spread[chosen],
            anchor=self.anchor[chosen],
            bounded=self.bounded[chosen],
        )


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum of products over the last axis of length 3, rounded the same everywhere (no BLAS)."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def _away_from_zero(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < 1e-9, 1e-9, x)


def perspective_forms(frames: Frames) -> Forms:
    """Return the forms under a pinhole camera; image position is (X / Z, Y / Z)."""
    m = frames.axes / frames.half[:, :, None]
    eye = frames.eye / frames.half
    planes = PLANES[frames.shape]
    slope = _dot(planes[:, :, None, :3], m.transpose(0, 2, 1)[:, None])
    gap = _away_from_zero(planes[:, :, 3] - _dot(planes[:, :, :3], eye[:, None]))
    mask = QUADRICS[frames.shape]
    m, eye = m * mask[:, :, None], eye * mask
    outside = _dot(eye, eye) - 1.0
    bounded = (mask[:, 0] + mask[:, 1] + mask[:, 2] > 0.0) & (outside > 1e-6)
    scale = 1.0 / np.where(bounded, outside, 1.0)
    columns = m.transpose(0, 2, 1)
    middle = -_dot(columns, eye[:, None]) * scale[:, None]
    centre = -_dot(frames.axes.transpose(0, 2, 1), frames.eye[:, None])
    depth = np.maximum(centre[:, 2], NEAR_PLANE)
    anchor = centre[:, :2] / depth[:, None]
    products = _dot(columns[:, :, None], columns[:, None]) * -scale[:, None, None]
    products += middle[:, :, None] * middle[:, None]
    return Forms(
        planes=slope / gap[:, :, None],
        enters=gap < 0.0,
        middle=middle,
        spread=_about(products, anchor),
        anchor=anchor,
        bounded=bounded,
    )


def parallel_forms(frames: Frames) -> Forms:
    """Return the forms under light along +Z; image position is (X, Y) in m.

    `frames.eye` is the light frame's origin in the part's coordinates.
    """
    m = frames.axes / frames.half[:, :, None]
    eye = frames.eye / frames.half
    planes = PLANES[frames.shape]
    slope = _dot(planes[:, :, None, :3], m.transpose(0, 2, 1)[:, None])
    gap = _dot(planes[:, :, :3], eye[:, None]) - planes[:, :, 3]
    along = _away_from_zero(slope[:, :, 2])
    forms = np.concatenate([slope[:, :, :2], gap[:, :, None]], axis=2) / along[:, :, None]
    mask = QUADRICS[frames.shape]
    m, eye = m * mask[:, :, None], eye * mask
    columns = np.stack([m[:, :, 0], m[:, :, 1], eye], axis=1)
    ray = m[:, :, 2]
    length = _dot(ray, ray)
    bounded = length > 1e-9
    scale = 1.0 / np.where(bounded, length, 1.0)
    middle = _dot(columns, ray[:, None]) * scale[:, None]
    products = _dot(columns[:, :, None], columns[:, None])
    products[:, 2, 2] -= 1.0
    products = middle[:, :, None] * middle[:, None] - products * scale[:, None, None]
    anchor = -_dot(frames.axes.transpose(0, 2, 1), frames.eye[:, None])[:, :2]
    return Forms(forms, along < 0.0, middle, _about(products, anchor), anchor, bounded)


def _about(products: np.ndarray, anchor: np.ndarray) -> np.ndarray:
    """Expand the quadratic form `P 3 3` of (x, y, 1) about the anchor, against cancellation."""
    x, y = anchor[:, 0], anchor[:, 1]
    xx, yy, xy = products[:, 0, 0], products[:, 1, 1], 2.0 * products[:, 0, 1]
    x1, y1, one = 2.0 * products[:, 0, 2], 2.0 * products[:, 1, 2], products[:, 2, 2]
    constant = one + x1 * x + y1 * y + xx * x * x + xy * x * y + yy * y * y
    slope_x = x1 + 2.0 * xx * x + xy * y
    slope_y = y1 + 2.0 * yy * y + xy * x
    return np.stack([constant, slope_x, slope_y, xx, xy, yy], axis=1)


def perspective_boxes(frames: Frames) -> tuple[np.ndarray, np.ndarray]:
    """Bound the parts in the image, edges cut at the near plane.

    Returns:
        `P 4` image positions (x low, x high, y low, y high), low > high where nothing is in front;
        `P` depth of the nearest corner, m.
    """
    local = _CORNERS * frames.half[:, None] - frames.eye[:, None]
    corners = _dot(frames.axes.transpose(0, 2, 1)[:, None], local[:, :, None])
    first, last = corners[:, _EDGES[:, 0]], corners[:, _EDGES[:, 1]]
    za, zb = first[..., 2], last[..., 2]
    rise = _away_from_zero(zb - za)
    cut_a = np.clip((NEAR_PLANE - za) / rise, 0.0, 1.0) * (za < NEAR_PLANE)
    cut_b = np.clip((NEAR_PLANE - zb) / rise, -1.0, 0.0) * (zb < NEAR_PLANE)
    ends = np.concatenate(
        [
            first + cut_a[..., None] * (last - first),
            last + cut_b[..., None] * (last - first),
        ],
        axis=1,
    )
    visible = np.concatenate([np.maximum(za, zb)] * 2, axis=1) > NEAR_PLANE
    depth = np.maximum(ends[..., 2], NEAR_PLANE)
    image = ends[..., :2] / depth[..., None]
    low = np.where(visible[..., None], image, np.inf).min(axis=1)
    high = np.where(visible[..., None], image, -np.inf).max(axis=1)
    boxes = np.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], axis=1)
    return boxes, np.maximum(corners[..., 2].min(axis=1), NEAR_PLANE)


def parallel_boxes(frames: Frames) -> tuple[np.ndarray, np.ndarray]:
    """Bound the parts under light along +Z: `P 4` as above, and their highest nearness."""
    local = _CORNERS * frames.half[:, None] - frames.eye[:, None]
    corners = _dot(frames.axes.transpose(0, 2, 1)[:, None], local[:, :, None])
    low, high = corners.min(axis=1), corners.max(axis=1)
    return np.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], axis=1), -low[:, 2]
