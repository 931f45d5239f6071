"""Pictures that are no use: black, of one colour, without colour; and pictures seen twice.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import hashlib

import cv2
import numpy as np

_BLACK = 16
_BRIGHT_SHARE = 0.002
_FLAT = 1.0

BLACK = "is black"
FLAT = "has one colour all over"


def useless(image: np.ndarray) -> str | None:
    """Say in a few words why a picture shows nothing, or None if it does show something.

    Args:
        image: `H W` or `H W C`, uint8.
    """
    bright = image.max(2) > _BLACK if image.ndim == 3 else image > _BLACK
    if np.count_nonzero(bright) <= _BRIGHT_SHARE * bright.size:
        return BLACK
    deviation = cv2.meanStdDev(image)[1]
    return FLAT if deviation.max() < _FLAT else None


def is_grey(image: np.ndarray) -> bool:
    """Say whether the three channels of a picture, `H W 3`, are equal."""
    first = image[..., 0]
    return np.array_equal(first, image[..., 1]) and np.array_equal(first, image[..., 2])


def picture_digest(image: np.ndarray) -> bytes:
    """Return 16 bytes that two pictures share only if they are equal, pixel by pixel."""
    content = np.ascontiguousarray(image)
    shape = repr((content.shape, content.dtype.str)).encode()
    return hashlib.blake2b(content.tobytes(), digest_size=16, person=shape[:16]).digest()
