"""The frames of KITTI's odometry sequences as planned.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unienc_core.data.resample import Size
from unienc_core.data.sets.cuts import cut_run
from unienc_core.data.sets.kitti_calibration import (
    FPS,
    KittiCamera,
    camera_from_projection,
    entry,
    read_calibration,
)
from unienc_core.data.sets.kitti_poses import poses_file, read_poses
from unienc_core.data.sets.kitti_times import TIMES_FILE, frame_times
from unienc_core.data.sets.pictures import whole_view
from unienc_core.data.sets.sequence import SequenceFrames, common_size
from unienc_core.data.sets.spans import from_spans
from unienc_core.data.sets.turning import curvature_of_poses, labels_ahead, way_of
from unienc_core.data.shard_build import DrivePlan
from unienc_core.errors import DataError


def picture_file(folder: Path, camera: int, frame: int, suffix: str) -> Path:
    """Return the file of a picture of a sequence."""
    return folder / f"image_{camera}" / f"{frame:06d}{suffix}"


def read_odometry_camera(path: Path, camera: int, image_size: Size) -> KittiCamera:
    """Read one camera of a sequence's ``calib.txt``.

    Args:
        path: The file.
        camera: 0 to 3.
        image_size: (h, w) of its pictures.
    """
    projection = entry(read_calibration(path), f"P{camera}", (3, 4), path)
    return camera_from_projection(projection, image_size, path)


@dataclass(frozen=True)
class OdometryTriplets:
    """Reads the runs of odometry sequences.

    Attributes:
        root: Folder of ``sequences`` and ``poses``.
        image_size: (h, w) to store; None for that of the pictures.
        min_motion: Least apparent motion, in widths of the picture, where poses are not used.
        with_poses: Whether poses are read.
        look_ahead: Metres ahead along the path at which its curvature is stored, too.
    """

    root: Path
    image_size: Size | None
    min_motion: float
    with_poses: bool
    look_ahead: tuple[float, ...] = ()

    def __call__(self, plan: DrivePlan) -> SequenceFrames:
        """Return the frames of a plan."""
        name, suffix = str(plan.attrs["sequence"]), str(plan.attrs["suffix"])
        number, frames = int(plan.attrs["camera"] or 0), from_spans(str(plan.attrs["frames"]))
        folder = self.root / "sequences" / name
        pictures = [picture_file(folder, number, frame, suffix) for frame in frames]
        whole = common_size(pictures)
        camera = read_odometry_camera(folder / "calib.txt", number, whole)
        columns = self._motion(name, frames, camera) if self.with_poses else None
        return SequenceFrames(
            pictures,
            whole_view(whole, self.image_size),
            camera.K,
            frame_times(folder / TIMES_FILE if plan.attrs.get("times") else None, frames),
            columns,
            min_motion=0.0 if self.with_poses else self.min_motion,
            attrs={"recording": name, "start": frames[0] / FPS},
        )

    def without(self, plan: DrivePlan, position: int) -> list[DrivePlan]:
        """Return the runs before and after a frame, those that hold a triplet."""
        return cut_run(plan, position)

    def _motion(
        self, name: str, frames: Sequence[int], camera: KittiCamera
    ) -> dict[str, np.ndarray]:
        """Return poses, and the curvature of the path of the whole sequence at its frames."""
        path = poses_file(self.root, name)
        T_world_reference = read_poses(path)
        if frames[-1] >= len(T_world_reference):
            raise DataError(
                f"{path}: {len(T_world_reference)} poses, but the sequence has frame {frames[-1]}"
            )
        curvature = curvature_of_poses(T_world_reference, FPS)
        labels = labels_ahead(curvature, way_of(T_world_reference[:, :3, 3]), self.look_ahead)
        T_world_camera = T_world_reference[frames] @ np.linalg.inv(camera.T_camera_reference)
        return {
            "T_world_camera": T_world_camera,
            **{key: values[frames] for key, values in labels.items()},
        }
