"""Depth as files: whose they are, which camera made them, and what a killed run leaves."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cityscapes_toys import (
    BASELINE,
    FX,
    label_parts,
    write_camera,
    write_labels,
    write_small_cityscapes,
)

from unienc_core.contracts import Reporter
from unienc_core.data.sets.cityscapes import CityscapesRequest, list_cityscapes
from unienc_core.errors import DataError, UsageError
from unienc_core.workflows.export_depth import export_cityscapes_depth

FIRST, SECOND = "ulm_000000_000004", "ulm_000001_000004"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_small_cityscapes(tmp_path / "cs", "train")
    return tmp_path / "cs"


def depth_of(number: int) -> np.ndarray:
    codes = label_parts(number)["disparity"].astype(float)
    return np.where(codes > 1, FX * BASELINE * 256 / np.maximum(codes - 1, 1), 0)


def write_list(path: Path, *stems: str) -> Path:
    path.write_text("\n".join(stems))
    return path


def test_files_of_another_list_are_refused_until_forced(root: Path, tmp_path: Path) -> None:
    both = write_list(tmp_path / "both.txt", FIRST, SECOND)
    other = write_list(tmp_path / "other.txt", SECOND)
    out = tmp_path / "depth"
    export_cityscapes_depth(root, "train", out, both, workers=1)
    for dry_run in (True, False):
        with pytest.raises(UsageError, match=r"holds depth of another meaning.*--force"):
            export_cityscapes_depth(root, "train", out, other, workers=1, dry_run=dry_run)
    with pytest.raises(UsageError, match="another meaning"):
        export_cityscapes_depth(root, "train", out, workers=1)
    np.testing.assert_allclose(np.load(out / "000_depth.npy"), depth_of(0), rtol=1e-6)
    # The same list by another name is the same list.
    same = write_list(tmp_path / "same.txt", f"ulm {FIRST}", f"ulm/{SECOND}_leftImg8bit.png")
    assert export_cityscapes_depth(root, "train", out, same, workers=1)["made"] == 0
    assert export_cityscapes_depth(root, "train", out, other, workers=1, force=True)["made"] == 1
    assert sorted(path.name for path in out.iterdir()) == ["000_depth.npy", "export.json"]
    np.testing.assert_allclose(np.load(out / "000_depth.npy"), depth_of(1), rtol=1e-6)


def test_a_forced_run_that_is_killed_leaves_no_file_of_the_other_export(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "depth"
    export_cityscapes_depth(root, "train", out, write_list(tmp_path / "a", FIRST), workers=1)
    monkeypatch.setattr("unienc_core.workflows.export_depth.write_depths", lambda *_: ["killed"])
    swapped = write_list(tmp_path / "b", SECOND)
    export_cityscapes_depth(root, "train", out, swapped, workers=1, force=True)
    assert [path.name for path in out.iterdir()] == ["export.json"]


def test_files_without_a_record_are_not_taken_for_ours(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "depth"
    out.mkdir()
    np.save(out / f"{FIRST}.npy", np.ones((16, 32), np.float32))
    with pytest.raises(UsageError, match=rf"holds {FIRST}.npy, of which no export.json"):
        export_cityscapes_depth(root, "train", out, workers=1)
    assert export_cityscapes_depth(root, "train", out, workers=1, force=True)["made"] == 2
    np.testing.assert_allclose(np.load(out / f"{FIRST}.npy"), depth_of(0), rtol=1e-6)


def test_what_killed_runs_left_is_removed(root: Path, tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    out = tmp_path / "depth"
    out.mkdir()
    left = out / f".tmp-{FIRST}.npy-{gone.pid}"
    at_work = out / f".tmp-other.npy-{os.getpid()}"
    for path in (left, at_work):
        path.write_bytes(b"half")
    export_cityscapes_depth(root, "train", out, workers=1, dry_run=True)
    assert left.exists()
    export_cityscapes_depth(root, "train", out, workers=1)
    assert not left.exists()
    assert list(out.glob(".tmp-*")) == [at_work]


def test_cameras_are_those_of_the_store(root: Path, tmp_path: Path) -> None:
    (root / f"camera/train/ulm/{SECOND}_camera.json").unlink()
    lines: list[str] = []
    export_cityscapes_depth(
        root, "train", tmp_path / "own", workers=1, reporter=Reporter(say=lines.append)
    )
    assert [path.name for path in (tmp_path / "own").glob("*.npy")] == [f"{FIRST}.npy"]
    assert any("1 frames whose sequence has no camera file" in line for line in lines)
    (labelled,) = [p for p in list_cityscapes(root, CityscapesRequest()).stores if "-" in p.name]
    assert [drive.name for drive in labelled.drives] == [FIRST]
    listed = write_list(tmp_path / "list.txt", FIRST, SECOND)
    with pytest.raises(DataError, match=rf"list.txt: names 1 frames .*{SECOND}"):
        export_cityscapes_depth(root, "train", tmp_path / "listed", listed)
    (root / f"camera/train/ulm/{FIRST}_camera.json").unlink()
    with pytest.raises(DataError, match="disparity of 16x32 is not that of the camera's own"):
        export_cityscapes_depth(root, "train", tmp_path / "none")


def test_without_cameras_the_typical_one_is_assumed(tmp_path: Path) -> None:
    codes = np.full((1024, 2048), 257, np.uint16)  # a pixel of disparity
    write_labels(tmp_path / "cs", "train", FIRST, {"disparity": codes})
    export_cityscapes_depth(tmp_path / "cs", "train", tmp_path / "out", workers=1)
    depth = np.load(tmp_path / f"out/{FIRST}.npy")
    np.testing.assert_allclose(depth, 2262.52 * 0.209313, rtol=1e-6)
    # With its camera, later, it is another depth.
    write_camera(tmp_path / "cs", "train", FIRST)
    with pytest.raises(UsageError, match="another meaning.*assumed.*files"):
        export_cityscapes_depth(tmp_path / "cs", "train", tmp_path / "out", workers=1)


def test_a_list_may_name_any_city(tmp_path: Path) -> None:
    stem = "new_york_02_000001_000007"
    write_labels(tmp_path / "cs", "val", stem, label_parts())
    write_camera(tmp_path / "cs", "val", stem)
    forms = (stem, f"new_york_02 {stem}", f"val/new_york_02/{stem}_leftImg8bit.png")
    frames = write_list(tmp_path / "list.txt", *forms)
    export_cityscapes_depth(tmp_path / "cs", "val", tmp_path / "out", frames, workers=1)
    for number in range(3):
        found = np.load(tmp_path / f"out/{number:03d}_depth.npy")
        np.testing.assert_allclose(found, depth_of(0), rtol=1e-6)
