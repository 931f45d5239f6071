"""Pictures and maps at another size, as every part of the program sees them.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import cv2
import numpy as np

Size = tuple[int, int]


def resize_image(image: np.ndarray, size: Size) -> np.ndarray:
    """Resize an image as a network sees it, in training and afterwards alike.

    It is averaged over area when it shrinks and interpolated by Lanczos otherwise.

    Args:
        image: `H W 3`, uint8, RGB.
        size: (h, w) wanted.
    """
    old = (image.shape[0], image.shape[1])
    if old == size:
        return image
    shrinks = size[0] <= old[0] and size[1] <= old[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LANCZOS4
    return cv2.resize(image, (size[1], size[0]), interpolation=how)


def resize_map(values: np.ndarray, size: Size) -> np.ndarray:
    """Resize a map by taking the nearest pixel, by the rule c' = s (c + 0.5) - 0.5.

    Args:
        values: `... H W`.
        size: (h, w) wanted.
    """
    rows, columns = (_nearest(n, m) for n, m in zip(values.shape[-2:], size, strict=True))
    return values[..., rows[:, None], columns[None, :]]


def _nearest(old: int, new: int) -> np.ndarray:
    """The old pixel whose centre lies nearest to that of each new pixel."""
    return np.minimum((2 * np.arange(new) + 1) * old // (2 * new), old - 1)
