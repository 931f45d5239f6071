"""KITTI in small: the true layout, with toy pictures, scans and records."""

import math
from pathlib import Path

import cv2
import numpy as np

from unienc_core.data.sets import oxts

HEIGHT, WIDTH = 40, 120
SPEED = 8.0
"""m/s, straight ahead, due east."""

CAMERA_TO_CAMERA = f"""calib_time: 09-Jan-2012 13:57:47
R_rect_00: 1 0 0 0 1 0 0 0 1
S_rect_02: {WIDTH} {HEIGHT}
P_rect_02: 100 0 60 6 0 100 20 0 0 0 1 0
S_rect_03: {WIDTH} {HEIGHT}
P_rect_03: 100 0 60 -48 0 100 20 0 0 0 1 0
"""
# x forward, y left, z up becomes x right, y down, z forward; the LiDAR sits 0.25 m behind.
VELODYNE_TO_CAMERA = "R: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 -0.25\n"
IMU_TO_VELODYNE = "R: 1 0 0 0 1 0 0 0 1\nT: -0.75 0 0\n"


TIMES = [round(0.1036 * frame + 0.001 * (frame % 3), 4) for frame in range(20)]
"""Of the frames, s: real cameras are no clocks."""


def date(seconds: float) -> str:
    """A line of a raw drive's file of times, half a second before midnight and later."""
    nanoseconds = round(seconds * 1e9) + 500_000_123
    day, rest = divmod(nanoseconds, 10**9)
    clock = "23:59:59" if day == 0 else f"00:00:{day - 1:02d}"
    return f"2011-09-{26 + (day > 0)} {clock}.{rest:09d}"


def picture(frame: int) -> np.ndarray:
    """A wall that slides by, `H W 3` uint8."""
    rng = np.random.default_rng(7)
    wall = cv2.GaussianBlur(rng.normal(size=(HEIGHT, 400, 3)), (0, 0), 2)
    wall = np.clip(wall * 500 + 128, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(wall[:, 4 * frame : 4 * frame + WIDTH])


def record(metres_east: float, speed: float) -> str:
    """A line of OXTS at the equator, where Mercator's scale is 1, turning by 0.1 rad/s."""
    values = np.zeros(oxts.NUM_FIELDS)
    values[oxts.LONGITUDE] = math.degrees(metres_east / oxts.EARTH_RADIUS)
    values[oxts.FORWARD_SPEED], values[oxts.YAW_RATE] = speed, 0.1
    return " ".join(repr(float(value)) for value in values)


def write_day(root: Path, day: str = "2011_09_26") -> Path:
    """Write a day's calibration and return its folder."""
    folder = root / day
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "calib_cam_to_cam.txt").write_text(CAMERA_TO_CAMERA)
    (folder / "calib_velo_to_cam.txt").write_text(VELODYNE_TO_CAMERA)
    (folder / "calib_imu_to_velo.txt").write_text(IMU_TO_VELODYNE)
    return folder


def write_drive(
    root: Path,
    number: int,
    frames: int = 8,
    *,
    suffix: str = ".png",
    with_oxts: bool = True,
    stops_at: int | None = None,
    times: bool = True,
) -> Path:
    """Write a drive with both cameras, scans, records and times, and return its folder.

    Args:
        root: Of the data set.
        number: Of the drive.
        frames: From 0.
        suffix: Of the pictures.
        with_oxts: Whether there are records.
        stops_at: Frame from which on the car stands, as its records have it.
        times: Whether there are files of times.
    """
    folder = write_day(root) / f"2011_09_26_drive_{number:04d}_sync"
    for part in ("image_02/data", "image_03/data", "velodyne_points/data", "oxts/data"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for camera in (2, 3) if times else ():
        lines = [date(seconds) for seconds in TIMES[:frames]]
        (folder / f"image_{camera:02d}/timestamps.txt").write_text("\n".join(lines) + "\n")
    for frame in range(frames):
        for camera in (2, 3):
            path = folder / f"image_{camera:02d}/data/{frame:010d}{suffix}"
            cv2.imwrite(str(path), picture(frame)[..., ::-1])
        # One point straight ahead of the LiDAR, further with every frame.
        scan = np.array([[10.25 + frame, 0, 0, 0.5]], np.float32)
        scan.tofile(folder / f"velodyne_points/data/{frame:010d}.bin")
        driven = frame if stops_at is None else min(frame, stops_at)
        moving = stops_at is None or frame < stops_at
        line = record(driven * SPEED / 10, SPEED if moving else 0.0)
        if with_oxts:
            (folder / f"oxts/data/{frame:010d}.txt").write_text(line)
    return folder


def write_sequence(
    root: Path,
    name: str,
    *,
    poses: bool = True,
    cameras: tuple[int, ...] = (2,),
    times: bool = True,
) -> None:
    """Write an odometry sequence of six frames."""
    folder = root / "sequences" / name
    folder.mkdir(parents=True)
    if times:
        lines = [f"{seconds:.6e}" for seconds in TIMES[:6]]
        (folder / "times.txt").write_text("\n".join(lines) + "\n")
    # Camera 2 sits 0.06 m left of camera 0: 6 / 100.
    rows = ["100 0 60 0 0 100 20 0 0 0 1 0"] * 2 + ["100 0 60 6 0 100 20 0 0 0 1 0"] * 2
    lines = [f"P{number}: {row}" for number, row in enumerate(rows)]
    (folder / "calib.txt").write_text("\n".join([*lines, "Tr: " + "0 " * 12]))
    for camera in cameras:
        (folder / f"image_{camera}").mkdir()
        for frame in range(6):
            path = folder / f"image_{camera}" / f"{frame:06d}.png"
            cv2.imwrite(str(path), picture(frame)[..., ::-1])
    if poses:
        # Camera 0 drives 1 m ahead a frame, then turns right by 90 degrees on the spot.
        ahead = [f"1 0 0 0 0 1 0 0 0 0 1 {frame}" for frame in range(5)]
        turned = "0 0 1 0 0 1 0 0 -1 0 0 4"
        (root / "poses").mkdir(exist_ok=True)
        (root / "poses" / f"{name}.txt").write_text("\n".join([*ahead, turned]))


def write_small_kitti(folder: Path) -> None:
    """Write what the README's commands read: both sets, split files and a calibration file."""
    for number in (1, 2):  # the Eigen split trains on the first and tests on the second
        write_drive(folder / "kitti_raw", number, frames=4)
        drive = f"2011_09_26/2011_09_26_drive_{number:04d}_sync"
        name = "train_files.txt" if number == 1 else "test_files.txt"
        (folder / name).write_text(f"{drive} {1:010d} l\n{drive} 2 l\n")
    for name in ("00", "09"):
        write_sequence(folder / "kitti_odometry", name)
    (folder / "calibration.yaml").write_text(
        "{fps: 10, cameras: [{images: 'kitti_odometry/sequences/0?/image_2/*.png', "
        "K: [100, 100, 60, 20]}]}"
    )
