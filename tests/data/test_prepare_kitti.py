"""The verbs that prepare KITTI, and `eval-depth --protocol odometry`."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from kitti_toys import HEIGHT, WIDTH, write_drive, write_sequence

from unienc_cli.main import run
from unienc_core.checkpoint import save_checkpoint
from unienc_core.contracts import Reporter
from unienc_core.data.store import Store
from unienc_core.errors import DataError, UsageError
from unienc_core.models.network import build_network
from unienc_core.presets import load_preset
from unienc_core.workflows.evaluate import eval_depth, format_report


def save_untrained(folder: Path) -> Path:
    preset = load_preset("unified-tiny")
    weights = build_network(preset).state_dict()
    return save_checkpoint(folder, preset=preset, model=weights, optimizer={}, state={"step": 1})


def document(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def test_kitti_raw_with_lidar_as_store_and_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_drive(tmp_path / "raw", 1, frames=4)
    out, depths = tmp_path / "out", tmp_path / "depths"
    command = ["prepare-data", "kitti-raw", str(tmp_path / "raw"), "--out", str(out)]
    command += ["--camera", "left", "--size", "32x96", "--depth", "velodyne", "--workers", "1"]
    command += ["--export-depth", str(depths), "--json", "--quiet"]
    assert run([*command, "--dry-run"]) == 0
    planned = document(capsys)
    assert [part["num_frames"] for part in planned["planned"]] == [4, 4]
    assert not out.exists()
    assert not depths.exists()
    assert run(command) == 0
    report = document(capsys)
    assert report["verb"] == "prepare-data kitti-raw"
    assert [store["num_frames"] for store in report["stores"]] == [4, 4]
    assert report["stores"][0]["ranges"]["speed"]["max"] == 8
    assert Path(report["contact_sheet"]).is_file()
    store = Store(out / "train-labelled")
    folder = depths / "2011_09_26/2011_09_26_drive_0001_sync/image_02"
    for frame in range(4):
        depth = np.load(folder / f"{frame:010d}.npy")
        assert np.array_equal(depth, store.frame(0, frame, ["depth"])["depth"])
        assert depth.max() == 10 + frame  # 10.25 m from the LiDAR, 0.25 m behind the camera
    assert run(command) == 0
    again = document(capsys)
    assert (again["stored"], again["exported_depth"]["made"]) == (0, 0)
    # Depth of another meaning must not get between these.
    assert run([*command, "--depth-convention", "velodyne-x", "--out", str(tmp_path / "x")]) == 2
    assert "holds depth of another meaning" in document(capsys)["error"]
    assert not (tmp_path / "x").exists()  # before any store is made
    other = [*command, "--depth-convention", "velodyne-x", "--out", str(tmp_path / "x"), "--force"]
    assert run(other) == 0
    assert np.load(folder / f"{3:010d}.npy").max() == 13.25


def test_kitti_odometry_and_its_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("00", "01", "02"):
        write_sequence(tmp_path / "odometry", name)
    command = ["prepare-data", "kitti-odometry", str(tmp_path / "odometry"), "--size", "native"]
    command += ["--workers", "1", "--json", "--quiet", "--shard"]
    for part in ("1/2", "2/2"):
        assert run([*command, part, "--out", str(tmp_path / "out")]) == 0
    names = [
        drive.name for part in (1, 2) for drive in Store(tmp_path / f"out/train-{part}-of-2").drives
    ]
    assert names == ["00_image_2_000000", "01_image_2_000000", "02_image_2_000000"]


def test_annotated_depth_does_not_get_among_that_of_scans(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_drive(tmp_path / "raw", 1, frames=4)
    command = ["prepare-data", "kitti-raw", str(tmp_path / "raw"), "--out", str(tmp_path / "out")]
    command += ["--camera", "left", "--size", "32x96", "--workers", "1", "--quiet"]
    command += ["--export-depth", str(tmp_path / "depths"), "--depth", "annotated"]
    # No annotated map at all: there would be nothing to export in the end.
    assert run(command) == 3
    error = capsys.readouterr().err
    assert "no annotated depth of the 4 frames found; expected under it train/<drive>_sync" in error
    maps = folder / "proj_depth/groundtruth/image_02"
    maps.mkdir(parents=True)
    cv2.imwrite(str(maps / "0000000002.png"), np.full((HEIGHT, WIDTH), 2560, np.uint16))
    (tmp_path / "depths").mkdir()
    record = tmp_path / "depths/export.json"
    record.write_text('{"depth": "velodyne", "convention": "camera-z"}')
    assert run(command) == 2
    assert "holds depth of another meaning" in capsys.readouterr().err
    assert run([*command, "--depth-convention", "velodyne-x"]) == 2
    assert "annotated depth is camera-z, asked velodyne-x" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    record.unlink()
    assert run(command) == 0
    assert len(list((tmp_path / "depths").rglob("*.npy"))) == 1


@pytest.mark.parametrize(
    ("options", "code", "what"),
    [
        (["--camera", "middle"], 2, "--camera is one of left, right, both"),
        (["--depth", "stereo"], 2, "--depth is one of velodyne, annotated"),
        (["--depth-convention", "z"], 2, "--depth-convention is one of camera-z, velodyne-x"),
        (["--export-depth", "x"], 2, "give both"),
        (["--size", "big"], 2, "like 96x320"),
        (["--split", "../train"], 2, "expected the name of a folder"),
        (["--min-motion", "200"], 2, "least motion 2 widths"),
        (["--frames", "none.txt", "--drives", "all"], 2, "leave --drives out"),
        (["--frames", "none.txt"], 3, "none.txt: no such split file"),
    ],
)
def test_slips_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, what: str
) -> None:
    write_drive(tmp_path / "raw", 1, frames=3)
    command = ["prepare-data", "kitti-raw", str(tmp_path / "raw"), "--out", str(tmp_path / "out")]
    assert run([*command, *options]) == code
    error = capsys.readouterr().err
    assert what in error
    assert "Traceback" not in error


def test_motion_alone_is_scored_on_a_store_without_depth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sequence(tmp_path / "odometry", "09")
    command = ["prepare-data", "kitti-odometry", str(tmp_path / "odometry"), "--split", "val"]
    command += ["--sequences", "test", "--size", "native", "--workers", "1", "--quiet"]
    assert run([*command, "--out", str(tmp_path / "out")]) == 0
    checkpoint = save_untrained(tmp_path / "run")
    report = eval_depth(tmp_path / "out", checkpoint=checkpoint, protocol="odometry")
    assert (report["num_pairs"], report["num_snippets"], report["num_images"]) == (5, 2, 6)
    # A camera that always goes ahead by one, against five places of camera 2 in the first one's
    # frame: exact in the first snippet; in the second it ends 0.06 m right and 3.06 m ahead, for
    # it turns around camera 0 on the spot.
    truth = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 0, 3], [0.06, 0, 3.06]])
    ahead = np.array([[0, 0, n] for n in range(5)])
    factor = (truth * ahead).sum() / (ahead**2).sum()
    expected = np.sqrt(((factor * ahead - truth) ** 2).sum()) / 5
    found = report["baselines"]["straight_ahead"]
    assert found["ate_5"] == pytest.approx(expected / 2, abs=1e-9)
    assert found["rotation_deg"] == pytest.approx(90 / 5)
    assert set(report["metrics"]) >= {"ate_5", "rotation_deg"}
    assert "straight ahead" in format_report(report)
    dry = eval_depth(tmp_path / "out", checkpoint=checkpoint, protocol="odometry", dry_run=True)
    assert (dry["num_images"], dry["metrics"]["ate_5"]) == (6, None)
    capsys.readouterr()
    command = ["eval-depth", str(tmp_path / "out"), "--checkpoint", str(checkpoint), "--json"]
    command += ["--protocol", "odometry", "--quiet", "--fail-over", "ate_5=0.000001"]
    assert run(command) == 7
    assert document(capsys)["metrics"] == report["metrics"]


def test_drives_too_short_for_a_snippet_are_said(tmp_path: Path) -> None:
    write_sequence(tmp_path / "odometry", "09")
    (tmp_path / "odometry/sequences/09/image_2/000004.png").unlink()
    command = ["prepare-data", "kitti-odometry", str(tmp_path / "odometry"), "--split", "val"]
    command += ["--sequences", "test", "--size", "native", "--workers", "1", "--quiet"]
    assert run([*command, "--out", str(tmp_path / "out")]) == 0
    said: list[str] = []
    report = eval_depth(
        tmp_path / "out",
        checkpoint=save_untrained(tmp_path / "run"),
        protocol="odometry",
        reporter=Reporter(say=said.append),
    )
    assert (report["num_snippets"], report["metrics"]["ate_5"]) == (0, None)
    assert any("no drive has 5 frames, a snippet of 5 at gap 1" in line for line in said)


def test_motion_needs_poses(tmp_path: Path) -> None:
    write_sequence(tmp_path / "odometry", "00", poses=False)
    command = ["prepare-data", "kitti-odometry", str(tmp_path / "odometry"), "--size", "native"]
    assert run([*command, "--out", str(tmp_path / "out"), "--workers", "1", "--quiet"]) == 0
    with pytest.raises(DataError, match="store holds no 'T_world_camera'"):
        eval_depth(tmp_path / "out/train", protocol="odometry")
    with pytest.raises(UsageError, match="protocol odometry takes a store and a checkpoint"):
        eval_depth(tmp_path / "out/train", protocol="odometry", pose=True)


def test_the_store_is_called_by_the_part_of_the_set_unless_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_drive(tmp_path / "raw", 2, frames=3)
    write_sequence(tmp_path / "odometry", "09")
    for verb, option in (("raw", "--drives"), ("odometry", "--sequences")):
        command = ["prepare-data", f"kitti-{verb}", str(tmp_path / verb), "--json", "--dry-run"]
        command += ["--out", str(tmp_path / "out"), option]
        for more, name in ((["test"], "test"), (["all"], "train"), (["test", "--split", "x"], "x")):
            assert run([*command, *more]) == 0
            assert [plan["name"] for plan in document(capsys)["planned"]] == [name]


@pytest.mark.parametrize("kind", ["velodyne", "annotated"])
def test_depth_that_is_asked_for_and_not_there_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    folder = write_drive(tmp_path / "raw", 1, frames=3)
    for scan in (folder / "velodyne_points/data").iterdir():
        scan.unlink()
    command = ["prepare-data", "kitti-raw", str(tmp_path / "raw"), "--out", str(tmp_path / "out")]
    assert run([*command, "--depth", kind, "--annotated", str(tmp_path / "none")]) == 3
    error = capsys.readouterr().err
    assert f"no {kind} depth of the 6 frames found; expected under it" in error
    assert ("found no such folder" in error) == (kind == "annotated")
    assert not (tmp_path / "out").exists()


def test_a_store_without_a_triplet_is_refused_and_not_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sequence(tmp_path / "odometry", "00")
    command = ["prepare-data", "kitti-odometry", str(tmp_path / "odometry"), "--size", "native"]
    command += ["--out", str(tmp_path / "out"), "--workers", "1", "--quiet"]
    assert run([*command, "--min-distance", "1000"]) == 3
    assert "none of 6 frames is a target: the camera stands" in capsys.readouterr().err
    assert not (tmp_path / "out/train").exists()
    assert run(command) == 0  # other settings, and no store in the way
