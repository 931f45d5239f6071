"""Outputs appear whole, all together, or not at all; Ctrl-C leaves their parts."""

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from clip_toys import facts, make_result

from unienc_core.errors import ResourceError, UsageError
from unienc_core.inference.outputs import Outputs
from unienc_core.inference.results import FrameResult
from unienc_core.inference.sinks import SINKS
from unienc_core.inference.video import VideoReader

SIZE = (24, 32)


def outputs(folder: Path, *names: str) -> Outputs:
    return Outputs([SINKS[n](folder / f"out{SINKS[n].suffix}", facts(SIZE)) for n in names])


def result(index: int, size: tuple[int, int] = SIZE) -> FrameResult:
    picture = np.random.default_rng(index).integers(0, 255, (*size, 3), dtype=np.uint8)
    return replace(make_result(index), picture=picture)


def test_everything_appears_under_its_own_name_at_the_end(tmp_path) -> None:
    with outputs(tmp_path / "new" / "folder", *SINKS) as out:
        for i in range(3):
            out.write(result(i))
        assert not (tmp_path / "new/folder/out.mp4").exists()
    names = {path.name for path in (tmp_path / "new/folder").iterdir()}
    assert names == {"out.mp4", "out_depth", "out_npz", "out_ply", "out.h5", "out.jsonl"}
    assert out.report() == {"saturated_pixels": 0, "coarse_pixels": 0}


def test_an_error_leaves_the_old_and_nothing_else(tmp_path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"old")
    with pytest.raises(RuntimeError, match="stop"), outputs(tmp_path, *SINKS) as out:
        out.write(result(0))
        raise RuntimeError("stop")
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"old"


def test_ctrl_c_leaves_parts_that_can_be_read(tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt), outputs(tmp_path, "mp4", "h5", "jsonl", "png16") as out:
        for i in range(5):
            out.write(result(i))
        raise KeyboardInterrupt
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"out.part.mp4", "out.part.h5", "out.part.jsonl", "out_depth.part"}
    with VideoReader(tmp_path / "out.part.mp4") as reader:
        assert len(list(reader)) == 5
    with h5py.File(tmp_path / "out.part.h5") as file:
        assert len(file["depth"]) == 5
    with outputs(tmp_path, "mp4", "h5", "jsonl", "png16") as out:  # the next try begins anew
        out.write(result(9))
    assert {path.name for path in tmp_path.iterdir()} == {
        "out.mp4", "out.h5", "out.jsonl", "out_depth"
    }  # fmt: skip
    assert len(list((tmp_path / "out_depth").glob("*.png"))) == 1


def test_ctrl_c_before_the_first_frame_leaves_nothing(tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt), outputs(tmp_path, *SINKS):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_ours_is_replaced_and_no_other(tmp_path) -> None:
    for index in (0, 1):
        with outputs(tmp_path, "png16") as out:
            out.write(result(index))
    assert {p.name for p in (tmp_path / "out_depth").iterdir()} == {"000001.png", "unienc.json"}
    (tmp_path / "out_depth" / "unienc.json").unlink()
    with pytest.raises(UsageError, match="did not make"), outputs(tmp_path, "png16") as out:
        out.write(result(2))
    assert (tmp_path / "out_depth" / "000001.png").exists()


def test_outputs_that_are_partly_the_same_are_not_written_twice(tmp_path) -> None:
    with outputs(tmp_path, "mp4", "jsonl") as first:
        first.write(result(0))
        with pytest.raises(UsageError, match="another process"), outputs(tmp_path, "npz", "jsonl"):
            pass
        with outputs(tmp_path, "npz") as other:
            other.write(result(0))
    assert {path.name for path in tmp_path.iterdir()} == {"out.mp4", "out.jsonl", "out_npz"}


def test_two_processes_do_not_write_one_output(tmp_path) -> None:
    with outputs(tmp_path, "jsonl") as first:
        first.write(result(0))
        with pytest.raises(UsageError, match="another process"), outputs(tmp_path, "jsonl"):
            pass
        with outputs(tmp_path / "elsewhere", "jsonl") as other:
            other.write(result(0))
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1
    assert not list(tmp_path.glob(".*"))


FULL = """
import resource, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_outputs import outputs, result
from unienc_core.errors import ResourceError
def limit():
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
if not {late}:
    limit()
try:
    with outputs(Path({folder!r}), {name!r}) as out:
        for i in range({num}):
            out.write(result(i, (96, 128)))
        limit()
except ResourceError as error:
    print(error)
"""


def run_full(folder: Path, name: str, limit: int, *, late: bool, num: int) -> None:
    """Run in a process of its own, since a library may crash where it finds no room."""
    tests = str(Path(__file__).parent)
    script = FULL.format(
        tests=tests, folder=str(folder), name=name, limit=limit, late=late, num=num
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "the disk is full" in done.stdout
    assert str(folder / "out") in done.stdout
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "limit"),
    [("mp4", 20_000), ("mp4", 100_000), ("h5", 100_000), ("jsonl", 20_000), ("npz", 2_000)],
)
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, name, limit) -> None:
    run_full(tmp_path, name, limit, late=False, num=300)


def test_a_disk_that_fills_at_the_last_moment_is_noticed(tmp_path) -> None:
    """The plain mp4 is a second copy of the fragments: its room may be missing."""
    run_full(tmp_path, "mp4", 100_000, late=True, num=40)


def test_places_that_cannot_be_written_fail_on_opening(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResourceError, match="cannot be written"):
        outputs(tmp_path / "file", "mp4").__enter__()

    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ResourceError, match="Read-only"):
        outputs(tmp_path, "mp4").__enter__()
