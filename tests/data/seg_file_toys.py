"""Small segmentations on disk, in the official formats, and PNGs with something wrong."""

import json
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

CATEGORIES = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


def write_png(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values)
    return path


def grey(value: int = 7, bits: int = 8, size: tuple[int, int] = (4, 6)) -> np.ndarray:
    return np.full(size, value, np.uint8 if bits == 8 else np.uint16)


def annotation(key: str, **changes) -> dict:
    """One picture of road (7) and a car (26001), as a document lists it."""
    segments = [
        {"id": 7, "category_id": 7, "area": 20, "iscrowd": 0, "bbox": [0, 0, 6, 4]},
        {"id": 26001, "category_id": 26, "area": 4, "iscrowd": 0},
    ]
    return {"image_id": key, "file_name": f"{key}.png", "segments_info": segments} | changes


def write_panoptic_set(folder: Path, keys: list[str], **changes) -> Path:
    """Write a document and its pictures, and return the document."""
    ids = np.full((4, 6), 7)
    ids[:2, :2] = 26001
    colours = np.stack([ids >> 16, ids >> 8 & 255, ids & 255], -1).astype(np.uint8)  # B G R
    for key in keys:
        write_png(folder / "cityscapes_panoptic_val" / f"{key}.png", colours)
    document = {
        "annotations": [annotation(key, **changes) for key in keys],
        "categories": [{"id": number, "name": str(number)} for number in CATEGORIES],
    }
    path = folder / "cityscapes_panoptic_val.json"
    path.write_text(json.dumps(document))
    return path


def chunks_of(data: bytes) -> list[tuple[bytes, bytes]]:
    """Take a PNG apart."""
    at, chunks = 8, []
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def png_of(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Put a PNG together, checksums and all."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, body in chunks:
        parts += [struct.pack(">I", len(body)), kind, body]
        parts.append(struct.pack(">I", zlib.crc32(kind + body)))
    return b"".join(parts)
