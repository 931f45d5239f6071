"""Whether a camera file belongs to the pictures beside it.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import numpy as np

from unienc_core.data.resample import Size
from unienc_core.errors import DataError


def check_intrinsics(K: np.ndarray, image_size: Size, where: str) -> None:
    """Refuse intrinsics that no camera of such pictures has, as those of another size are.

    Args:
        K: `3 3`, px.
        image_size: (h, w) of the pictures it is to be of.
        where: Its file, for the error.

    Raises:
        DataError: If a focal length is not finite and positive, or the principal point lies
            outside the picture.
    """
    height, width = image_size
    fx, fy, cx, cy = (float(K[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    is_lens = bool(np.isfinite([fx, fy]).all()) and fx > 0 and fy > 0
    if not (is_lens and 0 <= cx < width and 0 <= cy < height):
        raise DataError(
            f"{where}: fx, fy, cx, cy of {fx:g}, {fy:g}, {cx:g}, {cy:g} px do not fit pictures of "
            f"{height}x{width}; expected the camera of pictures of this size"
        )
