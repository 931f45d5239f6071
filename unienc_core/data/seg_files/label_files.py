"""Label ids and instance ids as grey PNGs, as Cityscapes keeps them.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from unienc_core.data.seg_files.png import read_grey
from unienc_core.errors import DataError
from unienc_core.files import write_atomic

LABELS_SUFFIX, INSTANCES_SUFFIX = "_labelIds.png", "_instanceIds.png"


def read_label_ids(path: Path) -> np.ndarray:
    """Read the label id of each pixel from a grey PNG of 8 bits, or the indices of a palette.

    Returns:
        `H W` uint8.

    Raises:
        DataError: If it is missing, damaged, or of another kind.
    """
    return read_grey(path, 8)


def read_instance_ids(path: Path) -> np.ndarray:
    """Read the instance id of each pixel from a grey PNG of 16 bits.

    Returns:
        `H W` uint16: label id x 1000 + number, or the label id alone.

    Raises:
        DataError: If it is missing, damaged, or of another kind, 8 bits above all.
    """
    return read_grey(path, 16, "instance ids go up to 33999, and 8 bits would merge objects")


def write_label_ids(folder: Path, key: str, label_ids: np.ndarray) -> Path:
    """Write label ids, `H W` uint8, as ``<key>_labelIds.png`` and return its path.

    Raises:
        OSError: If it cannot be written.
    """
    path = folder / f"{key}{LABELS_SUFFIX}"
    ok, data = cv2.imencode(".png", label_ids)
    if not ok or label_ids.dtype != np.uint8 or label_ids.ndim != 2:
        shape = "x".join(map(str, label_ids.shape))
        raise DataError(f"{path}: found {label_ids.dtype} of {shape}, expected uint8 of two axes")
    write_atomic(path, data.tobytes())
    return path
