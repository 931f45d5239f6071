"""The frames of KITTI raw drives as planned: pictures with OXTS, and labelled ones with LiDAR.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import KeySpec
from unienc_core.data.resample import Size
from unienc_core.data.sets import oxts
from unienc_core.data.sets.cuts import cut_images, cut_run
from unienc_core.data.sets.kitti_calibration import (
    CAMERA_FILE,
    FPS,
    read_camera,
    read_T_reference_imu,
    read_T_reference_velodyne,
)
from unienc_core.data.sets.kitti_times import frame_times
from unienc_core.data.sets.pictures import read_codes, read_picture, whole_view
from unienc_core.data.sets.sequence import SequenceFrames
from unienc_core.data.sets.spans import from_spans
from unienc_core.data.sets.turning import labels_ahead, way_of
from unienc_core.data.sets.velodyne import DepthConvention, project_scan, read_scan
from unienc_core.data.shard_build import DrivePlan, Frame
from unienc_core.data.unreadable import reading
from unienc_core.errors import DataError

SCAN_FOLDER, RECORD_FOLDER = "velodyne_points/data", "oxts/data"
ANNOTATED_SCALE = 256.0
"""Codes a metre in the annotated depth maps; 0 is unknown."""

DepthKind = Literal["velodyne", "annotated"]


@dataclass(frozen=True)
class RawDrive:
    """Where the frames of a plan lie, as its attributes have it.

    Attributes:
        folder: Of the drive, relative to the root; the day's calibration lies beside it.
        camera: 2 or 3.
        suffix: Of the pictures.
        frames: Numbers, ascending.
        targets: Those that may be targets.
        depth_folder: Of annotated depth maps, relative to the folder of these, or empty.
        times: File of the camera's times, relative to the drive, or empty.
    """

    folder: str
    camera: int
    suffix: str
    frames: list[int]
    targets: frozenset[int]
    depth_folder: str
    times: str

    @classmethod
    def of(cls, plan: DrivePlan) -> RawDrive:
        """Read a plan."""
        attrs = plan.attrs
        frames = from_spans(str(attrs["frames"]))
        chosen = from_spans(str(attrs["targets"])) if "targets" in attrs else frames
        return cls(
            str(attrs["folder"]),
            int(attrs["camera"] or 0),
            str(attrs["suffix"]),
            frames,
            frozenset(chosen),
            str(attrs.get("depth_folder", "")),
            str(attrs.get("times", "")),
        )

    def picture(self, root: Path, frame: int) -> Path:
        """Return the file of a picture."""
        folder = root / self.folder / picture_folder(self.camera)
        return folder / f"{frame:010d}{self.suffix}"


def depth_key(kind: DepthKind, convention: DepthConvention) -> KeySpec:
    """Declare the depth of KITTI's LiDAR, saying what it means."""
    meaning = "along the optical axis"
    if kind == "velodyne" and convention == "velodyne-x":
        meaning = "ahead of the LiDAR"
    text = f"Distance {meaning}; 0 where none was measured."
    source = "KITTI annotated depth" if kind == "annotated" else f"LiDAR scan, {convention}"
    key = standard_keys("depth")["depth"]
    return key.model_copy(update={"description": text, "provenance": source})


def picture_folder(camera: int) -> str:
    """Return the folder of a camera's pictures within a drive."""
    return f"image_{camera:02d}/data"


@dataclass(frozen=True)
class RawTriplets:
    """Reads the runs of KITTI raw drives.

    Attributes:
        root: Folder of the days.
        image_size: (h, w) to store; None for that of the pictures.
        min_motion: Least apparent motion, in widths of the picture, where OXTS is not used.
        with_oxts: Whether poses, speed and turning are read.
        look_ahead: Metres ahead along the path at which its curvature is stored, too.
    """

    root: Path
    image_size: Size | None
    min_motion: float
    with_oxts: bool
    look_ahead: tuple[float, ...] = ()

    def __call__(self, plan: DrivePlan) -> SequenceFrames:
        """Return the frames of a plan."""
        drive = RawDrive.of(plan)
        camera = read_camera((self.root / drive.folder).parent / CAMERA_FILE, drive.camera)
        assert camera.image_size is not None
        times = self.root / drive.folder / drive.times if drive.times else None
        return SequenceFrames(
            [drive.picture(self.root, frame) for frame in drive.frames],
            whole_view(camera.image_size, self.image_size),
            camera.K,
            frame_times(times, drive.frames),
            self._motion(drive, camera.T_camera_reference) if self.with_oxts else None,
            min_motion=0.0 if self.with_oxts else self.min_motion,
            others={i for i, frame in enumerate(drive.frames) if frame not in drive.targets},
            attrs={"recording": drive.folder, "start": drive.frames[0] / FPS},
        )

    def without(self, plan: DrivePlan, position: int) -> list[DrivePlan]:
        """Return the runs before and after a frame, those that hold a target."""
        return cut_run(plan, position)

    def _motion(self, drive: RawDrive, T_camera_reference: np.ndarray) -> dict[str, np.ndarray]:
        folder = self.root / drive.folder
        records: list[np.ndarray] = []
        for position, frame in enumerate(drive.frames):
            with reading(position):
                records.append(oxts.read_oxts(folder / RECORD_FOLDER / f"{frame:010d}.txt"))
        T_imu_camera = np.linalg.inv(T_camera_reference @ read_T_reference_imu(folder.parent))
        T_earth_imu = oxts.poses(records)
        T_earth_camera = T_earth_imu @ T_imu_camera
        curvature = np.array([oxts.curvature(record) for record in records])
        return {
            # The world is where the first frame's camera is: axes of a camera, small numbers.
            "T_world_camera": np.linalg.inv(T_earth_camera[0]) @ T_earth_camera,
            "speed": np.array([oxts.speed(record) for record in records], np.float32),
            "yaw_rate": np.array([record[oxts.YAW_RATE] for record in records], np.float32),
            **labels_ahead(curvature, way_of(T_earth_imu[:, :3, 3]), self.look_ahead),
        }


@dataclass(frozen=True)
class RawLabelled:
    """Reads single pictures of KITTI raw with their depth, as they are on disk.

    Attributes:
        root: Folder of the days.
        kind: Where depth comes from.
        convention: What the depth of a LiDAR scan means.
        annotated: Folder of annotated depth maps.
    """

    root: Path
    kind: DepthKind
    convention: DepthConvention
    annotated: Path

    def __call__(self, plan: DrivePlan) -> Iterator[Frame]:
        """Yield the frames of a plan."""
        drive = RawDrive.of(plan)
        camera = read_camera((self.root / drive.folder).parent / CAMERA_FILE, drive.camera)
        assert camera.image_size is not None
        view = whole_view(camera.image_size)
        for position, frame in enumerate(drive.frames):
            path = drive.picture(self.root, frame)
            with reading(position):
                image = view.image(read_picture(path), str(path))
                depth = self.depth(drive, frame)
            yield {"image": image, "K": camera.K, "depth": depth}

    def without(self, plan: DrivePlan, position: int) -> list[DrivePlan]:
        """Return the other frames."""
        return cut_images(plan, position)

    def depth(self, drive: RawDrive, frame: int) -> np.ndarray:
        """Return the depth of a frame, `H W` float32, m, 0 where unknown."""
        day = (self.root / drive.folder).parent
        camera = read_camera(day / CAMERA_FILE, drive.camera)
        assert camera.image_size is not None
        if self.kind == "velodyne":
            scan = read_scan(self.root / drive.folder / SCAN_FOLDER / f"{frame:010d}.bin")
            T_reference_velodyne = read_T_reference_velodyne(day)
            return project_scan(
                scan, camera, T_reference_velodyne, camera.image_size, self.convention
            )
        path = self.annotated / drive.depth_folder / f"{frame:010d}.png"
        codes = read_codes(path, np.uint16)
        if codes.shape != camera.image_size:
            raise DataError(f"{path}: a map of {codes.shape}, expected {camera.image_size}")
        return (codes / np.float64(ANNOTATED_SCALE)).astype(np.float32)
