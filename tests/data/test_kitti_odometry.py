"""KITTI's odometry sequences through their adapter: pictures, poses chained by hand, gaps."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from kitti_toys import HEIGHT, WIDTH, write_sequence

from unienc_core.data.sets.kitti_odometry import OdometryRequest, list_kitti_odometry
from unienc_core.data.sets.kitti_poses import read_poses
from unienc_core.data.store import Store
from unienc_core.data.store_writer import StoreWriter
from unienc_core.errors import DataError, UsageError

NATIVE = OdometryRequest(image_size=None, image_encoding="png")


def stored(root: Path, request: OdometryRequest, folder: Path) -> Store:
    (plan,) = list_kitti_odometry(root, request).stores
    with StoreWriter(folder, plan.spec) as writer:
        writer.add_shards([[drive] for drive in plan.drives], plan.source)
    return Store(folder)


@pytest.mark.data
def test_the_fragment(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "kitti_odometry"
    store = stored(root, OdometryRequest(image_encoding="png"), tmp_path / "train")
    assert len(store.triplets()) == 23
    frame = store.frame(0, 10, ["image", "K", "T_world_camera", "timestamp"])
    grey = cv2.imread(str(root / "sequences/turn/image_0/000010.png"), cv2.IMREAD_GRAYSCALE)
    assert grey.shape == (376, 1241)
    expected = cv2.resize(grey, (640, 192), interpolation=cv2.INTER_AREA)
    for channel in range(3):
        assert np.array_equal(frame["image"][..., channel], expected)
    sx, sy = 640 / 1241, 192 / 376
    K = [
        [718.856 * sx, 0, 607.6928 * sx - 0.5],
        [0, 718.856 * sy, 185.7157 * sy - 0.5],
        [0, 0, 1],
    ]
    np.testing.assert_allclose(frame["K"], K, rtol=1e-12)
    assert frame["timestamp"] == pytest.approx(1.0)
    # Where the file says the camera is, in plain numbers; and one motion chained by hand.
    rows = [line.split() for line in (root / "poses/turn.txt").read_text().splitlines()]
    assert frame["T_world_camera"][0, 3] == float(rows[10][3])
    before, after = (np.array(rows[n], float).reshape(3, 4) for n in (10, 11))
    R = before[:, :3].T @ after[:, :3]
    t = before[:, :3].T @ (after[:, 3] - before[:, 3])
    following = store.frame(0, 11, ["T_world_camera"])["T_world_camera"]
    motion = np.linalg.inv(frame["T_world_camera"]) @ following
    np.testing.assert_allclose(motion[:3], np.column_stack((R, t)), atol=1e-5)
    assert motion[0, 3] > 0  # it turns right


def test_a_colour_camera_is_not_where_the_poses_are(tmp_path: Path) -> None:
    write_sequence(tmp_path, "00", cameras=(0, 2))
    store = stored(tmp_path, NATIVE, tmp_path / "out")
    assert store.drives[0].name == "00_image_2_000000"
    centres = store.column(0, "T_world_camera")[:, :3, 3]
    np.testing.assert_allclose(centres[:5], [[-0.06, 0, frame] for frame in range(5)], atol=1e-12)
    # Turned right, its left is forward: 0.06 m ahead of camera 0.
    np.testing.assert_allclose(centres[5], [0, 0, 4.06], atol=1e-12)
    grey = stored(tmp_path, replace(NATIVE, cameras=(0, 1)), tmp_path / "grey")
    np.testing.assert_allclose(grey.column(0, "T_world_camera")[5, :3, 3], [0, 0, 4], atol=1e-12)
    # Between the last two frames camera 0 stands: 4 is no target; camera 2 swings by 8.5 cm.
    assert grey.triplets()[:, 1].tolist() == [1, 2, 3]


def test_training_leaves_out_what_the_protocol_tests_on(tmp_path: Path) -> None:
    for name in ("00", "09", "11", "own"):
        write_sequence(tmp_path, name, poses=name != "11")
    listing = list_kitti_odometry(tmp_path, NATIVE)
    assert {drive.attrs["sequence"] for drive in listing.stores[0].drives} == {"00", "own"}
    assert listing.dropped == {
        "sequence that the odometry protocol tests on": ["09"],
        "sequence whose poses are not published (name it in --sequences to have it)": ["11"],
    }
    assert "T_world_camera" in listing.stores[0].spec.keys
    unknown = list_kitti_odometry(tmp_path, replace(NATIVE, sequences="00,11"))
    assert "1 of 2 sequences have no" in unknown.remarks[0]
    assert "T_world_camera" not in unknown.stores[0].spec.keys
    held_out = list_kitti_odometry(tmp_path, replace(NATIVE, sequences="test"))
    assert [drive.attrs["sequence"] for drive in held_out.stores[0].drives] == ["09"]
    named = list_kitti_odometry(tmp_path, replace(NATIVE, sequences="09,00", gap=2))
    assert [drive.attrs["frames"] for drive in named.stores[0].drives] == ["0,2,4", "1,3,5"] * 2
    with pytest.raises(UsageError, match="--sequences 12: not in"):
        list_kitti_odometry(tmp_path, replace(NATIVE, sequences="12"))


def test_pictures_of_another_kind_than_most_are_counted(tmp_path: Path) -> None:
    write_sequence(tmp_path, "00")
    (tmp_path / "sequences/00/image_2/000005.png").rename(
        tmp_path / "sequences/00/image_2/000005.jpg"
    )
    listing = list_kitti_odometry(tmp_path, NATIVE)
    assert listing.dropped == {".jpg in a folder of mostly .png": ["00/image_2/5"]}


def test_what_is_missing_or_broken_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no KITTI odometry found; expected under it"):
        list_kitti_odometry(tmp_path, NATIVE)
    write_sequence(tmp_path, "00")
    with pytest.raises(DataError, match="no triplet is left .*without pictures in image_0"):
        list_kitti_odometry(tmp_path, replace(NATIVE, cameras=(0,)))
    poses = tmp_path / "poses/00.txt"
    whole = poses.read_text().splitlines()
    poses.write_text("\n".join(whole[:5]))
    with pytest.raises(DataError, match="5 poses, but the sequence has frame 5"):
        stored(tmp_path, NATIVE, tmp_path / "out")
    for text, what in (
        ("1 0 0", "expected rows of 12"),
        ("2 0 0 0 0 1 0 0 0 0 1 0", "row 1: no rotation"),
        ("1 0 0 0 0 1 0 0 0 0 1 0\n-1 0 0 0 0 1 0 0 0 0 1 0", "row 2: a mirrored picture"),
        ("a b", "no poses can be read"),
    ):
        poses.write_text(text)
        with pytest.raises(DataError, match=what):
            read_poses(poses)


def test_long_sequences_are_cut_without_losing_a_triplet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unienc_core.data.sets import sequence

    monkeypatch.setattr(sequence, "MAX_DRIVE_PIXELS", 4 * HEIGHT * WIDTH)
    write_sequence(tmp_path, "00")
    (plan,) = list_kitti_odometry(tmp_path, NATIVE).stores
    assert [drive.attrs["frames"] for drive in plan.drives] == ["0-3", "2-5"]


def test_names_of_other_digits_and_cameras_of_other_pictures_are_refused(tmp_path: Path) -> None:
    write_sequence(tmp_path, "00")
    calibration = tmp_path / "sequences/00/calib.txt"
    calibration.write_text(calibration.read_text().replace("60 6", "1096 6"))
    with pytest.raises(DataError, match=r"calib.txt: fx, .*1096, 20 px do not fit .* 40x120"):
        stored(tmp_path, NATIVE, tmp_path / "out")
    for path in (tmp_path / "sequences/00/image_2").iterdir():
        path.rename(path.with_stem(f"{int(path.stem):010d}"))
    line = "image_2: found 0000000000.png, expected names of 6 digits, as 000000.png"
    with pytest.raises(DataError, match=line):
        list_kitti_odometry(tmp_path, NATIVE)
