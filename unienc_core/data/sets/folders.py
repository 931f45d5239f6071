"""Image folders of anybody: one YAML file says where the pictures are and what camera took them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unienc_core.data.clip_scan import Window
from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import Attribute, StoreSpec
from unienc_core.data.picture_motion import STANDING
from unienc_core.data.resample import Size
from unienc_core.data.sets.folder_frames import number_names
from unienc_core.data.sets.folder_source import (
    SEPARATOR,
    FolderCamera,
    FolderLabelled,
    FolderTriplets,
    depth_file,
)
from unienc_core.data.sets.listing import Listing, StorePlan, listing_digest, missing_tree
from unienc_core.data.sets.pictures import picture_size
from unienc_core.data.sets.runs import cut, runs
from unienc_core.data.sets.sequence import MOST_LABELLED, most_frames
from unienc_core.data.sets.settings import check_settings
from unienc_core.data.sets.spans import to_spans
from unienc_core.data.shard_build import DrivePlan
from unienc_core.errors import DataError, PresetError
from unienc_core.safe_yaml import MAX_YAML_BYTES, parse_yaml
from unienc_core.strict import validate_strictly

SUFFIXES = (".png", ".jpg", ".jpeg")
EXAMPLE = "{fps: 10, cameras: [{images: 'drive_*/left/*.png', K: [fx, fy, cx, cy]}]}"
_LEAST_SIDE = 32


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CameraFolders(_Part):
    """Folders of pictures that one camera took.

    Attributes:
        images: Pattern relative to the root; each folder with a picture that fits is a drive.
        K: fx, fy, cx, cy in px of the pictures on disk.
        crop: Left, top, right, bottom: px to cut off.
        depth: Folder of depth maps of the same names (`.npy` in m, or 16-bit `.png`), relative to
            that of the pictures.
        depth_scale: Codes a metre of depth maps in PNG.
    """

    images: str
    K: tuple[float, float, float, float]
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    depth: str | None = None
    depth_scale: float = Field(default=256.0, gt=0)


class Calibration(_Part):
    """The whole of a calibration file.

    Attributes:
        fps: Pictures a second.
        root: Folder that patterns start from, relative to the file's own.
        cameras: What there is.
    """

    fps: float = Field(gt=0)
    root: str = "."
    cameras: tuple[CameraFolders, ...] = Field(min_length=1)


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


def read_folders(path: Path) -> Calibration:
    """Read a calibration file.

    Raises:
        DataError: If it is missing, or says something else than `Calibration` allows.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_YAML_BYTES + 1)
        raw = parse_yaml(text, str(path))
        return validate_strictly(Calibration, raw, str(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a YAML file like {EXAMPLE}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the file"
        what = fault["msg"].lower()
        raise DataError(f"{path}: '{where}': {what}; expected something like {EXAMPLE}") from None
    except (OSError, ValueError, PresetError) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None


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
    drives = [drive for camera in calibration.cameras for drive in _find(root, camera, path)]
    twice = [name for name, count in Counter(d.name for d in drives).items() if count > 1]
    if twice:
        raise DataError(f"{path}: folder {twice[0]} fits two patterns; one folder is one camera")
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
        names: File names by number.
    """

    root: Path
    spec: CameraFolders
    folder: str
    names: dict[int, str]

    @property
    def name(self) -> str:
        """Name of the drive."""
        return re.sub(r"[^A-Za-z0-9.-]+", "_", self.folder).strip("_") or "pictures"

    def camera(self) -> FolderCamera:
        """Return the camera, checked against the first picture.

        Raises:
            DataError: If the principal point lies outside the picture, or nothing is left of it.
        """
        path = self.root / self.folder / self.names[min(self.names)]
        height, width = whole = picture_size(path)
        fx, fy, cx, cy = self.spec.K
        if not (fx > 0 and fy > 0 and 0 <= cx < width and 0 <= cy < height):
            raise DataError(
                f"{path}: a picture of {height}x{width}, to which K {list(self.spec.K)} does not "
                "fit; give fx, fy, cx, cy in pixels of the pictures on disk"
            )
        left, top, right, bottom = self.spec.crop
        window = Window(left, top, width - right, height - bottom)
        if min(self.spec.crop) < 0 or min(window.size) < _LEAST_SIDE:
            raise DataError(
                f"{path}: crop {list(self.spec.crop)} leaves {window.size[0]}x{window.size[1]} of "
                f"{height}x{width} px, expected {_LEAST_SIDE} or more each way"
            )
        return FolderCamera(whole, self.spec.K, window)

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


def _find(root: Path, spec: CameraFolders, where: Path) -> Iterator[_Drive]:
    """Yield the folders with pictures that fit a pattern."""
    try:
        paths = sorted(path for path in root.glob(spec.images) if path.suffix.lower() in SUFFIXES)
    except (ValueError, NotImplementedError, OSError) as error:
        line = " ".join(str(error).split())
        raise DataError(
            f"{where}: images '{spec.images}' is no pattern under {root} ({line})"
        ) from None
    by_folder: dict[Path, list[str]] = {}
    for path in paths:
        by_folder.setdefault(path.parent, []).append(path.name)
    if not by_folder:
        suffixes = ", ".join(SUFFIXES)
        raise missing_tree(root, "picture", [f"{spec.images} ({suffixes})"])
    for folder, names in by_folder.items():
        yield _Drive(root, spec, folder.relative_to(root).as_posix(), number_names(names))
