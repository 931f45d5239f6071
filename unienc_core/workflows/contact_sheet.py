"""One picture of what stores hold: a row per frame, a column per key."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from unienc_core.classes import id_palette
from unienc_core.data.codecs import encode_image
from unienc_core.data.store import Store
from unienc_core.files import write_atomic
from unienc_core.inference.overlays import choose_range, depth_to_colour

_KEYS = ("image", "depth", "semantic", "motion_mask")
_GAP = 4


def write_contact_sheet(path: Path, stores: Sequence[Path], rows_per_store: int = 3) -> None:
    """Draw image, depth, classes and motion of some frames of each store.

    Args:
        path: PNG to write.
        stores: Stores with these keys, all of one image size.
        rows_per_store: Drives shown of each, evenly spread, with their middle frame.
    """
    rows: list[np.ndarray] = []
    for folder in stores:
        with closing(Store(folder)) as store:
            count = min(rows_per_store, len(store.drives))
            for drive in np.linspace(0, len(store.drives) - 1, count).round().astype(int):
                middle = store.drives[drive].num_frames // 2
                rows.append(_row(store.frame(int(drive), middle, _KEYS)))
    gap = np.full((_GAP, rows[0].shape[1], 3), 255, np.uint8)
    stacked = [part for row in rows for part in (row, gap)][:-1]
    write_atomic(path, encode_image(np.concatenate(stacked), "png").tobytes())


def _row(frame: dict[str, np.ndarray]) -> np.ndarray:
    image, depth = frame["image"], frame["depth"]
    moving = frame["motion_mask"][..., None] > 0
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    red = (0.4 * grey + 0.6 * np.array([255, 40, 0])).astype(np.uint8)
    pictures = [
        image,
        depth_to_colour(depth, choose_range([depth])),
        id_palette()[frame["semantic"]],
        np.where(moving, red, grey),
    ]
    gap = np.full((image.shape[0], _GAP, 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, gap)][:-1], axis=1)
