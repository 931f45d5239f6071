"""Predicted instances as files: a text file an image that names a mask, class and score a line.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from unienc_core.class_tables import ClassTable
from unienc_core.data.resample import Size
from unienc_core.data.seg_files.png import read_mask
from unienc_core.errors import DataError
from unienc_core.files import write_atomic
from unienc_core.segmentation import Instance

MASKS_FOLDER = "masks"
"""Where `write_instances` puts them, in the folder of the text files."""


class _Line(NamedTuple):
    label_id: int
    score: float


def read_instances(path: Path, root: Path, size: Size, table: ClassTable) -> Iterator[Instance]:
    """Read the predicted objects of one image, one mask at a time.

    Masks of classes that are no evaluated things are not read. Of lines with the same mask the
    last one counts, as in the benchmark.

    Args:
        path: Text file of lines ``relative_png label_id score``; without a line, nothing is
            predicted. Paths are relative to its folder.
        root: Folder of all predictions, which no path may leave.
        size: Height and width that the masks must have.
        table: The classes.

    Raises:
        DataError: If a file is missing or damaged, or a line is not understood.
    """
    for mask, (label_id, score) in _lines(path, root).items():
        entry = table.by_id.get(label_id)
        if entry is None:
            raise DataError(
                f"{path}: names the class {label_id}, which {table.name} does not have; expected "
                "label ids, not training ids"
            )
        if entry.is_thing:
            yield Instance(label_id, score, read_mask(mask, size))


def write_instances(folder: Path, key: str, instances: Iterable[Instance]) -> Path:
    """Write the objects of one image as `read_instances` reads them.

    Args:
        folder: Where the text file is put, beside the folder of the masks; made if missing.
        key: Of the image: the text file's stem.
        instances: The objects. They are taken one by one.

    Returns:
        The text file. It is written last, so that what it names is there.

    Raises:
        OSError: If a file cannot be written.
    """
    masks = folder / MASKS_FOLDER
    masks.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, instance in enumerate(instances):
        name = f"{key}_{number:03d}.png"
        _, data = cv2.imencode(".png", instance.mask.astype(np.uint8) * 255)
        write_atomic(masks / name, data.tobytes())
        lines.append(f"{MASKS_FOLDER}/{name} {instance.label_id} {float(instance.score)!r}\n")
    path = folder / f"{key}.txt"
    write_atomic(path, "".join(lines).encode())
    return path


def _lines(path: Path, root: Path) -> dict[Path, _Line]:
    """Read the text file: what it says of each mask."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise DataError(f"{path}: the predictions cannot be read ({reason})") from None
    whole = _flat(root)
    found: dict[Path, _Line] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        parts = line.split()
        if len(parts) != 3:
            raise DataError(
                f"{where}: found {len(parts)} words, expected three: mask, label id, score"
            )
        mask = _flat(path.parent / parts[0])
        is_strange = "\0" in parts[0] or Path(parts[0]).is_absolute()
        if is_strange or not mask.is_relative_to(whole):
            raise DataError(f"{where}: names {parts[0]!r}, expected a relative path inside {root}")
        label_id, score = (_number(word, where) for word in parts[1:])
        if label_id != int(label_id):
            raise DataError(f"{where}: the class is {parts[1]}, expected a label id")
        found[mask] = _Line(int(label_id), score)
    return found


def _flat(path: Path) -> Path:
    """Make a path absolute and take out its `..`; links are left as they are."""
    return Path(os.path.normpath(path.absolute()))


def _number(word: str, where: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = float("nan")
    if not math.isfinite(value):
        raise DataError(f"{where}: found '{word}', expected a finite number")
    return value
