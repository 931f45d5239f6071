"""Image folders of anybody: one YAML file says where the pictures are and what camera took them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from unienc_core.data.clip_scan import Window
from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import Attribute, StoreSpec
from unienc_core.data.picture_motion import STANDING
from unienc_core.data.resample import Size
from unienc_core.data.sets.cuts import SEPARATOR
from unienc_core.data.sets.folder_calibration import Calibration, CameraFolders, read_folders
from unienc_core.data.sets.folder_frames import number_names
from unienc_core.data.sets.folder_source import (
    FolderCamera,
    FolderLabelled,
    FolderTriplets,
    depth_file,
)
from unienc_core.data.sets.intrinsics import check_intrinsics
from unienc_core.data.sets.listing import Listing, StorePlan, listing_digest, missing_tree
from unienc_core.data.sets.runs import cut, runs
from unienc_core.data.sets.sequence import MOST_LABELLED, common_size, most_frames
from unienc_core.data.sets.settings import check_settings
from unienc_core.data.sets.spans import to_spans
from unienc_core.data.shard_build import DrivePlan
from unienc_core.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg")
_LEAST_SIDE = 32
_MOST_NAMED = 3


@dataclass(frozen=True)
class FoldersRequest:
    """What is wanted of image folders.

    Attributes:
        split: Name of the store.
        image_size: (h, w) to store; None for that of the pictures, cropped.
        gap: Frames between a target and each of its sources.
        min_motion: Least apparent motion from a target to each source, in widths of the picture.
        image_encoding: Of the stored pictures.
    """

    split: str = "train"
    image_size: Size | None = None
    gap: int = 1
    min_motion: float = STANDING
    image_encoding: Literal["png", "jpeg"] = "jpeg"

    def __post_init__(self) -> None:
        """Check every setting."""
        check_settings(self.split, self.image_size, self.gap, self.min_motion)


def list_folders(path: Path, request: FoldersRequest) -> Listing:
    """List what the folders of a calibration file become: triplets, and labelled images.

    Args:
        path: The calibration file.
        request: What is wanted.

    Raises:
        DataError: If the file makes no sense, or no picture fits, or no triplet is left.
    """
    calibration = read_folders(path)
    root = path.parent / calibration.root
    listing = Listing(path)
    drives = _drives(path, root, calibration, listing)
    plans = [plan for drive in drives for plan in drive.plans(request, listing)]
    config = {"gap": request.gap, "min_motion": request.min_motion}
    if plans:
        spec = StoreSpec(
            source="folders",
            split=request.split,
            image_size=plans[0].image_size or (1, 1),
            keys=standard_keys("image", "K", "timestamp", image_encoding=request.image_encoding),
            fps=calibration.fps / request.gap,
            config={"frames": listing_digest(plans), **config},
        )
        source = FolderTriplets(root, calibration.fps, request.min_motion)
        listing.stores.append(StorePlan(request.split, spec, tuple(plans), source))
    labelled = [plan for drive in drives for plan in drive.labelled(listing)]
    if labelled:
        spec = StoreSpec(
            kind="images",
            source="folders",
            split=request.split,
            image_size=labelled[0].image_size or (1, 1),
            keys=standard_keys("image", "K", "depth", image_encoding=request.image_encoding),
            config={"frames": listing_digest(labelled)},
        )
        name = f"{request.split}-labelled"
        listing.stores.append(StorePlan(name, spec, tuple(labelled), FolderLabelled(root)))
    elif any(drive.spec.depth for drive in drives):
        folders = sorted(
            {f"{drive.folder}/{drive.spec.depth}" for drive in drives if drive.spec.depth}
        )
        expected = [f"{folder}/<name of a picture>(.npy|.png)" for folder in folders[:_MOST_NAMED]]
        raise missing_tree(root, "depth map", expected)
    if not listing.stores:
        raise DataError(
            f"{path}: no folder has three pictures {request.gap} apart; smaller gap, or more "
            "pictures"
        )
    return listing


@dataclass(frozen=True)
class _Drive:
    """The pictures of one folder.

    Attributes:
        root: Where patterns start.
        spec: What the calibration file says of its camera.
        folder: Relative to the root.
        name: Of the drive.
        names: File names by number.
    """

    root: Path
    spec: CameraFolders
    folder: str
    name: str
    names: dict[int, str]

    def camera(self) -> FolderCamera:
        """Return the camera, checked against the first picture.

        Raises:
            DataError: If no such camera takes such pictures, or nothing is left of them.
        """
        paths = [self.root / self.folder / self.names[number] for number in sorted(self.names)]
        path, whole = paths[0], common_size(paths)
        height, width = whole
        left, top, right, bottom = self.spec.crop
        window = Window(left, top, width - right, height - bottom)
        if min(self.spec.crop) < 0 or min(window.size) < _LEAST_SIDE:
            raise DataError(
                f"{path}: crop {list(self.spec.crop)} leaves {window.size[0]}x{window.size[1]} of "
                f"{height}x{width} px, expected {_LEAST_SIDE} or more each way"
            )
        camera = FolderCamera(whole, self.spec.K, window)
        check_intrinsics(camera.K, whole, f"K for {path}")
        return camera

    def plans(self, request: FoldersRequest, listing: Listing) -> Iterator[DrivePlan]:
        """Yield the runs of the folder."""
        camera = self.camera()
        size = request.image_size or camera.window.size
        found = runs(self.names, request.gap)
        alone = self.names.keys() - {number for run in found for number in run}
        listing.drop(
            f"picture without one {request.gap} before or after it",
            [f"{self.folder}/{self.names[number]}" for number in sorted(alone)],
        )
        for run in found:
            for part in cut(run, most_frames(size)):
                yield self._plan(part, camera, size)

    def labelled(self, listing: Listing) -> Iterator[DrivePlan]:
        """Yield the pictures with depth."""
        if self.spec.depth is None:
            return
        folder = self.root / self.folder / self.spec.depth
        known = {n: name for n, name in self.names.items() if depth_file(folder, Path(name).stem)}
        listing.drop(
            f"picture without depth in {self.spec.depth}",
            [f"{self.folder}/{self.names[n]}" for n in sorted(self.names.keys() - known.keys())],
        )
        camera, numbers = self.camera(), sorted(known)
        extra: dict[str, Attribute] = {
            "depth": f"{self.folder}/{self.spec.depth}",
            "depth_scale": self.spec.depth_scale,
        }
        for start in range(0, len(numbers), MOST_LABELLED):
            part = numbers[start : start + MOST_LABELLED]
            yield self._plan(part, camera, camera.window.size, extra)

    def _plan(
        self,
        numbers: Sequence[int],
        camera: FolderCamera,
        size: Size,
        extra: Mapping[str, Attribute] = MappingProxyType({}),
    ) -> DrivePlan:
        attrs: dict[str, Attribute] = {
            "folder": self.folder,
            "frames": to_spans(numbers),
            "files": SEPARATOR.join(self.names[number] for number in numbers),
            **camera.attrs(),
            **extra,
        }
        return DrivePlan(f"{self.name}_{numbers[0]:06d}", len(numbers), size, attrs)


def _drives(path: Path, root: Path, calibration: Calibration, listing: Listing) -> list[_Drive]:
    found = [
        (camera, folder, names)
        for camera in calibration.cameras
        for folder, names in _find(root, camera.images, path).items()
    ]
    twice = [name for name, times in Counter(folder for _, folder, _ in found).items() if times > 1]
    if twice:
        raise DataError(f"{path}: folder {twice[0]} fits two patterns; one folder is one camera")
    drive_names = _drive_names([folder for _, folder, _ in found])
    return [
        _Drive(root, camera, folder, name, _numbered(folder, names, listing))
        for (camera, folder, names), name in zip(found, drive_names, strict=True)
    ]


def _find(root: Path, pattern: str, where: Path) -> dict[str, list[str]]:
    """Return the folders with pictures that fit a pattern, relative to the root, and their names.

    Raises:
        DataError: If there are none, or the pattern makes no sense.
    """
    try:
        paths = [path for path in root.glob(pattern) if path.suffix.lower() in SUFFIXES]
    except (ValueError, NotImplementedError, OSError) as error:
        line = " ".join(str(error).split())
        raise DataError(
            f"{where}: images '{pattern}' is no pattern under {root} ({line})"
        ) from None
    if not paths:
        raise missing_tree(root, "picture", [f"{pattern} ({', '.join(SUFFIXES)})"])
    by_folder: dict[str, list[str]] = {}
    for path in sorted(paths, key=lambda path: path.parts):
        by_folder.setdefault(path.parent.relative_to(root).as_posix(), []).append(path.name)
    return by_folder


def _drive_names(folders: Sequence[str]) -> list[str]:
    """Name drives by their folders, no two alike: ``seq/1`` becomes seq_1, ``seq_1`` seq_1-2."""
    names: dict[str, str] = {}
    for folder in folders:
        name = re.sub(r"[^A-Za-z0-9.-]+", "_", folder).strip("_") or "pictures"
        tries = (name if number == 1 else f"{name}-{number}" for number in count(1))
        names[next(name for name in tries if name not in names)] = folder
    return list(names)


def _numbered(folder: str, names: Sequence[str], listing: Listing) -> dict[int, str]:
    """Number the pictures of a folder, of each name one; what is assumed is said."""
    by_stem: dict[str, str] = {}
    for name in sorted(names, key=lambda name: SUFFIXES.index(Path(name).suffix.lower())):
        by_stem.setdefault(Path(name).stem, name)
    kept = set(by_stem.values())
    listing.drop(
        "picture of the same name as another, but of another kind",
        [f"{folder}/{name}" for name in names if name not in kept],
    )
    numbered = number_names(list(kept))
    if not numbered.has_step:
        ordered = list(numbered.names.values())
        listing.remarks.append(
            f"{folder}: the names tell no usual step, so that its {len(ordered)} pictures are "
            f"taken to follow each other, from {ordered[0]} to {ordered[-1]}"
        )
    return numbered.names
