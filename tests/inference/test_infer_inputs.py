"""What the words of the command line stand for."""

import json
import os
import threading
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from unienc_core.errors import DataError, UsageError
from unienc_core.inference import webcam
from unienc_core.inference.frames import FrameSource
from unienc_core.inference.video import VideoReader
from unienc_core.workflows.infer import VideoRequest, infer_video
from unienc_core.workflows.infer_inputs import Reading, expand, parse_fps


def opened(*given: object, **reading: object) -> list[FrameSource]:
    """Open everything; errors are raised."""

    def fail(path: Path, error: DataError) -> None:
        raise error

    return [found.open() for found in expand(given, Reading(**reading), fail)]


def names(*given: object) -> list[tuple[str, int | None]]:
    return [(source.info.name, source.info.num_frames) for source in opened(*given)]


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "street"
    folder.mkdir()
    for i in (1, 2, 10):
        cv2.imwrite(str(folder / f"p{i}.png"), np.full((32, 48, 3), 10 * i, np.uint8))
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.txt").write_text("x")
    return folder


def test_a_folder_of_pictures_is_one_stream_in_natural_order(pictures) -> None:
    (source,) = opened(pictures, fps=Fraction(10))
    assert (source.info.name, source.info.rate, source.info.is_still) == ("street", 10, False)
    assert [frame.stem for frame in source] == ["p1", "p2", "p10"]


def test_a_folder_of_videos_is_that_many_clips(make_video, tmp_path) -> None:
    for name in ("b10.mp4", "b9.mp4", "a.MKV"):
        make_video(name, num=2, flags="" if name.endswith("MKV") else "faststart")
    (tmp_path / "notes.txt").write_text("x")
    assert [name for name, _ in names(tmp_path)] == ["a", "b9", "b10"]


def test_folders_that_are_neither(make_video, pictures, tmp_path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="neither pictures nor videos nor a store"):
        opened(empty)
    make_video("street/c.mp4", num=2)
    with pytest.raises(DataError, match=r"3 pictures and 1 videos; choose by a pattern"):
        opened(pictures)


def test_a_pattern_and_the_shell_s_own_expansion_agree(pictures, tmp_path, make_video) -> None:
    assert names(f"{pictures}/p*.png") == [("street", 3)]
    shell = sorted(str(p) for p in pictures.glob("p*.png"))  # p1, p10, p2
    (source,) = opened(*shell)
    assert [frame.stem for frame in source] == ["p1", "p2", "p10"]
    assert source.info.name == "street"
    make_video("x1.mp4", num=2)
    assert names(f"{tmp_path}/**/*[0-9].*")[0] == ("street", 3)
    assert len(names(f"{tmp_path}/**/*[0-9].*")) == 2
    with pytest.raises(DataError, match="no file matches"):
        opened(f"{tmp_path}/*.nothing")


def test_names_that_look_like_patterns_are_names_first(make_video) -> None:
    path = make_video("a[1].mp4", num=2)
    assert names(path) == [("a[1]", 2)]


def test_a_list_is_relative_to_itself_and_keeps_its_order(pictures, make_video, tmp_path) -> None:
    make_video("v.mp4", num=2)
    file = tmp_path / "list.txt"
    file.write_text("# comment\nstreet/p10.png\n\nstreet/p2.png\nv.mp4\n")
    row, video = opened(f"@{file}")
    assert row.info.name == "list"
    assert [frame.stem for frame in row] == ["p10", "p2"]
    assert video.info.name == "v"
    for content, message in [("# nothing\n", "names no input"), ("none.mp4\n", "no such file")]:
        file.write_text(content)
        with pytest.raises(DataError, match=message):
            opened(f"@{file}")
    with pytest.raises(DataError, match=r"no such list of inputs.*\./@"):
        opened("@nowhere.txt")


def test_one_picture_is_a_still(pictures) -> None:
    (source,) = opened(pictures / "p2.png")
    assert source.info.is_still
    assert source.info.name == "p2"


@pytest.mark.parametrize("given", [[], [""], ["a.mp4", ""]])
def test_nothing_is_no_input(given) -> None:
    with pytest.raises(UsageError, match="needs at least one|empty name"):
        list(expand(given, Reading(), lambda *_: None))


@pytest.mark.parametrize(
    "given", ["none.mp4", "none.png", "x" * 300, "x" * 300 + ".png", "*" * 300, "a\0b", "\n", "~x"]
)
def test_what_is_not_there_is_bad_data_and_never_a_crash(given, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((DataError, OSError)) as caught:
        infer_video([given])
    assert isinstance(caught.value, DataError)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        (None, None),
        ("25", 25),
        ("23.976", Fraction(2997, 125)),
        ("24000/1001", Fraction(24000, 1001)),
    ],
)
def test_rates(text, rate) -> None:
    assert parse_fps(text) == rate


@pytest.mark.parametrize("text", ["0", "-1", "x", "1/0", "1e9", "nan", "inf", "9" * 50, ""])
def test_what_is_no_rate(text) -> None:
    with pytest.raises(UsageError, match="--fps"):
        parse_fps(text)


def test_pictures_have_the_rate_that_is_asked_for(pictures, untrained_run, tmp_path) -> None:
    report = infer_video(
        [pictures],
        request=VideoRequest(fps="10", sinks="mp4,png16,jsonl"),
        out=tmp_path,
        checkpoint=untrained_run,
    )
    with VideoReader(tmp_path / "street_unienc.mp4") as reader:
        assert reader.info.rate == 10
        assert len(list(reader)) == 3
    assert {p.name for p in (tmp_path / "street_unienc_depth").glob("*.png")} == {
        "p1.png", "p2.png", "p10.png"
    }  # fmt: skip
    lines = (tmp_path / "street_unienc.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in lines] == [
        str(pictures / f"p{i}.png") for i in (1, 2, 10)
    ]
    assert report["videos"][0]["frames_out"] == 3
    video = VideoRequest(fps="10")
    with pytest.raises(UsageError, match="--fps is for pictures"):
        infer_video([tmp_path / "street_unienc.mp4"], request=video)
    with pytest.raises(UsageError, match="--drive is for stores"):
        infer_video([pictures], request=VideoRequest(drive="d"))


def test_one_picture_becomes_one_picture(pictures, untrained_run, tmp_path) -> None:
    report = infer_video([pictures / "p2.png"], out=tmp_path, checkpoint=untrained_run)
    assert report["videos"][0]["outputs"] == {"mp4": str(tmp_path / "p2_unienc.png")}
    drawn = cv2.imread(str(tmp_path / "p2_unienc.png"))
    assert drawn.shape[1] == 672  # 48 px wide is shown fourteenfold
    infer_video([pictures / "p2.png"], out=tmp_path / "x.png", checkpoint=untrained_run)
    assert (cv2.imread(str(tmp_path / "x.png")) == drawn).all()
    with pytest.raises(UsageError, match=r"p2 is written as \.png"):
        infer_video([pictures / "p2.png"], out=tmp_path / "x.mp4", checkpoint=untrained_run)


def test_a_pipe_is_read_once(make_video, untrained_run, tmp_path) -> None:
    data = make_video(num=5).read_bytes()
    receiver, sender = os.pipe()
    saved = os.dup(0)
    os.dup2(receiver, 0)
    try:
        threading.Thread(
            target=lambda: (os.write(sender, data), os.close(sender)), daemon=True
        ).start()
        report = infer_video(["-"], out=tmp_path, checkpoint=untrained_run)
    finally:
        os.dup2(saved, 0)
        os.close(receiver)
        os.close(saved)
    assert report["videos"][0]["frames_out"] == 5
    assert (tmp_path / "stdin_unienc.mp4").exists()


def test_a_webcam_is_read_until_stop(untrained_run, tmp_path, monkeypatch) -> None:
    class Camera:
        def read(self) -> tuple[bool, np.ndarray]:
            return True, np.full((48, 64, 3), 90, np.uint8)

        def get(self, _: int) -> float:
            return 15.0

        def release(self) -> None:
            pass

    monkeypatch.setattr(webcam, "_open", lambda _: Camera())
    report = infer_video(
        ["0"], request=VideoRequest(stop="4"), out=tmp_path, checkpoint=untrained_run
    )
    assert report["videos"][0]["frames_out"] == 4
    assert report["videos"][0]["rate"] == "15"
    assert (tmp_path / "camera0_unienc.mp4").exists()
