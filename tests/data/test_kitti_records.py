"""KITTI's OXTS records and split files against arithmetic done here by hand."""

import math
from pathlib import Path

import numpy as np
import pytest

from unienc_core.data.sets import oxts
from unienc_core.data.sets.kitti_splits import ListedFrame, eigen_test_drives, read_split
from unienc_core.errors import DataError


def _record(**fields: float) -> np.ndarray:
    record = np.zeros(oxts.NUM_FIELDS)
    for name, value in fields.items():
        record[getattr(oxts, name)] = value
    return record


def test_speed_and_curvature_of_a_record() -> None:
    record = _record(FORWARD_SPEED=12.0, LEFTWARD_SPEED=5.0, YAW_RATE=0.26)
    assert oxts.speed(record) == 13
    assert oxts.curvature(record) == pytest.approx(20.0)  # 1/km: a circle of 50 m, to the left
    assert math.isnan(oxts.curvature(_record(FORWARD_SPEED=0.1, YAW_RATE=0.2)))


@pytest.mark.data
def test_a_line_of_real_records_is_read(real_data: Path, tmp_path: Path) -> None:
    rows = (real_data / "steering_labels/kitti_tracking_oxts/oxts.txt").read_text().splitlines()
    (tmp_path / "0.txt").write_text(rows[0])
    record = oxts.read_oxts(tmp_path / "0.txt")
    assert oxts.speed(record) == pytest.approx(math.hypot(3.5147680214713, 0.037625160413037))
    assert record[oxts.YAW_RATE] == pytest.approx(0.14563031426063)
    (tmp_path / "0.txt").write_text("1 2 3")
    with pytest.raises(DataError, match="3 numbers, expected the 30"):
        oxts.read_oxts(tmp_path / "0.txt")


@pytest.mark.parametrize("place", ["-91 8", "90 8", "-90 8", "49 1e9"])
def test_records_from_off_the_earth_are_refused(tmp_path: Path, place: str) -> None:
    path = tmp_path / "0.txt"
    path.write_text(place + " 0" * (oxts.NUM_FIELDS - 2))
    with pytest.raises(DataError, match=r"0.txt: latitude .* expected a place on Earth"):
        oxts.read_oxts(path)
    path.write_text("-89.9 -180" + " 0" * (oxts.NUM_FIELDS - 2))
    assert np.isfinite(oxts.poses([oxts.read_oxts(path)])).all()


@pytest.mark.data
def test_real_positions_move_as_fast_and_turn_as_much_as_the_records_say(real_data: Path) -> None:
    rows = (real_data / "steering_labels/kitti_tracking_oxts/oxts.txt").read_text().splitlines()
    records = [np.array(row.split(), float) for row in rows]
    T_earth_imu = oxts.poses(records)
    steps = np.linalg.inv(T_earth_imu[:-1]) @ T_earth_imu[1:]
    way = np.linalg.norm(steps[:, :3, 3], axis=1)
    speeds = np.array([oxts.speed(record) for record in records])
    # 10 Hz; positions are smoothed together with the speeds, so their sums must agree.
    assert way.sum() == pytest.approx(speeds[:-1].sum() / 10, rel=0.02)
    assert np.mean(steps[:, 0, 3] > 0) > 0.99  # forward is x
    turned = np.unwrap(np.arctan2(T_earth_imu[:, 1, 0], T_earth_imu[:, 0, 0]))
    rates = np.array([record[oxts.YAW_RATE] for record in records])
    assert turned[-1] - turned[0] == pytest.approx(rates[:-1].sum() / 10, abs=0.03)


def test_two_records_chained_by_hand() -> None:
    """East-bound at 49 degrees north, then turned left by 90 degrees, 10 m further north."""
    degrees_of_10_m = math.degrees(10.0 / oxts.EARTH_RADIUS)
    first = _record(LATITUDE=49.0, LONGITUDE=8.4)
    second = _record(LATITUDE=49.0 + degrees_of_10_m, LONGITUDE=8.4, ALTITUDE=1.0, YAW=math.pi / 2)
    T_world_imu = oxts.poses([first, second])
    T_first_second = np.linalg.inv(T_world_imu[0]) @ T_world_imu[1]
    # Bound east: forward is east, left is north. Mercator is true to scale on the ground.
    expected = [[0, -1, 0, 0], [1, 0, 0, 10], [0, 0, 1, 1], [0, 0, 0, 1]]
    np.testing.assert_allclose(T_first_second, expected, atol=1e-4)


def test_pitch_and_roll_turn_about_their_axes() -> None:
    nose_down = oxts.poses([_record(PITCH=0.1)])[0]
    # Right-handed about the axis to the left: the nose (x) goes down.
    np.testing.assert_allclose(nose_down[:3, 0], [math.cos(0.1), 0, -math.sin(0.1)])
    rolled = oxts.poses([_record(ROLL=0.1)])[0]
    np.testing.assert_allclose(rolled[:3, 1], [0, math.cos(0.1), math.sin(0.1)])


def test_split_files_of_three_kinds(tmp_path: Path) -> None:
    path = tmp_path / "train_files.txt"
    path.write_text(
        "2011_09_26/2011_09_26_drive_0022_sync 473 r\n"
        "2011_09_26/2011_09_26_drive_0022_sync 0000000005 l\n"
        "2011_09_26/2011_09_26_drive_0022_sync 5 l\n\n"
        "2011_09_28/2011_09_28_drive_0001_sync/image_02/data/0000000069.png rest/of/it 721.5\n"
    )
    assert read_split(path) == [
        ListedFrame("2011_09_26_drive_0022", 2, 5),
        ListedFrame("2011_09_26_drive_0022", 3, 473),
        ListedFrame("2011_09_28_drive_0001", 2, 69),
    ]
    for line in ("aachen aachen_000000_000019", "2011_09_26/2011_09_26_drive_0022_sync 5 x"):
        path.write_text(f"2011_09_26/2011_09_26_drive_0022_sync 5 l\n{line}\n")
        with pytest.raises(DataError, match=f"line 2: found '{line}'"):
            read_split(path)
    path.write_text("\n")
    with pytest.raises(DataError, match="names no frame"):
        read_split(path)


def test_the_eigen_split_tests_on_28_drives() -> None:
    drives = eigen_test_drives()
    assert len(drives) == 28
    assert {"2011_09_26_drive_0002", "2011_09_26_drive_0052", "2011_10_03_drive_0047"} <= drives
