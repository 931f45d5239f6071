"""Motion labels of single points (of LiDAR) as a map of a store, as sparse as their depth.

A pixel on which no labelled point falls is neither static nor moving: the key declares a value for
that, and evaluators leave such pixels out.
"""

from __future__ import annotations

import numpy as np

from unienc_core.data.keys import STANDARD_KEYS
from unienc_core.data.manifest import KeySpec
from unienc_core.errors import DataError

UNKNOWN_MOTION = 255

MOVING, STATIC, IGNORE = 1, 2, 3
"""Labels of points, as Dynamo-Depth's scripts for nuScenes and Waymo write them."""


def sparse_motion_key() -> KeySpec:
    """Return the declaration of a `motion_mask` that knows some pixels only."""
    return STANDARD_KEYS["motion_mask"].model_copy(
        update={
            "invalid": float(UNKNOWN_MOTION),
            "description": "1 where a labelled point moves, 0 where one stands, 255 elsewhere.",
        }
    )


def motion_of_points(
    pixels: np.ndarray, labels: np.ndarray, depths: np.ndarray, image_size: tuple[int, int]
) -> np.ndarray:
    """Put labelled points onto the pixels whose centres are nearest; the nearest point is kept.

    Args:
        pixels: `n 2`, (u, v) in px, centres at integers; points outside the image are left out.
        labels: `n`: 1 moving, 2 static, 3 to be ignored.
        depths: `n`, along the optical axis; decides which of several points on a pixel is seen.
        image_size: (h, w).

    Returns:
        `H W` uint8: 1 moving, 0 static, 255 unknown.

    Raises:
        DataError: On another label.
    """
    labels = np.asarray(labels)
    other = np.setdiff1d(labels, (MOVING, STATIC, IGNORE))
    if other.size:
        raise DataError(
            f"motion label {other[0]} of a point; expected {MOVING} (moving), {STATIC} (static) or "
            f"{IGNORE} (ignored)"
        )
    height, width = image_size
    u, v = np.round(np.asarray(pixels, np.float64)).T
    kept = (u >= 0) & (u < width) & (v >= 0) & (v < height) & (np.asarray(depths) > 0)
    far_first = np.argsort(-np.asarray(depths)[kept], kind="stable")
    rows, columns = v[kept][far_first].astype(np.intp), u[kept][far_first].astype(np.intp)
    found = np.full(image_size, UNKNOWN_MOTION, np.uint8)
    values = np.array([UNKNOWN_MOTION, 1, 0, UNKNOWN_MOTION], np.uint8)
    found[rows, columns] = values[labels[kept][far_first]]  # the last one written stays
    return found
