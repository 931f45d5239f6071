"""KITTI's calibration files: the rectified cameras, and where LiDAR and IMU sit.

All rectified cameras share the axes of camera 0, so `P_rect_xx` = K [I | b] says both the
intrinsics of a camera and, as b, where camera 0's origin lies in its frame.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unienc_core.data.sets.intrinsics import check_intrinsics
from unienc_core.errors import DataError

CAMERA_FILE, VELODYNE_FILE, IMU_FILE = (
    "calib_cam_to_cam.txt",
    "calib_velo_to_cam.txt",
    "calib_imu_to_velo.txt",
)
FPS = 10.0
"""Frames a second of all cameras."""

KITTI_SIZE = (192, 640)
"""(h, w) that the papers train at."""

MAX_CALIBRATION_BYTES = 1 << 16


@dataclass(frozen=True)
class KittiCamera:
    """One rectified camera.

    Attributes:
        K: `3 3`, px.
        T_camera_reference: `4 4`, m: from camera 0, rectified, to this one.
        image_size: (h, w) of the rectified image, or None where the file does not say.
    """

    K: np.ndarray
    T_camera_reference: np.ndarray
    image_size: tuple[int, int] | None = None


def read_calibration(path: Path) -> dict[str, np.ndarray]:
    """Read a file of lines ``NAME: number number ...``; lines without numbers are left out.

    The odometry set has a file without names, too: its lines are P0, P1, ... in order.

    Raises:
        DataError: If it is missing, too large, or no such file.
    """
    try:
        if path.stat().st_size > MAX_CALIBRATION_BYTES:
            raise DataError(f"{path}: larger than {MAX_CALIBRATION_BYTES} bytes, no calibration")
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; it comes with the data set's calibration") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    values: dict[str, np.ndarray] = {}
    for number, line in enumerate(lines):
        name, colon, rest = line.partition(":")
        try:
            row = np.array([float(part) for part in (rest if colon else line).split()])
        except ValueError:
            continue  # calib_time: a date
        if row.size:
            values[name.strip() if colon else f"P{number}"] = row
    return values


def entry(
    values: dict[str, np.ndarray], name: str, shape: tuple[int, ...], path: Path
) -> np.ndarray:
    """Return one entry of a calibration in its shape.

    Raises:
        DataError: If it is missing, of another length, or not finite.
    """
    if name not in values:
        known = ", ".join(list(values)[:6]) or "nothing"
        raise DataError(f"{path}: no entry '{name}:', found {known}; expected KITTI's calibration")
    value = values[name]
    if value.size != np.prod(shape) or not np.isfinite(value).all():
        raise DataError(f"{path}: '{name}' has {value.size} numbers, expected {np.prod(shape)}")
    return value.reshape(shape)


def camera_from_projection(
    projection: np.ndarray, image_size: tuple[int, int] | None, path: Path
) -> KittiCamera:
    """Take a projection matrix `3 4`, K [I | b], apart.

    Raises:
        DataError: If it is no projection of a rectified camera, or of one of other pictures.
    """
    K = projection[:, :3]
    upright = np.array_equal(K[2], [0, 0, 1]) and K[1, 0] == 0 and K[0, 0] > 0 and K[1, 1] > 0
    if not upright:
        raise DataError(f"{path}: found no projection K [I | b] of a rectified camera")
    if image_size is not None:
        check_intrinsics(K, image_size, str(path))
    T_camera_reference = np.eye(4)
    T_camera_reference[:3, 3] = np.linalg.solve(K, projection[:, 3])
    return KittiCamera(K, T_camera_reference, image_size)


def read_camera(path: Path, camera: int) -> KittiCamera:
    """Read one camera of ``calib_cam_to_cam.txt``.

    Raises:
        DataError: If the file is missing or not what its name says.
    """
    values = read_calibration(path)
    width, height = entry(values, f"S_rect_{camera:02d}", (2,), path)
    projection = entry(values, f"P_rect_{camera:02d}", (3, 4), path)
    return camera_from_projection(projection, (round(height), round(width)), path)


def read_rigid(path: Path) -> np.ndarray:
    """Read ``R:`` and ``T:`` of a file as a motion `4 4`, m.

    Raises:
        DataError: If the file is missing, or R is no rotation.
    """
    values = read_calibration(path)
    R, translation = entry(values, "R", (3, 3), path), entry(values, "T", (3,), path)
    if not np.allclose(R @ R.T, np.eye(3), atol=1e-3):
        raise DataError(f"{path}: 'R' is no rotation; the file is damaged")
    T_to_from = np.eye(4)
    T_to_from[:3, :3], T_to_from[:3, 3] = R, translation
    return T_to_from


def read_T_reference_velodyne(day: Path) -> np.ndarray:  # noqa: N802 - a transform
    """Read where the LiDAR sits: its points to camera 0, rectified, `4 4`, m.

    Args:
        day: Folder of a day's calibration.
    """
    path = day / CAMERA_FILE
    T_reference_camera_0 = np.eye(4)
    T_reference_camera_0[:3, :3] = entry(read_calibration(path), "R_rect_00", (3, 3), path)
    return T_reference_camera_0 @ read_rigid(day / VELODYNE_FILE)


def read_T_reference_imu(day: Path) -> np.ndarray:  # noqa: N802 - a transform
    """Read where the IMU sits: its frame to camera 0, rectified, `4 4`, m.

    Args:
        day: Folder of a day's calibration.
    """
    return read_T_reference_velodyne(day) @ read_rigid(day / IMU_FILE)
