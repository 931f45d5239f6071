"""Drives of a rendered city in the layout of Cityscapes, for every tool that reads that set.

A drive becomes a sequence of the city `CITY`. As in the set, one frame in 30 is annotated.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unienc_core.data.store import Store
from unienc_core.files import write_atomic

CITY = "synthcity"

BASELINE = 0.209313
"""Metres between the two cameras, as in the set; the right one is never rendered."""

SNIPPET_FRAMES, ANNOTATED_FRAME = 30, 19
"""The set consists of snippets of 30 frames, of which the 20th is annotated."""

KEYS = ("image", "K", "depth", "semantic", "instance")
"""What a store must hold to be laid out so."""

PACKAGES = (
    "leftImg8bit_sequence",
    "disparity_sequence",
    "leftImg8bit",
    "disparity",
    "camera",
    "gtFine",
)
"""The top folders, named as the archives that the set is published in; the first two hold every
frame, the others the annotated ones."""

_OF_EVERY_FRAME = ("leftImg8bit_sequence leftImg8bit.png", "disparity_sequence disparity.png")
_OF_ANNOTATED = (
    "leftImg8bit leftImg8bit.png",
    "disparity disparity.png",
    "camera camera.json",
    "gtFine gtFine_labelIds.png",
    "gtFine gtFine_instanceIds.png",
)
"""Top folder, and the end of the names in it."""


def annotated_frames(num_frames: int) -> list[int]:
    """Return which frames of a drive are annotated; the middle one where it is too short."""
    frames = range(ANNOTATED_FRAME, num_frames, SNIPPET_FRAMES)
    return list(frames) or [num_frames // 2]


def disparity_codes(depth: np.ndarray, fx: float) -> np.ndarray:
    """Encode depth as the set encodes disparity: code = 256 d + 1 with d = fx baseline / depth.

    Args:
        depth: `H W`, m; 0 where there is none.
        fx: Focal length, px.

    Returns:
        `H W` uint16, rounded to the nearest code; 0 where there is no depth, or none that a code
        above 1 could tell.
    """
    known = depth > 0
    disparity = np.zeros(depth.shape, np.float64)
    np.divide(fx * BASELINE, depth.astype(np.float64), out=disparity, where=known)
    codes = np.minimum(np.rint(256 * disparity) + 1, np.iinfo(np.uint16).max)
    return np.where(codes > 1, codes, 0).astype(np.uint16)


def camera_document(K: np.ndarray, height: float) -> dict[str, Any]:
    """Return a camera file's content.

    Args:
        K: `3 3`, px.
        height: Of the camera above the ground, m.
    """
    extrinsic = {"baseline": BASELINE, "z": height}
    level = dict.fromkeys(("pitch", "roll", "yaw", "x", "y"), 0.0)  # the mean of a drive
    intrinsic = {
        "fx": float(K[0, 0]),
        "fy": float(K[1, 1]),
        "u0": float(K[0, 2]),
        "v0": float(K[1, 2]),
    }
    return {"extrinsic": {**extrinsic, **level}, "intrinsic": intrinsic}


def make_folders(root: Path, split: str) -> None:
    """Make the folders that `write_drive` writes to."""
    for package in PACKAGES:
        (root / package / split / CITY).mkdir(parents=True, exist_ok=True)


def drive_files(root: Path, split: str, drive: int, num_frames: int) -> Iterator[Path]:
    """Yield the files that `write_drive` makes of a drive of so many frames."""
    annotated = set(annotated_frames(num_frames))
    for index in range(num_frames):
        for name in (*_OF_EVERY_FRAME, *(_OF_ANNOTATED if index in annotated else ())):
            yield _path(root, split, drive, index, name)


def write_drive(store: Path, drive: int, root: Path, split: str) -> None:
    """Write one drive of a store.

    Args:
        store: Its folder; it holds `KEYS`, images as PNG.
        drive: Position in the store, which becomes the number of the sequence.
        root: Top folder, its folders made.
        split: Split to write to.

    Raises:
        DataError: If a frame cannot be read.
        OSError: If a file cannot be written.
    """
    with closing(Store(store)) as opened:
        info = opened.drives[drive]
        annotated = set(annotated_frames(info.num_frames))
        for index in range(info.num_frames):
            frame = opened.frame(drive, index, KEYS[1:])
            image = opened.encoded(drive, index, "image").tobytes()
            disparity = _png(disparity_codes(frame["depth"], float(frame["K"][0, 0])))
            files = dict(zip(_OF_EVERY_FRAME, (image, disparity), strict=True))
            if index in annotated:
                camera = camera_document(frame["K"], float(info.attrs["camera_height"] or 0))
                contents = (
                    image,
                    disparity,
                    (json.dumps(camera, indent=1) + "\n").encode(),
                    _png(frame["semantic"]),
                    _png(frame["instance"].astype(np.uint16)),
                )
                files |= dict(zip(_OF_ANNOTATED, contents, strict=True))
            for name, content in files.items():
                write_atomic(_path(root, split, drive, index, name), content)


def _path(root: Path, split: str, drive: int, index: int, name: str) -> Path:
    package, kind = name.split()
    return root / package / split / CITY / f"{CITY}_{drive:06d}_{index:06d}_{kind}"


def _png(values: np.ndarray) -> bytes:
    """Encode a grey image of 8 or 16 bits."""
    return cv2.imencode(".png", values)[1].tobytes()
