"""Where Cityscapes keeps what: file names, cameras, depth of its stereo disparity, its vehicle.

Images are named ``<city>_<sequence>_<frame>_<part>``; a snippet is 30 frames around an annotated
one, its 20th. Snippets of one sequence may touch, so that one sequence holds many of them.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unienc_core.errors import DataError

FPS = 17.0
BEFORE, AFTER = 19, 10
"""Frames of a snippet before and after its annotated one."""

SEQUENCE, IMAGES, LABELS = "leftImg8bit_sequence", "leftImg8bit", "gtFine"
DISPARITY, CAMERA = "disparity", "camera"

SUFFIXES = {
    "sequence": (SEQUENCE, "leftImg8bit.png"),
    "image": (IMAGES, "leftImg8bit.png"),
    "semantic": (LABELS, "gtFine_labelIds.png"),
    "instance": (LABELS, "gtFine_instanceIds.png"),
    "disparity": (DISPARITY, "disparity.png"),
    "disparity_sequence": ("disparity_sequence", "disparity.png"),
    "camera": (CAMERA, "camera.json"),
    "vehicle": ("vehicle", "vehicle.json"),
    "vehicle_sequence": ("vehicle_sequence", "vehicle.json"),
}
"""Part to its folder and the end of its file names."""

DISPARITIES = ("disparity", "disparity_sequence")
VEHICLES = ("vehicle", "vehicle_sequence")
"""The annotated frames alone, and all of their snippets; of a frame that is in both the former."""

_NAME = re.compile(r"(.+)_(\d{6})_(\d{6})_(.+)")
_MAX_JSON = 1 << 16
_KEPT_FILES = 4096


class FrameName(NamedTuple):
    """Which frame of which sequence of which city."""

    city: str
    sequence: int
    frame: int

    @property
    def stem(self) -> str:
        """What the file names of all parts begin with."""
        return f"{self.city}_{self.sequence:06d}_{self.frame:06d}"


def path_of(root: Path, part: str, split: str, name: FrameName) -> Path:
    """Return where a part of a frame lies."""
    folder, suffix = SUFFIXES[part]
    return root / folder / split / name.city / f"{name.stem}_{suffix}"


def tree_of(part: str, split: str) -> str:
    """Return where a part of the frames is expected, relative to the root, for people."""
    folder, suffix = SUFFIXES[part]
    return f"{folder}/{split}/<city>/<city>_<sequence>_<frame>_{suffix}"


def names_in(root: Path, part: str, split: str) -> list[FrameName]:
    """List the frames that have a part, sorted; none where its folder is missing."""
    folder, suffix = SUFFIXES[part]
    cities = root / folder / split
    if not cities.is_dir():
        return []
    found = (_parse(path, suffix) for path in cities.glob("*/*"))
    return sorted(name for name in found if name is not None)


def _parse(path: Path, suffix: str) -> FrameName | None:
    match = _NAME.fullmatch(path.name)
    if match is None or match[4] != suffix or match[1] != path.parent.name:
        return None
    return FrameName(match[1], int(match[2]), int(match[3]))


@dataclass(frozen=True)
class CityscapesCamera:
    """Camera of a snippet, of the whole picture.

    Attributes:
        K: `3 3`, px.
        baseline: Between the two cameras, m.
        height: Above the ground, m.
    """

    K: np.ndarray
    baseline: float
    height: float

    @property
    def fx(self) -> float:
        """Focal length, px."""
        return float(self.K[0, 0])


TYPICAL_SIZE = (1024, 2048)


def typical_camera() -> CityscapesCamera:
    """Return the calibration that most cities come near to; each has its own."""
    K = np.array([[2262.52, 0, 1096.98], [0, 2265.3017905988554, 513.137], [0, 0, 1]])
    return CityscapesCamera(K, 0.209313, 1.22)


def nearest_camera(frame: int, with_camera: Sequence[int]) -> int | None:
    """Choose the camera file of a frame: its own, that of its snippet, else the nearest one.

    Args:
        frame: Number in its sequence.
        with_camera: Numbers of that sequence that have a file; no particular order.
    """
    if not with_camera:
        return None
    own_snippet = [n for n in with_camera if n - BEFORE <= frame <= n + AFTER]
    return min(own_snippet or with_camera, key=lambda n: (abs(n - frame), n))


def camera_of(root: Path, split: str, name: FrameName) -> CityscapesCamera:
    """Read the camera of a frame.

    Raises:
        DataError: If its sequence has none, or the file cannot be read.
    """
    return read_camera(camera_file(root, split, name))


def camera_file(root: Path, split: str, name: FrameName) -> Path:
    """Return the camera file of a frame.

    Raises:
        DataError: If its sequence has none.
    """
    number = nearest_camera(name.frame, _frames_with_camera(root, split, name.city, name.sequence))
    if number is None:
        missing = path_of(root, "camera", split, name)
        raise DataError(f"{missing}: missing, and so is any other of this sequence")
    return path_of(root, "camera", split, name._replace(frame=number))


def forget_cameras() -> None:
    """Forget all camera files that were read: they may be others now."""
    _frames_with_camera.cache_clear()
    read_camera.cache_clear()


@lru_cache(_KEPT_FILES)
def _frames_with_camera(root: Path, split: str, city: str, sequence: int) -> tuple[int, ...]:
    folder, suffix = SUFFIXES["camera"]
    names = (
        _parse(path, suffix) for path in (root / folder / split / city).glob(f"*_{sequence:06d}_*")
    )
    return tuple(sorted(n.frame for n in names if n is not None and n.sequence == sequence))


@lru_cache(_KEPT_FILES)
def read_camera(path: Path) -> CityscapesCamera:
    """Read a camera file.

    Raises:
        DataError: If it is missing, no JSON, or lacks a number.
    """
    raw = _read_json(path)
    fx, fy = (_number(raw, path, "intrinsic", name, positive=True) for name in ("fx", "fy"))
    u0, v0 = (_number(raw, path, "intrinsic", name) for name in ("u0", "v0"))
    baseline, height = (_number(raw, path, "extrinsic", name) for name in ("baseline", "z"))
    if baseline == 0:
        raise DataError(f"{path}: extrinsic.baseline is 0, expected the distance of the cameras, m")
    return CityscapesCamera(np.array([[fx, 0, u0], [0, fy, v0], [0, 0, 1.0]]), baseline, height)


def read_vehicle(path: Path) -> tuple[float, float]:
    """Read how a frame's vehicle moved: speed, m/s, and yaw rate, rad/s, left positive.

    Raises:
        DataError: If the file is missing, no JSON, or lacks a number.
    """
    raw = _read_json(path)
    return _number(raw, path, "speed"), _number(raw, path, "yawRate")


def _read_json(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return json.loads(file.read(_MAX_JSON))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None


def _number(raw: Any, path: Path, *names: str, positive: bool = False) -> float:
    value: Any = raw
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    if not _is_number(value) or (positive and value <= 0):
        raise DataError(f"{path}: {'.'.join(names)} is {value!r}, expected a number")
    return float(value)


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def disparity_to_metres(codes: np.ndarray, camera: CityscapesCamera) -> np.ndarray:
    """Turn disparity as it is stored into depth.

    The stored code p means d = (p - 1) / 256 px of the whole picture, and depth = fx baseline / d.
    Code 0 means no match, and code 1 would be infinitely far: both are unknown.

    Args:
        codes: `H W`, uint16, of the whole picture or any choice of its pixels.
        camera: Of the whole picture.

    Returns:
        `H W`, float32, m; 0 where unknown.
    """
    known = codes > 1
    disparity = np.where(known, codes.astype(np.float64) - 1.0, 1.0) / 256.0
    depth = camera.fx * abs(camera.baseline) / disparity
    return np.where(known, depth, 0.0).astype(np.float32)
