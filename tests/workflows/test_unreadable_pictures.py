"""Damaged files among thousands: what concerns them is left out and named, the rest is stored."""

import json
import shutil
from contextlib import closing

import cv2
import numpy as np
import pytest
from cityscapes_toys import write_small_cityscapes
from kitti_toys import write_drive, write_sequence

from unienc_cli.main import run
from unienc_core.data.sets.cityscapes import CityscapesRequest, list_cityscapes
from unienc_core.data.sets.cuts import cut_images, cut_run
from unienc_core.data.sets.folders import FoldersRequest, list_folders
from unienc_core.data.sets.kitti_odometry import OdometryRequest, list_kitti_odometry
from unienc_core.data.sets.kitti_raw import list_kitti_raw
from unienc_core.data.sets.kitti_raw_stores import RawRequest
from unienc_core.data.shard_build import DrivePlan
from unienc_core.data.store import Store
from unienc_core.errors import DataError, PartialError
from unienc_core.workflows.prepare_sets import format_report, prepare_set

REQUEST = CityscapesRequest(gap=1, image_size=(6, 16))


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def cut_short(path):
    path.write_bytes(path.read_bytes()[:60])


def partial(listing, out, **options):
    with pytest.raises(PartialError) as raised:
        prepare_set(listing, out, **{"workers": 1, **options})
    assert raised.value.report is not None
    return raised.value.report


def drives(folder):
    with closing(Store(folder, verify=True)) as store:
        return {drive.name: drive.num_frames for drive in store.drives}


@pytest.fixture
def root(tmp_path):
    write_small_cityscapes(tmp_path / "cs", "train", snippets=3)
    return tmp_path / "cs"


@pytest.fixture
def damaged(root):
    """A root in which a frame of one sequence, all of another, and a label are damaged."""
    hurt = shutil.copytree(root, root.parent / "hurt")
    pictures = hurt / "leftImg8bit_sequence/train/ulm"
    cut_short(pictures / "ulm_000000_000003_leftImg8bit.png")
    for path in pictures.glob("ulm_000002_*"):
        path.write_bytes(b"")
    cut_short(hurt / "gtFine/train/ulm/ulm_000001_000004_gtFine_labelIds.png")
    return hurt


def test_a_drive_is_cut_where_it_cannot_be_read_and_the_report_says_so(damaged, tmp_path):
    report = partial(list_cityscapes(damaged, REQUEST), tmp_path / "out")
    assert drives(tmp_path / "out/train") == {
        "ulm_000000_000000": 3,
        "ulm_000000_000004": 4,
        "ulm_000001_000000": 8,
    }
    assert list(drives(tmp_path / "out/train-labelled")) == [
        "ulm_000000_000004",
        "ulm_000002_000004",
    ]
    with closing(Store(tmp_path / "out/train")) as store:
        assert store.triplets().tolist() == [[0, 1], [1, 1], [1, 2], *([2, n] for n in range(1, 7))]
        assert store.column(1, "timestamp")[0] == 0
    lost = report["unreadable"]
    assert sum(loss["num_frames"] for loss in lost) == 1 + 8 + 1
    assert report["stored"] == 15 + 2
    assert lost[0]["drive"] == "ulm_000000_000000"
    assert "ulm_000000_000003_leftImg8bit.png" in lost[0]["reason"]
    text = format_report(report)
    assert "left out, cannot be read: 1 (" in text
    assert "gtFine_labelIds.png" in text


def test_the_bytes_depend_on_the_files_alone_and_repair_completes_the_store(
    root, damaged, tmp_path, monkeypatch
):
    monkeypatch.setattr("unienc_core.workflows.prepare_sets.SHARD_BYTES", 2000)
    partial(list_cityscapes(damaged, REQUEST), tmp_path / "one")
    whole = content(tmp_path / "one")
    partial(list_cityscapes(damaged, REQUEST), tmp_path / "two", workers=2)
    assert content(tmp_path / "two") == whole
    again = partial(list_cityscapes(damaged, REQUEST), tmp_path / "one")
    assert 0 < again["stored"] < 17  # only what lacks something is tried again
    assert sum(loss["num_frames"] for loss in again["unreadable"]) == 1 + 8 + 1
    assert content(tmp_path / "one") == whole
    shutil.rmtree(damaged)
    shutil.copytree(root, damaged)
    repaired = prepare_set(list_cityscapes(damaged, REQUEST), tmp_path / "one", workers=1)
    assert repaired["unreadable"] == []
    prepare_set(list_cityscapes(root, REQUEST), tmp_path / "healthy", workers=1)
    assert content(tmp_path / "one") == content(tmp_path / "healthy")


def test_exit_codes(damaged, tmp_path, capsys):
    command = ["prepare-data", "cityscapes", str(damaged), "--out", str(tmp_path / "out")]
    command += ["--size", "6x16", "--workers", "1", "--gap", "1", "--json", "--quiet"]
    assert run([*command, "--export-panoptic", str(tmp_path / "pan")]) == 4
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["exported_panoptic"]["made"] == 3  # what else was asked for is done
    assert len(document["unreadable"]) > 2
    assert "restore the files and repeat the command" in err
    for path in damaged.rglob("*_leftImg8bit.png"):
        cut_short(path)
    assert run([*command, "--force"]) == 3
    assert "no frame can be read: " in json.loads(capsys.readouterr().out)["error"]
    assert "Traceback" not in err


def test_a_depth_map_that_cannot_be_made_leaves_the_others(root, tmp_path, capsys):
    command = ["prepare-data", "cityscapes", str(root), "--out", str(tmp_path / "out")]
    command += ["--size", "6x16", "--workers", "1", "--json", "--quiet"]
    assert run(command) == 0
    path = root / "disparity/train/ulm/ulm_000001_000004_disparity.png"
    whole = path.read_bytes()
    cut_short(path)
    command += ["--export-depth", str(tmp_path / "depth")]
    capsys.readouterr()
    assert run(command) == 4
    out, err = capsys.readouterr()
    found = json.loads(out)["exported_depth"]
    assert (found["frames"], found["made"]) == (3, 2)
    assert "ulm_000001_000004_disparity.png" in found["unreadable"][0]
    assert "1 files are not made" in err
    path.write_bytes(whole)
    assert run(command) == 0
    assert len(list((tmp_path / "depth").glob("*.npy"))) == 3


def test_a_store_of_which_nothing_is_left_is_not_declared_complete(damaged, tmp_path):
    for path in damaged.glob("gtFine/*/*/*_labelIds.png"):
        cut_short(path)
    report = partial(list_cityscapes(damaged, REQUEST), tmp_path / "out")
    assert [store["path"] for store in report["stores"]] == [str(tmp_path / "out/train")]
    with pytest.raises(DataError, match="unfinished store"):
        Store(tmp_path / "out/train-labelled")


def test_kitti_loses_single_frames_records_and_scans(tmp_path):
    folder = write_drive(tmp_path / "raw", 1, frames=14)
    cut_short(folder / "image_02/data/0000000000.png")
    (folder / "oxts/data/0000000005.txt").write_text("half a rec")
    (folder / "velodyne_points/data/0000000007.bin").write_bytes(b"123")
    day = "2011_09_26/2011_09_26_drive_0001_sync"
    (tmp_path / "list.txt").write_text("\n".join(f"{day} {n} l" for n in (1, 3, 7, 8, 12)))
    request = RawRequest(frames=tmp_path / "list.txt", depth="velodyne", image_size=None)
    report = partial(list_kitti_raw(tmp_path / "raw", request), tmp_path / "out")
    # Runs 0-4, 6-9 and 11-13 hold the targets; 1 goes with its source 0, 3 stays in 1-4.
    with closing(Store(tmp_path / "out/train", verify=True)) as store:
        assert [d.attrs["frames"] for d in store.drives] == ["1-4", "6-9", "11-13"]
        assert store.triplets().tolist() == [[0, 2], [1, 1], [1, 2], [2, 1]]
    with closing(Store(tmp_path / "out/train-labelled", verify=True)) as store:
        assert [d.attrs["frames"] for d in store.drives] == ["1,3,8,12"]
    assert [loss["num_frames"] for loss in report["unreadable"]] == [1, 1]
    request = RawRequest(cameras=(2,), image_size=None, drives="all")
    partial(list_kitti_raw(tmp_path / "raw", request), tmp_path / "all")
    assert list(drives(tmp_path / "all/train").values()) == [4, 8]


def test_a_file_that_a_whole_drive_needs_takes_the_drive_with_it(tmp_path):
    for name in ("00", "01"):
        write_sequence(tmp_path / "odometry", name)
    (tmp_path / "odometry/poses/00.txt").write_text("1 2 3")
    (tmp_path / "odometry/sequences/01/image_2/000000.png").write_bytes(b"")  # a first one, too
    listing = list_kitti_odometry(tmp_path / "odometry", OdometryRequest(image_size=None))
    report = partial(listing, tmp_path / "out")
    assert drives(tmp_path / "out/train") == {"01_image_2_000001": 5}
    assert [loss["num_frames"] for loss in report["unreadable"]] == [6, 1]
    assert "expected rows of 12" in report["unreadable"][0]["reason"]


def test_image_folders(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "left"
    (folder / "depth").mkdir(parents=True)
    for number in range(8):
        cv2.imwrite(str(folder / f"{number:03d}.png"), rng.integers(0, 256, (40, 48, 3), np.uint8))
        np.save(folder / f"depth/{number:03d}.npy", np.ones((40, 48), np.float32))
    cut_short(folder / "004.png")
    (folder / "depth/006.npy").write_bytes(b"no")
    (tmp_path / "c.yaml").write_text(
        "{fps: 10, cameras: [{images: 'left/*.png', K: [50, 50, 24, 20], depth: depth}]}"
    )
    partial(list_folders(tmp_path / "c.yaml", FoldersRequest(min_motion=0)), tmp_path / "out")
    assert drives(tmp_path / "out/train") == {"left_000000": 4, "left_000005": 3}
    with closing(Store(tmp_path / "out/train-labelled")) as store:
        (drive,) = store.drives
        assert drive.attrs["frames"] == "0-3,5,7"
        assert drive.attrs["files"] == "000.png/001.png/002.png/003.png/005.png/007.png"


def test_what_is_left_of_a_plan():
    plan = DrivePlan("a_000002", 6, attrs={"frames": "2-4,6-8", "targets": "3,7"})
    (after,) = cut_run(plan, 1)
    assert (after.name, after.num_frames) == ("a_000004", 4)
    assert after.attrs == {"frames": "4,6-8", "targets": "7"}
    assert cut_run(plan, 4) == [DrivePlan("a_000002", 4, attrs={"frames": "2-4,6", "targets": "3"})]
    assert cut_images(DrivePlan("a_07", 1, attrs={"frames": "7"}), 0) == []
