"""KITTI raw through its adapter: which frames, what stands in them, and what is said."""

import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from kitti_toys import HEIGHT, WIDTH, picture, write_drive

from unienc_core.data.sets.kitti_raw import list_kitti_raw
from unienc_core.data.sets.kitti_raw_stores import RawRequest
from unienc_core.data.sets.listing import StorePlan
from unienc_core.data.sets.spans import from_spans, to_spans
from unienc_core.data.shard_build import Frame
from unienc_core.data.store import Store
from unienc_core.data.store_writer import StoreWriter
from unienc_core.errors import DataError, UsageError

LEFT = RawRequest(cameras=(2,), image_encoding="png", image_size=None)


def frames_of(plan: StorePlan) -> list[Frame]:
    source = pickle.loads(pickle.dumps(plan.source))
    return [frame for drive in plan.drives for frame in source(drive)]


def stored(plan: StorePlan, folder: Path) -> Store:
    with StoreWriter(folder, plan.spec) as writer:
        writer.add_shards([[drive] for drive in plan.drives], plan.source)
    return Store(folder)


def targets(store: Store) -> list[str]:
    """Names of the drives and numbers of the frames on disk that are targets."""
    found = []
    for drive, frame in store.triplets():
        info = store.drives[drive]
        numbers = from_spans(str(info.attrs["frames"]))
        number, _, camera, _ = info.name.split("_drive_")[1].split("_")
        found.append(f"{number}/{camera}/{numbers[frame]}")
    return sorted(found)


@pytest.mark.data
def test_the_fragment_and_its_intrinsics(real_data: Path, tmp_path: Path) -> None:
    request = RawRequest(drives="all", depth="velodyne", gap=3, image_encoding="png")
    listing = list_kitti_raw(real_data / "kitti_raw", request)
    store = stored(listing.stores[0], tmp_path / "train")
    # Ten frames at a gap of 3: runs of 0 3 6 9, 1 4 7 and 2 5 8.
    assert targets(store) == [f"0052/02/{n}" for n in (3, 4, 5, 6)]
    frame = store.frame(0, 1, ["image", "K", "timestamp"])
    folder = real_data / "kitti_raw/2011_09_26/2011_09_26_drive_0052_sync/image_02/data"
    picture = cv2.imread(str(folder / "0000000003.png"))[..., ::-1]
    expected = cv2.resize(picture, (640, 192), interpolation=cv2.INTER_AREA)
    assert np.array_equal(frame["image"], expected)
    sx, sy = 640 / 1242, 192 / 375
    fx = 721.5377
    K = [[fx * sx, 0, 610.0593 * sx - 0.5], [0, fx * sy, 173.354 * sy - 0.5], [0, 0, 1]]
    np.testing.assert_allclose(frame["K"], K, rtol=1e-12)
    assert frame["timestamp"] == pytest.approx(0.3)
    assert (store.fps, store.gap) == (pytest.approx(10 / 3), 1)
    labelled = stored(listing.stores[1], tmp_path / "labelled")
    assert labelled.manifest["kind"] == "images"
    assert labelled.num_frames == 10
    assert labelled.frame(0, 3, ["image"])["image"].shape == (375, 1242, 3)
    depth = labelled.frame(0, 3, ["depth"])["depth"]
    assert (depth > 0).sum() == 15729
    assert labelled.keys["depth"].provenance == "LiDAR scan, camera-z"


def test_both_cameras_and_the_drives_of_the_eigen_split(tmp_path: Path) -> None:
    write_drive(tmp_path, 1)
    write_drive(tmp_path, 2, suffix=".jpg")  # tests on it
    listing = list_kitti_raw(tmp_path, RawRequest())
    assert [drive.name for drive in listing.stores[0].drives] == [
        "2011_09_26_drive_0001_image_02_0000000000",
        "2011_09_26_drive_0001_image_03_0000000000",
    ]
    assert listing.dropped == {"drive of the Eigen split's test images": ["2011_09_26_drive_0002"]}
    assert any("--depth velodyne" in remark for remark in listing.remarks)
    held_out = list_kitti_raw(tmp_path, RawRequest(drives="test"))
    assert {drive.attrs["suffix"] for drive in held_out.stores[0].drives} == {".jpg"}
    named = list_kitti_raw(tmp_path, RawRequest(drives="2011_09_26_drive_0002_sync"))
    assert named.stores[0].drives == held_out.stores[0].drives
    with pytest.raises(UsageError, match="--drives 2011_09_26_drive_0009: not in .* which has"):
        list_kitti_raw(tmp_path, RawRequest(drives="2011_09_26_drive_0009"))
    shutil.rmtree(tmp_path / "2011_09_26/2011_09_26_drive_0001_sync")
    with pytest.raises(UsageError, match="--drives test or --drives all"):
        list_kitti_raw(tmp_path, RawRequest())


def test_a_split_file_says_which_frames_are_targets(tmp_path: Path) -> None:
    write_drive(tmp_path, 1, frames=10, stops_at=6)  # and is taken as it is
    (tmp_path / "2011_09_26/2011_09_26_drive_0001_sync/image_03/data/0000000004.png").unlink()
    day = "2011_09_26/2011_09_26_drive_0001_sync"
    listed = [f"{day} {frame} l" for frame in (1, 2, 3, 6, 7, 9)] + [f"{day} {5:010d} r"]
    other = [f"2011_09_26/2011_09_26_drive_0099_sync 5 {side}" for side in "lr"]
    (tmp_path / "files.txt").write_text("\n".join([*listed, *other]))
    request = RawRequest(frames=tmp_path / "files.txt", image_size=None)
    listing = list_kitti_raw(tmp_path, request)
    store = stored(listing.stores[0], tmp_path / "train")
    # 4 and 5 lie between listed ones, and so are stored, yet are no targets; 9 is the last.
    assert targets(store) == [f"0001/02/{n}" for n in (1, 2, 3, 6, 7)]
    assert listing.dropped == {
        "listed, but its drive is not there": [
            "2011_09_26_drive_0099/image_02/5",
            "2011_09_26_drive_0099/image_03/5",
        ],
        "no frame 1 before or after it": [
            "2011_09_26_drive_0001/image_02/9",
            "2011_09_26_drive_0001/image_03/5",
        ],
    }


def test_listed_frames_of_a_camera_that_is_not_asked_for_are_counted(tmp_path: Path) -> None:
    write_drive(tmp_path, 1)
    day = "2011_09_26/2011_09_26_drive_0001_sync"
    (tmp_path / "files.txt").write_text(f"{day} 3 l\n{day} 4 r\n{day} 5 r\n")
    request = replace(LEFT, frames=tmp_path / "files.txt")
    assert list_kitti_raw(tmp_path, request).dropped == {
        "listed for the camera that is not asked for": [
            "2011_09_26_drive_0001/image_03/4",
            "2011_09_26_drive_0001/image_03/5",
        ]
    }
    (tmp_path / "files.txt").write_text(f"{day} 4 r\n")
    with pytest.raises(DataError, match="none of its frames .*1: listed for the camera"):
        list_kitti_raw(tmp_path, request)


def test_pictures_of_another_kind_than_most_are_counted(tmp_path: Path) -> None:
    folder = write_drive(tmp_path, 1, frames=10) / "image_02/data"
    for frame in (7, 8, 9):
        path = folder / f"{frame:010d}.png"
        cv2.imwrite(str(path.with_suffix(".jpg")), cv2.imread(str(path)))
        if frame > 7:  # which is there as either
            path.unlink()
    listing = list_kitti_raw(tmp_path, LEFT)
    assert [drive.attrs["frames"] for drive in listing.stores[0].drives] == ["0-7"]
    assert listing.dropped == {
        ".jpg in a folder of mostly .png": [
            "2011_09_26_drive_0001/image_02/8",
            "2011_09_26_drive_0001/image_02/9",
        ]
    }


def test_missing_frames_end_runs(tmp_path: Path) -> None:
    folder = write_drive(tmp_path, 1, frames=12)
    (folder / "image_02/data/0000000004.png").unlink()
    listing = list_kitti_raw(tmp_path, LEFT)
    assert [drive.attrs["frames"] for drive in listing.stores[0].drives] == ["0-3", "5-11"]
    assert targets(stored(listing.stores[0], tmp_path / "train")) == [
        f"0001/02/{n}" for n in (1, 10, 2, 6, 7, 8, 9)
    ]
    assert not listing.dropped
    # At a gap of 3, frame 1 has no 4 and 7 only 10: 0 3 6 9 and 2 5 8 11 are left.
    thinned = list_kitti_raw(tmp_path, replace(LEFT, gap=3))
    runs = [drive.attrs["frames"] for drive in thinned.stores[0].drives]
    assert runs == ["0,3,6,9", "2,5,8,11"]
    (reason,) = thinned.dropped
    assert thinned.dropped[reason] == [f"2011_09_26_drive_0001/image_02/{n}" for n in (1, 7, 10)]


def test_motion_comes_from_oxts(tmp_path: Path) -> None:
    write_drive(tmp_path, 1, frames=6, stops_at=3)
    listing = list_kitti_raw(tmp_path, LEFT)
    assert "camera-z" not in str(listing.stores[0].spec.keys.get("depth"))
    frames = frames_of(listing.stores[0])
    # East-bound, axes of the camera: 0.8 m along z a frame until the car stands.
    centres = [frame["T_world_camera"][:3, 3] for frame in frames]
    expected = [[0, 0, 0.8 * min(i, 3)] for i in range(6)]
    np.testing.assert_allclose(centres, expected, atol=1e-6)
    np.testing.assert_allclose(frames[2]["T_world_camera"][:3, :3], np.eye(3), atol=1e-12)
    assert [float(frame["speed"]) for frame in frames] == [8, 8, 8, 0, 0, 0]
    assert float(frames[0]["yaw_rate"]) == pytest.approx(0.1)
    assert float(frames[0]["curvature"]) == pytest.approx(1000 * 0.1 / 8)
    assert np.isnan(frames[4]["curvature"])  # it stands
    store = stored(listing.stores[0], tmp_path / "train")
    assert targets(store) == ["0001/02/1", "0001/02/2"]


def test_a_camera_beside_the_reference_swings_when_the_car_turns(tmp_path: Path) -> None:
    """Where the car turns by 90 degrees to the left on the spot of its IMU, by hand."""
    folder = write_drive(tmp_path, 1, frames=3)
    for frame in range(3):
        path = folder / f"oxts/data/{frame:010d}.txt"
        values = path.read_text().split()
        values[1], values[5] = "0.0", repr(frame * np.pi / 4)
        path.write_text(" ".join(values))
    request = RawRequest(cameras=(3,), image_size=None, min_distance=0.0)
    frames = frames_of(list_kitti_raw(tmp_path, request).stores[0])
    # P_rect_03's -48 / 100: camera 3 is 0.48 m right of camera 0, which is 1 m ahead of the IMU
    # (0.75 m behind the LiDAR, and that 0.25 m behind camera 0). In its first frame, in metres
    # (right, forward): IMU at (-0.48, -1). Turned left, right is forward and forward is left.
    # Camera at IMU + 0.48 forward + 1 left = (-0.48 - 1, -1 + 0.48).
    np.testing.assert_allclose(frames[2]["T_world_camera"][:3, 3], [-1.48, 0, -0.52], atol=1e-6)


def test_without_oxts_the_pictures_tell_who_stands(tmp_path: Path) -> None:
    folder = write_drive(tmp_path, 1, frames=7, with_oxts=False)
    for frame in (4, 5, 6):  # the picture of 3 over and over
        cv2.imwrite(str(folder / f"image_02/data/{frame:010d}.png"), picture(3)[..., ::-1])
    listing = list_kitti_raw(tmp_path, LEFT)
    assert "1 of 1 drives lack OXTS records" in listing.remarks[0]
    store = stored(listing.stores[0], tmp_path / "train")
    assert "T_world_camera" not in store.keys
    assert targets(store) == ["0001/02/1", "0001/02/2"]


def test_velodyne_depth_of_both_conventions(tmp_path: Path) -> None:
    write_drive(tmp_path, 1, frames=3)
    for convention, pixel, metres in (
        ("camera-z", (20, 61), 12.0),  # 60 + 100 x 0.06 / 12 = 60.5, to the even pixel 60
        ("velodyne-x", (19, 59), 12.25),
    ):
        request = RawRequest(cameras=(2,), depth="velodyne", convention=convention)
        labelled = list_kitti_raw(tmp_path, request).stores[1]
        depth = frames_of(labelled)[2]["depth"]
        row, column = np.argwhere(depth)[0]
        assert np.count_nonzero(depth) == 1
        assert (row, column) in {pixel, (pixel[0], pixel[1] - 1)}
        assert depth[row, column] == np.float32(metres)


@pytest.mark.parametrize("place", ["train/{drive}", "2011_09_26/{drive}"])
def test_annotated_depth_is_found_beside_or_inside_the_drives(tmp_path: Path, place: str) -> None:
    write_drive(tmp_path / "raw", 1, frames=4)
    drive = place.format(drive="2011_09_26_drive_0001_sync")
    annotated = tmp_path / "annotated"
    folder = annotated / drive / "proj_depth/groundtruth/image_02"
    folder.mkdir(parents=True)
    codes = np.zeros((HEIGHT, WIDTH), np.uint16)
    codes[30, 50], codes[31, 51] = 256 * 10 + 64, 1
    cv2.imwrite(str(folder / "0000000002.png"), codes)
    request = RawRequest(cameras=(2,), depth="annotated", annotated=annotated)
    listing = list_kitti_raw(tmp_path / "raw", request)
    (frame,) = frames_of(listing.stores[1])
    assert frame["depth"][30, 50] == 10.25
    assert frame["depth"][31, 51] == np.float32(1 / 256)
    assert np.count_nonzero(frame["depth"]) == 2
    assert np.array_equal(frame["image"], picture(2))
    assert len(listing.dropped["no annotated depth"]) == 3
    cv2.imwrite(str(folder / "0000000002.png"), codes[:-1])
    with pytest.raises(DataError, match=r"0000000002.png: a map of \(39, 120\), expected"):
        frames_of(listing.stores[1])
    request = RawRequest(cameras=(2,), depth="annotated", annotated=tmp_path / "none")
    with pytest.raises(DataError, match="no annotated depth of the 4 frames found; expected under"):
        list_kitti_raw(tmp_path / "raw", request)


def test_what_is_missing_or_broken_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no KITTI raw found; expected under it .*found an empty"):
        list_kitti_raw(tmp_path, LEFT)
    folder = write_drive(tmp_path, 1, frames=4)
    (folder / "image_02/data/0000000002.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    with pytest.raises(DataError, match=r"0000000002.png"):
        frames_of(list_kitti_raw(tmp_path, LEFT).stores[0])
    (tmp_path / "2011_09_26/calib_cam_to_cam.txt").unlink()
    with pytest.raises(DataError, match="calib_cam_to_cam.txt: no such file"):
        list_kitti_raw(tmp_path, LEFT)
    (tmp_path / "files.txt").write_text("2011_09_26/2011_09_26_drive_0099_sync 5 l\n")
    with pytest.raises(DataError, match="none of its frames is one of .*1: listed, but its drive"):
        list_kitti_raw(tmp_path, RawRequest(frames=tmp_path / "files.txt"))


def test_spans_are_read_as_they_were_written() -> None:
    for numbers in ([0], [3, 4, 5, 9], [0, 2, 4], list(range(500))):
        assert from_spans(to_spans(numbers)) == numbers
    assert to_spans([9, 3, 5, 4]) == "3-5,9"


def test_the_sources_import_no_torch() -> None:
    modules = ("kitti_raw_source", "kitti_odometry", "folder_source")
    lines = [f"import unienc_core.data.sets.{module}" for module in modules]
    code = "; ".join([*lines, "import sys", "sys.exit('torch' in sys.modules)"])
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_pieces_of_a_cut_run_without_a_listed_frame_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unienc_core.data.sets import sequence

    monkeypatch.setattr(sequence, "MAX_DRIVE_PIXELS", 3 * HEIGHT * WIDTH)
    write_drive(tmp_path, 1)
    day = "2011_09_26/2011_09_26_drive_0001_sync"
    (tmp_path / "files.txt").write_text(f"{day} 1 l\n{day} 4 l\n")
    listing = list_kitti_raw(tmp_path, replace(LEFT, frames=tmp_path / "files.txt"))
    assert targets(stored(listing.stores[0], tmp_path / "out")) == ["0001/02/1", "0001/02/4"]
    assert from_spans(to_spans([])) == []
