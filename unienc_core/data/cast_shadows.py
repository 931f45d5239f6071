"""Shadows that fall onto frames in training, each frame's its own (Lechner et al.).

A shadow is a thick line across the picture, blurred at its edges, within which a gamma darkens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

SHADOW_DRAWS = 7
"""Random numbers that a shadow uses: whether it falls, its direction, a point in its middle, its
width, its edges, its gamma."""

_HALF_WIDTHS = (0.05, 0.3)
_EDGES = (0.1, 1.0)
_GAMMAS = (1.0, 3.0)


@dataclass(frozen=True)
class Shadow:
    """A band across a picture.

    Attributes:
        across: Direction across it, rad, from right to down.
        point: In its middle, (x, y) as shares of the picture.
        half_width: Of the line, as a share of the picture's height.
        edge: Half the width of the blur, likewise; at most `half_width`.
        gamma: Of its darkest part, at least 1.
    """

    across: float
    point: tuple[float, float]
    half_width: float
    edge: float
    gamma: float


def draw_shadow(share: float, u: np.ndarray) -> Shadow | None:
    """Turn `SHADOW_DRAWS` uniform numbers into a shadow, or none.

    Args:
        share: How many frames have one.
        u: The numbers.
    """
    if u[0] >= share:
        return None
    half_width, edge, gamma = (
        low + (high - low) * float(n)
        for n, (low, high) in zip(u[4:], (_HALF_WIDTHS, _EDGES, _GAMMAS), strict=True)
    )
    point = (float(u[2]), float(u[3]))
    return Shadow(math.pi * float(u[1]), point, half_width, edge * half_width, gamma)


def shadow_mask(shadow: Shadow, size: tuple[int, int]) -> np.ndarray:
    """Return how deep each pixel lies in a shadow: 1 in its middle, 0 outside.

    Args:
        shadow: The shadow.
        size: (h, w) of the picture.

    Returns:
        `H W` float32: the line's profile, averaged over 2 `edge` across it.
    """
    height, width = size
    x = np.arange(width, dtype=np.float32) / height - shadow.point[0] * width / height
    y = np.arange(height, dtype=np.float32) / height - shadow.point[1]
    distance = np.abs(math.cos(shadow.across) * x + math.sin(shadow.across) * y[:, None])
    ramp = (shadow.half_width + shadow.edge - distance) / (2 * shadow.edge)
    return np.clip(ramp, 0.0, 1.0, dtype=np.float32)


def cast_shadow(image: np.ndarray, shadow: Shadow) -> np.ndarray:
    """Return a picture with a shadow on it; outside the band no value changes.

    Args:
        image: `H W 3` uint8 RGB.
        shadow: The shadow.
    """
    curve = 255.0 * (np.arange(256) / 255.0) ** shadow.gamma
    dark = cv2.LUT(image, np.round(curve).astype(np.uint8))
    mask = shadow_mask(shadow, image.shape[:2])
    return cv2.blendLinear(dark, image, mask, 1.0 - mask)
