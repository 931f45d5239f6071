"""Curvature of driven paths: the synthetic city, KITTI raw and odometry; signs and look-ahead."""

from pathlib import Path

import numpy as np
import pytest
from kitti_toys import write_drive, write_sequence
from steering_toys import stored

from unienc_core.data.city_source import CitySource, city_plans
from unienc_core.data.sets import oxts
from unienc_core.data.sets.kitti_odometry import OdometryRequest, list_kitti_odometry
from unienc_core.data.sets.kitti_raw import list_kitti_raw
from unienc_core.data.sets.kitti_raw_stores import RawRequest
from unienc_core.data.sets.turning import curvature_of_poses, way_of
from unienc_core.data.steering import recording_of
from unienc_core.data.synthcity import City, CityConfig
from unienc_core.data.synthcity.drive import curvature_ahead
from unienc_core.errors import UsageError


@pytest.fixture(scope="module")
def drives() -> list[City]:
    """Worlds long enough to turn in; nothing of them is rendered."""
    return [City(CityConfig(seed=seed, image_size=(24, 80), num_frames=60)) for seed in range(4)]


def test_exact_poses_have_the_citys_curvature_and_the_wrong_sign_has_not(drives) -> None:
    right, wrong = [], []
    for city in drives:
        drive = city.world.drive
        found = curvature_of_poses(drive.T_world_camera, 17.0)[1:-1]
        right.append((found - drive.curvature[1:-1]) ** 2)
        wrong.append((-found - drive.curvature[1:-1]) ** 2)
    assert np.mean(right) < 0.5  # the camera shakes a little
    assert np.mean(wrong) > 100


def test_the_curvature_ahead_is_what_the_car_will_drive(drives) -> None:
    for city in drives:
        drive = city.world.drive
        way = way_of(drive.T_world_camera[:, :3, 3])
        for metres in (0.0, 5.0, 12.5):
            ahead = curvature_ahead(city.world.path, drive, metres)
            inside = way + metres <= way[-1]
            later = np.interp(way + metres, way, drive.curvature)
            np.testing.assert_allclose(ahead[inside], later[inside], atol=0.6)
            assert inside.sum() > 20
            assert np.isfinite(ahead).all()  # the road goes on where the drive ends


def test_a_citys_store_holds_the_labels_ahead_and_is_the_same_without_them(tmp_path) -> None:
    plain = CitySource((24, 80), 1, 0.0, False)
    with_ahead = CitySource((24, 80), 1, 0.0, False, (5.0,))
    (plan,) = city_plans("train", 0, 1, 3)
    spec = with_ahead.spec("train", 0, 1, 3)
    assert spec.keys["curvature_5m"].unit == "1/km"
    assert "curvature_5m" not in plain.spec("train", 0, 1, 3).keys
    for before, after in zip(plain(plan), with_ahead(plan), strict=True):
        assert after.keys() - before.keys() == {"curvature_5m"}
        assert after["curvature_5m"].dtype == np.float32
        np.testing.assert_array_equal(before["image"], after["image"])
    with pytest.raises(UsageError, match="look-ahead"):
        CitySource((24, 80), 1, 0.0, False, (-5.0,)).spec("train", 0, 1, 3)


@pytest.mark.data
def test_the_odometry_fragment_turns_right(real_data: Path, tmp_path: Path) -> None:
    request = OdometryRequest(sequences="all", image_size=(48, 160), look_ahead=(5.0,))
    with stored(list_kitti_odometry(real_data / "kitti_odometry", request), tmp_path) as store:
        here, there = (store.column(0, key) for key in ("curvature", "curvature_5m"))
        assert store.keys["curvature"].unit == "1/km"
        assert recording_of(store.drives[0]) == ("turn", 0.0)
    # By hand, between frames 0 and 1: atan2(0.04355, 0.99905) over 1.00235 m, to the right.
    way = np.linalg.norm([0.05154656, -0.02424883, 1.000725])
    assert here[0] == pytest.approx(-1000 * np.arctan2(4.355194e-2, 9.990480e-1) / way, rel=1e-6)
    assert (here < -40).all()
    assert (here > -50).all()
    # A metre a frame: 5 m ahead lies about five frames on.
    assert there[0] == pytest.approx(here[5], abs=0.5)
    assert np.isnan(there[-5:]).all()


def test_a_path_that_is_not_known_has_no_label_ahead(tmp_path: Path) -> None:
    write_sequence(tmp_path, "00", poses=False)
    with pytest.raises(UsageError, match="--look-ahead: .*00.txt is missing"):
        list_kitti_odometry(tmp_path, OdometryRequest(look_ahead=(5.0,)))


def test_oxts_gives_curvature_and_not_where_the_car_stands(tmp_path: Path) -> None:
    write_drive(tmp_path, 1, stops_at=6)  # 8 m/s, 0.8 m a frame
    request = RawRequest(drives="all", cameras=(2,), image_size=None, look_ahead=(2.0,))
    with stored(list_kitti_raw(tmp_path, request), tmp_path / "out") as store:
        here, there = (store.column(0, key) for key in ("curvature", "curvature_2m"))
        np.testing.assert_allclose(here, [12.5] * 6 + [np.nan] * 2, rtol=1e-6)
        # What is driven ends 4.8 m after the first frame, and the last of it is not known.
        np.testing.assert_allclose(there, [12.5] * 3 + [np.nan] * 5, rtol=1e-6)
        assert recording_of(store.drives[0]) == ("2011_09_26/2011_09_26_drive_0001_sync", 0.0)


@pytest.mark.data
def test_real_oxts_records_turn_left_where_the_heading_does(real_data: Path) -> None:
    path = real_data / "steering_labels/kitti_tracking_oxts/oxts.txt"
    records = [np.array(line.split(), float) for line in path.read_text().splitlines()]
    found = np.array([oxts.curvature(record) for record in records])
    # First row: 0.145630 rad/s at 3.5147680 m/s forward and 0.0376252 m/s to the left.
    assert found[0] == pytest.approx(1000 * 0.14563031426063 / np.hypot(3.51476802, 0.03762516))
    assert (found.min(), found.max()) == (pytest.approx(-61, abs=1), pytest.approx(44, abs=1))
    yaw = np.unwrap([record[oxts.YAW] for record in records])  # counter-clockwise from east
    turning = (yaw[2:] - yaw[:-2]) / 0.2
    speed = np.array([oxts.speed(record) for record in records])[1:-1]
    assert np.corrcoef(found[1:-1], 1000 * turning / speed)[0, 1] > 0.95
