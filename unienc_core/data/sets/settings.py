"""Settings that every data set has, checked before a file is looked at."""

from __future__ import annotations

from unienc_core.data.manifest import MAX_SIDE
from unienc_core.data.resample import Size
from unienc_core.errors import UsageError


def check_settings(split: str, image_size: Size | None, gap: int, min_motion: float) -> None:
    """Check what is wanted of any data set.

    Args:
        split: Name of a store's folder.
        image_size: (h, w) to store, or None for that of the pictures.
        gap: Frames between a target and each of its sources.
        min_motion: Least apparent motion, in widths of the picture.

    Raises:
        UsageError: Naming the first setting that makes no sense.
    """
    if gap < 1 or not 0 <= min_motion < 1:
        raise UsageError(
            f"gap {gap}, least motion {min_motion:g} widths: expected 1 or more, and 0 to 1"
        )
    if image_size is not None and not all(0 < side <= MAX_SIDE for side in image_size):
        height, width = image_size
        raise UsageError(f"a size of {height}x{width}, expected sides of 1..{MAX_SIDE} px")
    if not split or "/" in split or split.startswith("."):
        raise UsageError(f"split '{split}': expected the name of a folder, like train")
