"""The frames of image folders as planned.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unienc_core.data.clip_scan import Window
from unienc_core.data.manifest import MAX_SIDE, Attribute
from unienc_core.data.resample import Size
from unienc_core.data.sets.cuts import SEPARATOR, cut_images, cut_run
from unienc_core.data.sets.pictures import View, read_codes, read_picture
from unienc_core.data.sets.sequence import SequenceFrames
from unienc_core.data.sets.spans import from_spans
from unienc_core.data.shard_build import DrivePlan, Frame
from unienc_core.data.unreadable import reading
from unienc_core.errors import DataError

DEPTH_SUFFIXES = (".npy", ".png")


@dataclass(frozen=True)
class FolderCamera:
    """The camera of a folder: what a drive's attributes keep of it.

    Attributes:
        whole: (h, w) of the pictures on disk.
        intrinsics: fx, fy, cx, cy, px, of the pictures on disk.
        window: What is kept of a picture.
    """

    whole: Size
    intrinsics: tuple[float, float, float, float]
    window: Window

    @property
    def K(self) -> np.ndarray:
        """`3 3`, px, of the pictures on disk."""
        fx, fy, cx, cy = self.intrinsics
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])

    def attrs(self) -> dict[str, Attribute]:
        """Return it as the attributes of a drive."""
        w = self.window
        return {
            "size": _join(self.whole),
            "intrinsics": _join(self.intrinsics),
            "window": _join((w.left, w.top, w.right, w.bottom)),
        }

    @classmethod
    def of(cls, plan: DrivePlan) -> FolderCamera:
        """Read it from the attributes of a drive."""
        height, width = (int(part) for part in str(plan.attrs["size"]).split())
        fx, fy, cx, cy = (float(part) for part in str(plan.attrs["intrinsics"]).split())
        window = Window(*(int(part) for part in str(plan.attrs["window"]).split()))
        return cls((height, width), (fx, fy, cx, cy), window)


def _join(numbers: tuple[float, ...]) -> str:
    return " ".join(repr(number) for number in numbers)


@dataclass(frozen=True)
class FolderTriplets:
    """Reads the runs of image folders.

    Attributes:
        root: Folder that the drives' folders lie under.
        fps: Pictures a second.
        min_motion: Least apparent motion, in widths of the picture.
    """

    root: Path
    fps: float
    min_motion: float

    def __call__(self, plan: DrivePlan) -> SequenceFrames:
        """Return the frames of a plan."""
        camera = FolderCamera.of(plan)
        numbers = np.array(from_spans(str(plan.attrs["frames"])))
        return SequenceFrames(
            _files(self.root, plan),
            View(camera.whole, camera.window, plan.image_size or camera.window.size),
            camera.K,
            (numbers - numbers[0]) / self.fps,
            min_motion=self.min_motion,
        )

    def without(self, plan: DrivePlan, position: int) -> list[DrivePlan]:
        """Return the runs before and after a frame, those that hold a triplet."""
        return cut_run(plan, position)


@dataclass(frozen=True)
class FolderLabelled:
    """Reads single pictures of image folders with their depth, cropped but not resized.

    Attributes:
        root: Folder that the drives' folders lie under.
    """

    root: Path

    def __call__(self, plan: DrivePlan) -> Iterator[Frame]:
        """Yield the frames of a plan."""
        camera = FolderCamera.of(plan)
        view = View(camera.whole, camera.window, camera.window.size)
        folder = self.root / str(plan.attrs["depth"])
        K, scale = view.K(camera.K), float(plan.attrs["depth_scale"] or 1.0)
        for position, path in enumerate(_files(self.root, plan)):
            with reading(position):
                depth_path = depth_file(folder, path.stem)
                if depth_path is None:
                    raise DataError(f"{folder}: no depth of {path.name} any more")
                depth = view.map(_read_depth(depth_path, scale), str(depth_path))
                image = view.image(read_picture(path), str(path))
            yield {"image": image, "K": K, "depth": depth}

    def without(self, plan: DrivePlan, position: int) -> list[DrivePlan]:
        """Return the other frames."""
        return cut_images(plan, position)


def depth_file(folder: Path, stem: str) -> Path | None:
    """Return the depth map of a picture, if there is one."""
    paths = (folder / f"{stem}{suffix}" for suffix in DEPTH_SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _files(root: Path, plan: DrivePlan) -> list[Path]:
    folder = root / str(plan.attrs["folder"])
    return [folder / name for name in str(plan.attrs["files"]).split(SEPARATOR)]


def _read_depth(path: Path, scale: float) -> np.ndarray:
    """Read a depth map, `H W` float32, m, 0 where unknown."""
    if path.suffix == ".png":
        return (read_codes(path, np.uint16) / scale).astype(np.float32)
    try:
        # Mapped, so that dtype and size are known before memory is taken.
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if values.ndim != 2 or values.dtype.kind != "f" or max(values.shape) > MAX_SIDE:
        raise DataError(f"{path}: {values.dtype} {values.shape}, expected a float map of (H, W)")
    depth = np.array(values, np.float32)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))
