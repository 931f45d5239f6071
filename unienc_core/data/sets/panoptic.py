"""Panoptic ground truth of Cityscapes, made of its instanceIds images as the official tool does.

The set is published without it: one PNG an image whose colour is the id of the segment, and one
JSON file a split that says what each segment is.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from unienc_core.classes import IGNORE_TRAIN_ID, INSTANCE_FACTOR, LABELS, Label
from unienc_core.data.codecs import encode_image
from unienc_core.data.sets.pictures import read_codes
from unienc_core.errors import DataError
from unienc_core.files import write_atomic

INSTANCE_SUFFIX = "_gtFine_instanceIds.png"

_NUM_CODES = 1 << 16


def panoptic_segments(ids: np.ndarray, where: str = "ids") -> list[dict[str, Any]]:
    """List the segments of an image of instance ids.

    A plain label id of a class with instances is a group of objects that nobody told apart (a
    crowd); of any other class it is one segment. Classes that are not evaluated have none.

    Args:
        ids: `H W` uint16: label id x 1000 + number, or the label id alone.
        where: What to call the image in the error.

    Returns:
        By id, each with `id` (the value in the image), `category_id` (label id), `area` (px),
        `bbox` (x, y, width, height, px) and `iscrowd` (0 or 1).

    Raises:
        DataError: If a value belongs to no label.
    """
    areas = np.bincount(ids.reshape(-1), minlength=_NUM_CODES)
    segments = []
    for value in np.flatnonzero(areas).tolist():
        label = label_of(value, where)
        if _is_ignored(label):
            continue
        segments.append(
            {
                "id": value,
                "category_id": label.id,
                "area": int(areas[value]),
                "bbox": _box(ids == value),
                "iscrowd": int(value < INSTANCE_FACTOR and label.has_instances),
            }
        )
    return segments


def panoptic_picture(ids: np.ndarray, segments: Sequence[dict[str, Any]]) -> np.ndarray:
    """Paint segments in the colours that mean their ids: id = R + 256 G + 65536 B.

    Args:
        ids: `H W` uint16, as `panoptic_segments` takes it.
        segments: Those to be painted; all else is black, which means unlabelled.

    Returns:
        `H W 3` uint8, RGB.
    """
    colours = np.zeros((_NUM_CODES, 3), np.uint8)
    for segment in segments:
        colours[segment["id"]] = [segment["id"] >> shift & 255 for shift in (0, 8, 16)]
    return colours[ids]


def panoptic_categories() -> list[dict[str, Any]]:
    """Return the evaluated classes as the JSON file lists them."""
    return [
        {
            "id": label.id,
            "name": label.name,
            "color": list(label.color),
            "supercategory": label.category,
            "isthing": int(label.has_instances),
        }
        for label in LABELS
        if not _is_ignored(label)
    ]


def convert_image(source: Path, target: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Convert one image.

    Args:
        source: ``*_gtFine_instanceIds.png``.
        target: The panoptic PNG to write.

    Returns:
        Its entries in the JSON file under `images` and `annotations`.

    Raises:
        DataError: If the image is missing, damaged, or holds an id of no label.
        OSError: If the target cannot be written.
    """
    ids = read_codes(source, np.uint16)
    segments = panoptic_segments(ids, str(source))
    write_atomic(target, encode_image(panoptic_picture(ids, segments), "png").tobytes())
    stem = source.name.removesuffix(INSTANCE_SUFFIX)
    image = {
        "id": stem,
        "width": ids.shape[1],
        "height": ids.shape[0],
        # What the official tool writes, although no image of the set is called so.
        "file_name": f"{stem}_gtFine_leftImg8bit.png",
    }
    return image, {"image_id": stem, "file_name": target.name, "segments_info": segments}


@cache
def _labels_by_id() -> dict[int, Label]:
    return {label.id: label for label in LABELS}


def label_of(value: int, where: str) -> Label:
    """Return the label that a label id or an instance id belongs to.

    Args:
        value: The id.
        where: What to call its image in the error.

    Raises:
        DataError: If it belongs to none.
    """
    number = value // INSTANCE_FACTOR if value >= INSTANCE_FACTOR else value
    label = _labels_by_id().get(number)
    if label is None:
        raise DataError(
            f"{where}: holds the id {value}, expected label ids 0..{LABELS[-1].id} or label id x "
            f"{INSTANCE_FACTOR} + number; is it an image of ids?"
        )
    return label


def _is_ignored(label: Label) -> bool:
    return label.train_id == IGNORE_TRAIN_ID


def _box(mask: np.ndarray) -> list[int]:
    """Return x, y, width, height of the pixels that are set."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1]
