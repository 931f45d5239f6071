"""Drives of the MIT lane-keeping protocol (Lechner et al. 2020): one HDF5 file each.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from unienc_core.data.manifest import MAX_FRAMES, MAX_SIDE
from unienc_core.data.resample import Size
from unienc_core.data.sets.listing import Listing, missing_tree
from unienc_core.data.sets.measured import Labels, check_increasing
from unienc_core.data.sets.recording import Recording
from unienc_core.data.sets.recordings import RecordingsRequest, add_recordings, gather
from unienc_core.data.steering import CURVATURE
from unienc_core.errors import DataError

PICTURES, TIMES, INVERSE_RADIUS = "camera_front", "timestamp", "inverse_r"
PER_KM = 1000.0
_SUFFIXES = (".h5", ".hdf5")
_TREE = (f"<drive>.h5 with {PICTURES}, {TIMES} and {INVERSE_RADIUS}",)


def list_mit_driving(root: Path, request: RecordingsRequest) -> Listing:
    """List what a folder of drives, or one file, becomes: a recording a file.

    ``inverse_r``, 1/m, is the curvature of the driven path, yaw rate / speed, left positive.

    Raises:
        DataError: If there is no drive, or none can be read.
    """
    listing = Listing(root)
    inside = sorted(root.iterdir()) if root.is_dir() else [root]
    files = [path for path in inside if path.suffix in _SUFFIXES and path.is_file()]
    if not files:
        raise missing_tree(root, "drive of the MIT protocol", _TREE)
    labels = Labels(CURVATURE, request.labels, "MIT protocol, inverse_r")
    found = gather(listing, [(p.name, partial(_recording, p, labels)) for p in files])
    listing.remarks += labels.remarks()
    add_recordings(listing, found, request, "mit-driving", {labels.key: labels.spec})
    return listing


def _recording(path: Path, labels: Labels) -> Recording:
    with _opened(path) as file:
        count, height, width, _ = _dataset(file, path, PICTURES, 4).shape
        times = _numbers(file, path, TIMES, count)
        inverse_radius = _numbers(file, path, INVERSE_RADIUS, count)
    check_increasing(times, path)
    curvature = labels.clean(PER_KM * inverse_radius)
    return Recording(
        name=path.stem,
        pictures=DriveFile(path, count, (height, width)),
        times=times,
        columns={labels.key: labels.finish(curvature, path)},
    )


@dataclass(frozen=True)
class DriveFile:
    """The pictures of one file.

    Attributes:
        path: The file.
        count: How many.
        image_size: (h, w).
    """

    path: Path
    count: int
    image_size: Size

    @property
    def separate(self) -> bool:
        """Whether one that cannot be read says nothing of those after it."""
        return True

    def size(self) -> Size:
        """Return (h, w)."""
        return self.image_size

    def read(self, positions: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield pictures at these positions."""
        with _opened(self.path) as file:
            node = _dataset(file, self.path, PICTURES, 4)
            for position in positions:
                try:
                    picture = np.asarray(node[position])
                except (OSError, ValueError, RuntimeError) as error:
                    raise DataError(f"{self.name(position)}: {_line(error)}") from None
                yield picture

    def name(self, position: int) -> str:
        """Return what a picture is called."""
        return f"{self.path}, {PICTURES} {position}"


def _opened(path: Path) -> Any:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: no HDF5 file can be read ({_line(error)})") from None


def _dataset(file: Any, path: Path, name: str, ndim: int) -> Any:
    """Return an array of the file itself: a link may lead to another file."""
    node = file.get(name) if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(node, h5py.Dataset) or node.is_virtual or node.external:
        known = ", ".join(sorted(file)[:8]) or "nothing"
        raise DataError(f"{path}: no array '{name}'; found {known}")
    pictures = ndim == 4
    fits = node.ndim == ndim and 0 < node.shape[0] <= MAX_FRAMES
    if pictures:
        fits = fits and node.dtype == np.uint8 and node.shape[3] == 3
        fits = fits and all(0 < side <= MAX_SIDE for side in node.shape[1:3])
    else:
        fits = fits and node.dtype.kind in "fiu"
    if not fits:
        expected = "uint8 (n, h, w, 3)" if pictures else "numbers (n,)"
        raise DataError(f"{path}: {name} is {node.dtype} {node.shape}, expected {expected}")
    return node


def _numbers(file: Any, path: Path, name: str, count: int) -> np.ndarray:
    node = _dataset(file, path, name, 1)
    if node.shape[0] != count:
        raise DataError(f"{path}: {node.shape[0]} values of {name}, but {count} of {PICTURES}")
    try:
        return np.asarray(node[()], np.float64)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: {name} cannot be read ({_line(error)})") from None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
