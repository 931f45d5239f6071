"""Panoptic segmentations as files: one JSON document, and a PNG a picture (COCO's format).

The colour of a pixel is the id of its segment, id = R + 256 G + 65536 B, and 0 is void; the
document says which class each segment has. Its PNGs lie in the folder of its own name, or beside
it.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from pydantic import BaseModel, Field, StrictInt, ValidationError

from unienc_core.class_tables import ClassTable
from unienc_core.data.codecs import encode_image
from unienc_core.data.seg_files.label_files import read_instance_ids
from unienc_core.data.seg_files.png import read_colours
from unienc_core.errors import DataError
from unienc_core.files import write_atomic
from unienc_core.segmentation import Segment

PICTURE_SUFFIX = "_panoptic.png"

_POLYGONS = "_polygons.json"
_MAX_JSON = 1 << 30
_MAX_ID = (1 << 24) - 1
_ID_BITS = np.int32(_MAX_ID)


@dataclass(frozen=True)
class PanopticPicture:
    """A panoptic picture on disk.

    Attributes:
        path: PNG.
        segments: Its segments as the document lists them; None where the PNG holds instance ids,
            which say themselves what they are.
    """

    path: Path
    segments: tuple[Segment, ...] | None

    def read_ids(self) -> np.ndarray:
        """Read the segment id of each pixel, `H W` int32, or its instance id, `H W` uint16.

        Raises:
            DataError: If the file is missing, damaged, or of another kind.
        """
        return read_instance_ids(self.path) if self.segments is None else read_ids(self.path)


def find_document(folder: Path) -> Path | None:
    """Return the panoptic document of a folder, or None if it holds no JSON file.

    Of several, that of the split `val` is meant, in label ids and not in training ids. Polygons,
    which Cityscapes keeps beside its labels, are passed over.

    Args:
        folder: A folder; or the document itself.

    Raises:
        DataError: If there are several and none is called so.
    """
    if folder.is_file():
        return folder
    found = [p for p in sorted(folder.glob("*.json")) if not p.name.endswith(_POLYGONS)]
    chosen = found if len(found) == 1 else [p for p in found if p.stem.endswith("_val")]
    if found and len(chosen) != 1:
        names = ", ".join(path.name for path in found[:3])
        raise DataError(
            f"{folder}: found {len(found)} JSON files ({names}{', ...' * (len(found) > 3)}), "
            "expected one; give the path of the one that is meant"
        )
    return chosen[0] if chosen else None


def read_document(path: Path, table: ClassTable, *, truth: bool) -> dict[str, PanopticPicture]:
    """Read a panoptic document.

    Args:
        path: JSON file.
        table: The classes; a list of classes in the document must be that of the evaluated ones.
        truth: Whether it is ground truth, of which the areas are used.

    Returns:
        Image id to picture, in the order of the document.

    Raises:
        DataError: If it cannot be read, is none, or names a PNG that is missing.
    """
    document = _parse(path)
    listed = {category.id for category in document.categories}
    expected = {entry.id for entry in table.evaluated}
    if listed and listed != expected:
        raise DataError(
            f"{path}: lists the classes {_some(listed)}, expected those of {table.name}: "
            f"{_some(expected)}; are they training ids?"
        )
    folder = path.with_suffix("")
    folder = folder if folder.is_dir() else path.parent
    pictures: dict[str, PanopticPicture] = {}
    for annotation in document.annotations:
        key = str(annotation.image_id)
        if key in pictures:
            raise DataError(f"{path}: annotates the image {key} twice, expected once")
        file = _inside(folder, annotation.file_name, path)
        pictures[key] = PanopticPicture(file, _segments(annotation, path, truth))
    missing = [picture.path for picture in pictures.values() if not picture.path.is_file()]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of its {len(pictures)} PNGs are missing, first {missing[0]}"
        )
    return pictures


def read_ids(path: Path) -> np.ndarray:
    """Read the segment id of each pixel from a colour PNG.

    Returns:
        `H W` int32, R + 256 G + 65536 B.

    Raises:
        DataError: If it is missing, damaged, or no RGB picture of 8 bits.
    """
    colours = read_colours(path)
    if colours.shape[2] == 3:
        colours = cv2.cvtColor(colours, cv2.COLOR_RGB2RGBA)
    ids = colours.view("<i4")[..., 0]  # four bytes are one number, of which A is the highest
    return np.bitwise_and(ids, _ID_BITS, out=ids)


def write_picture(
    folder: Path, key: str, ids: np.ndarray, segments: Sequence[Segment]
) -> dict[str, Any]:
    """Write one panoptic picture as ``<key>_panoptic.png``.

    Args:
        folder: That of the document's name.
        key: Image id.
        ids: `H W`, any integer type, segment ids of up to 24 bits.
        segments: What they mean.

    Returns:
        Its entry under `annotations` of the document.

    Raises:
        DataError: If an id does not fit.
        OSError: If the file cannot be written.
    """
    path = folder / f"{key}{PICTURE_SUFFIX}"
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) <= _MAX_ID:
        raise DataError(f"{path}: segment ids {ids.min()}..{ids.max()}, expected 0..{_MAX_ID}")
    colours = np.ascontiguousarray(ids, "<i4").view(np.uint8).reshape(*ids.shape, 4)[..., :3]
    write_atomic(path, encode_image(np.ascontiguousarray(colours), "png").tobytes())
    return {
        "image_id": key,
        "file_name": path.name,
        "segments_info": [
            {
                "id": segment.id,
                "category_id": segment.category_id,
                "area": segment.area,
                "iscrowd": int(segment.is_crowd),
            }
            for segment in segments
        ],
    }


def write_document(path: Path, annotations: Iterable[dict[str, Any]], table: ClassTable) -> None:
    """Write the document of pictures that are written; it comes last, so that it is never wrong.

    Args:
        path: JSON file, beside the folder of its name.
        annotations: As `write_picture` returns them.
        table: The classes.

    Raises:
        OSError: If it cannot be written.
    """
    entries = list(annotations)
    document = {
        "images": [{"id": entry["image_id"], "file_name": entry["file_name"]} for entry in entries],
        "annotations": entries,
        "categories": [
            {
                "id": entry.id,
                "name": entry.name,
                "color": list(entry.color),
                "supercategory": entry.category,
                "isthing": int(entry.is_thing),
            }
            for entry in table.evaluated
        ],
    }
    write_atomic(path, json.dumps(document, sort_keys=True, indent=1).encode())


class _Segment(BaseModel):
    id: StrictInt = Field(ge=0, le=_MAX_ID)
    category_id: StrictInt
    area: int | None = None
    iscrowd: bool = False


class _Annotation(BaseModel):
    image_id: StrictInt | str
    file_name: str = Field(min_length=1)
    segments_info: list[_Segment]


class _Category(BaseModel):
    id: StrictInt


class _Document(BaseModel):
    annotations: list[_Annotation]
    categories: list[_Category] = []


def _parse(path: Path) -> _Document:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_JSON + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if len(text) > _MAX_JSON:
        raise DataError(f"{path}: larger than {_MAX_JSON >> 20} MB, expected a panoptic document")
    try:
        return _Document.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        reason = " ".join(f"{where and f'{where}: '}{fault['msg']}".split())
        raise DataError(f"{path}: no panoptic document ({reason})") from None


def _segments(annotation: _Annotation, path: Path, truth: bool) -> tuple[Segment, ...]:
    where = f"{path}: image {annotation.image_id}"
    segments = {}
    for entry in annotation.segments_info:
        if entry.id in segments:
            raise DataError(f"{where}: lists the segment {entry.id} twice, expected once")
        if truth and (entry.area is None or entry.area < 1):
            raise DataError(
                f"{where}: segment {entry.id} has the area {entry.area}, expected its pixels"
            )
        segments[entry.id] = Segment(entry.id, entry.category_id, entry.iscrowd, entry.area or 0)
    return tuple(segments.values())


def _inside(folder: Path, name: str, path: Path) -> Path:
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise DataError(f"{path}: names the file {name}, expected one inside {folder}")
    return folder / relative


def _some(ids: Iterable[int]) -> str:
    ids = sorted(ids)
    return ", ".join(map(str, ids[:6])) + (", ..." if len(ids) > 6 else "")
