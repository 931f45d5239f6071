"""Folders of depth maps, ours or other people's: `.npy` and 16-bit PNG, paired by name."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from imageio.v3 import imread

from unienc_core.errors import DataError
from unienc_core.inference.sinks.depth_png import PNG_SCALE

SUFFIXES = (".npy", ".png")
MAX_PIXELS = 1 << 28
"""A map beyond this is a mistake; checked before anything is allocated."""

_NPY_MAGIC = b"\x93NUMPY"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = struct.Struct(">16xIIBB")  # width, height, bits, colour type
_LISTED = 5


def pair_files(predictions: Path, ground_truth: Path) -> list[tuple[str, Path, Path]]:
    """Pair two folders by name without suffix, subfolders included.

    Args:
        predictions: Folder of predicted maps.
        ground_truth: Folder of depth maps in m.

    Returns:
        Name, prediction and ground truth of each image, sorted by name.

    Raises:
        DataError: If a folder is missing or empty, or a name stands in one of them only.
    """
    predicted, truth = _files_of(predictions), _files_of(ground_truth)
    faults = [
        f"{len(names)} without {what}: {_some(names)}"
        for names, what in (
            (truth.keys() - predicted.keys(), f"a prediction in {predictions}"),
            (predicted.keys() - truth.keys(), f"ground truth in {ground_truth}"),
        )
        if names
    ]
    if faults:
        raise DataError("; ".join(faults) + "; both folders must hold the same names")
    return [(name, predicted[name], truth[name]) for name in sorted(truth)]


def _files_of(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one of {' or '.join(SUFFIXES)} files")
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.suffix.lower() not in SUFFIXES or hidden:
            continue
        name = relative.with_suffix("").as_posix()
        if name in files:
            raise DataError(f"{path}: '{name}' stands twice, also as {files[name].name}; keep one")
        files[name] = path
    if not files:
        raise DataError(f"{folder}: holds no {' or '.join(SUFFIXES)} file")
    return files


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    rest = len(ordered) - _LISTED
    return ", ".join(ordered[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def read_map(path: Path) -> np.ndarray:
    """Read a depth or disparity map.

    Args:
        path: A float `.npy` of shape `H W` (axes of length 1 are dropped), or a 16-bit grey PNG
            of the value times 256.

    Returns:
        `H W`, float64.

    Raises:
        DataError: If the file is unreadable or holds anything else.
    """
    try:
        values = _read_npy(path) if path.suffix.lower() == ".npy" else _read_png(path)
    except (OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: cannot read: {' '.join(str(error).split())}") from None
    if values.ndim != 2:
        raise DataError(f"{path}: shape {values.shape}, expected a map of shape (H, W)")
    return values.astype(np.float64)


def _read_npy(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        if file.read(len(_NPY_MAGIC)) != _NPY_MAGIC:
            raise ValueError("not a .npy file")
    # Mapped, so that dtype and size are known before memory is taken. Object arrays, which could
    # run code, cannot be mapped.
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    if values.dtype.kind != "f":
        raise ValueError(f"holds {values.dtype}, expected floats (or a 16-bit PNG of value x 256)")
    if not 0 < values.size <= MAX_PIXELS:
        raise ValueError(f"shape {values.shape} is no depth map")
    if values.ndim == 2 and values.shape[1] == 3:
        raise ValueError(f"shape {values.shape} looks like a list of points, expected (H, W)")
    return values.squeeze() if values.ndim > 2 else values


def _read_png(path: Path) -> np.ndarray:
    data = path.read_bytes()
    if len(data) < _PNG_HEADER.size or not data.startswith(_PNG_MAGIC):
        raise ValueError("not a PNG file")
    width, height, bits, colour = _PNG_HEADER.unpack_from(data)
    if (bits, colour) != (16, 0):
        raise ValueError(f"{bits}-bit PNG of colour type {colour}, expected 16-bit grey")
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(f"{height}x{width} pixels are no depth map")
    try:
        values = imread(data, extension=".png", plugin="pillow")
    except (OSError, SyntaxError):  # Pillow raises either on a broken file
        raise ValueError("the PNG is cut or damaged") from None
    return values / PNG_SCALE
