"""KITTI's files against arithmetic done here by hand, on toys and on the real fragment."""

import struct
from pathlib import Path

import numpy as np
import pytest

from unienc_core.data.sets.kitti_calibration import (
    CAMERA_FILE,
    KittiCamera,
    read_calibration,
    read_camera,
    read_rigid,
    read_T_reference_imu,
    read_T_reference_velodyne,
)
from unienc_core.data.sets.velodyne import DepthConvention, project_scan, read_scan
from unienc_core.errors import DataError

FORWARD_LEFT_UP_TO_CAMERA = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])


def simple_camera() -> KittiCamera:
    return KittiCamera(np.array([[100.0, 0, 20], [0, 100, 10], [0, 0, 1]]), np.eye(4))


def test_a_point_lands_where_arithmetic_says() -> None:
    T_camera_velodyne = FORWARD_LEFT_UP_TO_CAMERA.copy()
    T_camera_velodyne[2, 3] = -0.25  # the LiDAR sits behind the camera
    # x right = -0.51, y down = 0.4, z = 8.25 - 0.25: u = 20 - 6.375, v = 10 + 5
    scan = np.array([[8.25, 0.51, -0.4, 0.9]], np.float32)
    depth = project_scan(scan, simple_camera(), T_camera_velodyne, (30, 40))
    assert np.argwhere(depth).tolist() == [[15, 14]]
    assert depth[15, 14] == np.float32(8.0)
    published = project_scan(scan, simple_camera(), T_camera_velodyne, (30, 40), "velodyne-x")
    assert np.argwhere(published).tolist() == [[14, 13]]
    assert published[14, 13] == np.float32(8.25)


def test_the_nearest_of_several_hits_is_kept_whatever_their_order() -> None:
    hits = np.array([[9, 0, 0, 0], [5, 0, 0, 0], [7, 0, 0, 0]], np.float32)
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        depth = project_scan(hits[order], simple_camera(), FORWARD_LEFT_UP_TO_CAMERA, (30, 40))
        assert np.argwhere(depth).tolist() == [[10, 20]]
        assert depth[10, 20] == 5


def test_points_behind_beside_and_broken_ones_are_left_out() -> None:
    scan = np.array([[-5, 0, 0, 0], [5, 50, 0, 0], [np.nan, 0, 0, 0], [0.1, 0, 0, 0]], np.float32)
    T_camera_velodyne = FORWARD_LEFT_UP_TO_CAMERA.copy()
    T_camera_velodyne[
        2, 3
    ] = -0.25  # brings the last point behind the camera, though it is ahead of the LiDAR
    assert not project_scan(scan, simple_camera(), T_camera_velodyne, (30, 40)).any()


def test_a_scan_is_what_its_bytes_say(tmp_path: Path) -> None:
    path = tmp_path / "0.bin"
    path.write_bytes(struct.pack("<8f", 1, 2, 3, 0.5, -4, 5, -6, 0.25))
    assert read_scan(path).tolist() == [[1, 2, 3, 0.5], [-4, 5, -6, 0.25]]
    for content in (b"", b"123", bytes(24)):
        path.write_bytes(content)
        with pytest.raises(DataError, match="no scan of 16 bytes a point"):
            read_scan(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_scan(tmp_path / "none.bin")


def _day(real_data: Path) -> Path:
    return real_data / "kitti_raw" / "2011_09_26"


def _numbers(path: Path, name: str) -> list[float]:
    lines = path.read_text().splitlines()
    line = next(line for line in lines if line.startswith(f"{name}:"))
    return [float(word) for word in line.split()[1:]]


def _times(rows: list[float], columns: int, point: list[float]) -> list[float]:
    """Multiply a matrix given as one list with a point, in plain numbers."""
    return [
        sum(rows[i + k] * point[k] for k in range(len(point))) for i in range(0, len(rows), columns)
    ]


@pytest.mark.data
@pytest.mark.parametrize("camera", [2, 3])
def test_points_of_a_real_scan_projected_by_hand(real_data: Path, camera: int) -> None:
    day = _day(real_data)
    found = read_camera(day / CAMERA_FILE, camera)
    assert found.image_size == (375, 1242)
    scan = read_scan(
        day / "2011_09_26_drive_0052_sync" / "velodyne_points" / "data" / "0000000003.bin"
    )
    R, t = (_numbers(day / "calib_velo_to_cam.txt", name) for name in "RT")
    rectify = _numbers(day / CAMERA_FILE, "R_rect_00")
    projection = _numbers(day / CAMERA_FILE, f"P_rect_{camera:02d}")
    depth = project_scan(scan, found, read_T_reference_velodyne(day), (375, 1242))
    checked = 0
    for x, y, z, _ in scan[:: len(scan) // 400].tolist():
        unrectified = [a + b for a, b in zip(_times(R, 3, [x, y, z]), t, strict=True)]
        rectified = _times(rectify, 3, unrectified)
        u, v, w = _times(projection, 4, [*rectified, 1.0])
        column, row = round(u / w), round(v / w)
        if not (x >= 0 and w > 0 and 0 <= column < 1242 and 0 <= row < 375):
            continue
        # Nothing nearer may hide it: then the map holds a smaller value.
        assert 0 < depth[row, column] <= w + 1e-4
        checked += bool(abs(depth[row, column] - w) < 1e-4)
    assert checked > 50


@pytest.mark.data
@pytest.mark.parametrize("convention", ["camera-z", "velodyne-x"])
def test_whole_maps_equal_those_made_point_by_point(
    real_data: Path, convention: DepthConvention
) -> None:
    """As the published ground truth is described: one 3x4 matrix, rounding, the nearest hit."""
    day = _day(real_data)
    scan = read_scan(
        day / "2011_09_26_drive_0052_sync" / "velodyne_points" / "data" / "0000000003.bin"
    )
    R, t = (np.array(_numbers(day / "calib_velo_to_cam.txt", name)) for name in "RT")
    velo_to_cam = np.vstack((np.column_stack((R.reshape(3, 3), t)), [0, 0, 0, 1]))
    rectify = np.eye(4)
    rectify[:3, :3] = np.reshape(_numbers(day / CAMERA_FILE, "R_rect_00"), (3, 3))
    projection = np.reshape(_numbers(day / CAMERA_FILE, "P_rect_02"), (3, 4))
    matrix = projection @ rectify @ velo_to_cam
    nearest: dict[tuple[int, int], float] = {}
    for x, y, z, _ in scan.astype(np.float64):
        if x < 0:
            continue
        u, v, w = matrix @ [x, y, z, 1]
        if w <= 0:
            continue
        column, row = int(np.round(u / w)), int(np.round(v / w))
        depth = w
        if convention == "velodyne-x":
            column, row, depth = column - 1, row - 1, x
        if 0 <= column < 1242 and 0 <= row < 375:
            nearest[row, column] = min(depth, nearest.get((row, column), np.inf))
    expected = np.zeros((375, 1242))
    for pixel, depth in nearest.items():
        expected[pixel] = depth
    camera = read_camera(day / CAMERA_FILE, 2)
    found = project_scan(scan, camera, read_T_reference_velodyne(day), (375, 1242), convention)
    assert np.count_nonzero(found) > 15_000
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.data
def test_the_conventions_differ_by_the_lever_arm_and_a_pixel(real_data: Path) -> None:
    day = _day(real_data)
    scan = read_scan(
        day / "2011_09_26_drive_0052_sync" / "velodyne_points" / "data" / "0000000003.bin"
    )
    camera = read_camera(day / CAMERA_FILE, 2)
    T_camera_velodyne = read_T_reference_velodyne(day)
    z = project_scan(scan, camera, T_camera_velodyne, (375, 1242))[1:, 1:]
    x = project_scan(scan, camera, T_camera_velodyne, (375, 1242), "velodyne-x")[:-1, :-1]
    both = (z > 0) & (x > 0)
    assert both.sum() > 10_000
    # calib_velo_to_cam's T says -0.2717806 m along the optical axis.
    assert np.median(x[both] - z[both]) == pytest.approx(0.2718, abs=0.02)


@pytest.mark.data
def test_the_projection_matrix_is_taken_apart_without_loss(real_data: Path) -> None:
    projection = np.reshape(_numbers(_day(real_data) / CAMERA_FILE, "P_rect_03"), (3, 4))
    camera = read_camera(_day(real_data) / CAMERA_FILE, 3)
    # The baseline of the two colour cameras' K [I | b]: (-339.5 - 609.56 x 0.00273) / 721.54 m.
    assert camera.T_camera_reference[0, 3] == pytest.approx(-0.4728628, abs=1e-6)
    assert camera.T_camera_reference[2, 3] == pytest.approx(2.729905e-3, abs=1e-9)
    np.testing.assert_allclose(camera.K @ camera.T_camera_reference[:3], projection, atol=1e-9)


@pytest.mark.data
def test_the_imu_is_chained_through_all_three_files(real_data: Path) -> None:
    day = _day(real_data)
    point = [1.0, 2.0, 3.0]
    for name in ("calib_imu_to_velo.txt", "calib_velo_to_cam.txt"):
        R, t = (_numbers(day / name, entry) for entry in "RT")
        point = [a + b for a, b in zip(_times(R, 3, point), t, strict=True)]
    point = _times(_numbers(day / CAMERA_FILE, "R_rect_00"), 3, point)
    found = read_T_reference_imu(day) @ [1.0, 2.0, 3.0, 1.0]
    np.testing.assert_allclose(found[:3], point, atol=1e-12)


def test_calibrations_that_are_none_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / CAMERA_FILE
    with pytest.raises(DataError, match="no such file"):
        read_camera(path, 2)
    path.write_text("calib_time: 09-Jan-2012 13:57:47\nS_rect_02: 1242 375\n")
    with pytest.raises(DataError, match="no entry 'P_rect_02:', found S_rect_02"):
        read_camera(path, 2)
    path.write_text("S_rect_02: 1242 375\nP_rect_02: 1 2 3\n")
    with pytest.raises(DataError, match="'P_rect_02' has 3 numbers, expected 12"):
        read_camera(path, 2)
    path.write_text("S_rect_02: 1242 375\nP_rect_02: " + "1 " * 12)
    with pytest.raises(DataError, match="no projection K"):
        read_camera(path, 2)
    path.write_text("R: " + "1 " * 9 + "\nT: 0 0 0\n")
    with pytest.raises(DataError, match="'R' is no rotation"):
        read_rigid(path)


def test_lines_without_names_are_the_projections_in_order(tmp_path: Path) -> None:
    (tmp_path / "calib.txt").write_text("1 2 3\n4 5 6\n")
    values = read_calibration(tmp_path / "calib.txt")
    assert {name: row.tolist() for name, row in values.items()} == {
        "P0": [1, 2, 3],
        "P1": [4, 5, 6],
    }
