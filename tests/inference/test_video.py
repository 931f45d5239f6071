"""Videos in and out: exact times, counted losses, nothing half-written."""

import errno
import os
import resource
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from unienc_core.errors import ResourceError, VideoError
from unienc_core.inference.video import VideoReader
from unienc_core.inference.video_writer import VideoWriter

FILM = Fraction(24000, 1001)
FRAGMENTS = "frag_keyframe+empty_moov+default_base_moof"


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def read(path: Path):
    with VideoReader(path) as reader:
        return reader.info, list(reader), reader.losses


def copy(source: Path, target: Path) -> None:
    with VideoReader(source) as reader:
        info = reader.info
        with VideoWriter(target, info.rate, info.time_base) as writer:
            for frame in reader:
                writer.write(frame.image, frame.pts)


@pytest.mark.parametrize("rate", [FILM, Fraction(25), Fraction(30000, 1001), Fraction(17)])
def test_every_frame_keeps_its_exact_time(make_video, tmp_path, rate) -> None:
    source, target = make_video(num=40, rate=rate), tmp_path / "copy.mp4"
    copy(source, target)
    info, frames, losses = read(target)
    assert info.rate == rate
    assert info.num_frames == len(frames) == 40
    first = frames[0].pts
    assert [(f.pts - first) * info.time_base for f in frames] == [i / rate for i in range(40)]
    assert [f.index for f in frames] == list(range(40))
    assert frames[-1].time == pytest.approx(float(39 / rate), abs=1e-12)
    assert not losses.any


def test_uneven_times_are_kept(make_video, tmp_path) -> None:
    pts = [0, 40, 75, 200, 201, 350]
    base = Fraction(1, 1000)
    target = tmp_path / "copy.mp4"
    copy(make_video(num=6, pts=pts, time_base=base), target)
    info, frames, _ = read(target)
    assert [f.pts * info.time_base / base for f in frames] == pts


def test_pictures_survive_a_round_trip(tmp_path) -> None:
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (250, 250, 5), (128, 128, 128)]
    image = np.repeat(np.array(colours, np.uint8)[None], 16, 1).repeat(64, 0)
    with VideoWriter(tmp_path / "c.mp4", Fraction(10), Fraction(1, 10)) as writer:
        writer.write(image, 7)
        writer.write(image, 8)
    _, frames, _ = read(tmp_path / "c.mp4")
    seen = frames[1].image[32, 8::16].astype(int)
    assert np.abs(seen - np.array(colours)).max() <= 4
    assert frames[0].image.dtype == np.uint8


def test_odd_sizes_are_padded_by_one_pixel(make_video, tmp_path) -> None:
    source, target = make_video(size=(47, 63)), tmp_path / "copy.mp4"
    assert read(source)[1][0].image.shape == (47, 63, 3)
    copy(source, target)
    frame = read(target)[1][0].image
    assert frame.shape == (48, 64, 3)
    wrong = np.abs(frame[46, :62].astype(int) - frame[47, :62])
    assert wrong.mean() < 12  # the border repeats, up to compression


def test_frames_come_upright(make_video) -> None:
    path = make_video(size=(48, 64))
    data = bytearray(path.read_bytes())
    one, minus = (65536).to_bytes(4, "big"), (-65536).to_bytes(4, "big", signed=True)
    header = data.find(b"tkhd") + 4 + 40  # the display matrix of the track
    data[header : header + 36] = b"".join(
        [bytes(4), one, bytes(4), minus, bytes(12), bytes(4), (1 << 30).to_bytes(4, "big")]
    )
    upright = read(path)[1][0].image
    path.write_bytes(data)
    info, frames, _ = read(path)
    assert (info.height, info.width) == (64, 48)
    np.testing.assert_array_equal(frames[0].image, np.rot90(upright, -1))


def test_a_cut_file_gives_what_decodes_and_counts_the_rest(make_video) -> None:
    info, frames, losses = read(cut(make_video(num=40), 0.5))
    assert info.num_frames == 40
    assert 10 < len(frames) < 30
    assert losses.is_cut
    assert losses.num_lost == 40 - len(frames)
    assert [(gap.before, gap.num_lost) for gap in losses.gaps] == [(len(frames), losses.num_lost)]


def test_a_cut_fragmented_file_is_known_to_be_cut(make_video) -> None:
    _, frames, losses = read(cut(make_video(num=40, flags=FRAGMENTS), 0.5))
    assert 10 < len(frames) < 30
    assert losses.is_cut


def test_a_hole_is_counted_and_decoding_goes_on(make_video) -> None:
    path = make_video(num=40)
    data = bytearray(path.read_bytes())
    start = data.find(b"mdat") + len(data) // 3
    data[start : start + 4000] = bytes(4000)
    path.write_bytes(data)
    _, frames, losses = read(path)
    assert losses.num_lost > 0
    assert len(frames) + losses.num_lost == 40
    assert sum(gap.num_lost for gap in losses.gaps) == losses.num_lost
    assert frames[-1].pts == 39 * 1001  # times after the hole are those of the file
    assert not losses.is_cut


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"just some text\n" * 50, "not a video"),
        (b"#EXTM3U\n#EXTINF:5,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n", "not a video"),
        (np.random.default_rng(0).bytes(5000), "not a video"),
    ],
)
def test_what_is_no_video_is_refused(tmp_path, content, message) -> None:
    path = tmp_path / "fake.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=message) as error:
        VideoReader(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_text_is_not_filmed(tmp_path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello\n" * 100)
    with pytest.raises(VideoError, match="is text"):
        VideoReader(path)


def test_missing_index_file_and_frames_are_named(make_video, tmp_path) -> None:
    with pytest.raises(VideoError, match="without a readable index"):
        VideoReader(cut(make_video(flags=""), 0.8))
    with pytest.raises(VideoError, match="no such file"):
        VideoReader(tmp_path / "none.mp4")
    with pytest.raises(VideoError, match="is a folder"):
        VideoReader(tmp_path)
    with pytest.raises(VideoError, match="no frame"):
        VideoReader(make_video(num=0, flags=FRAGMENTS))


def test_broken_bytes_are_reported_and_never_crash(make_video) -> None:
    path = make_video(num=20)
    whole, opened = path.read_bytes(), 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        data = bytearray(whole)
        end = len(data) if seed % 3 else 2000  # every third time the index in front is hit
        for place in rng.integers(0, end, rng.integers(1, 30)):
            data[place] = rng.integers(0, 256)
        path.write_bytes(data if seed % 5 else data[: rng.integers(1, len(data))])
        try:
            info, frames, losses = read(path)
        except VideoError:
            continue
        opened += 1
        times = [frame.pts for frame in frames]
        assert all(a < b for a, b in pairwise(times))
        assert all(frame.image.shape == (info.height, info.width, 3) for frame in frames)
        assert sum(gap.num_lost for gap in losses.gaps) == losses.num_lost
    assert 20 < opened < 60


def test_a_name_is_never_an_address(make_video, tmp_path, monkeypatch) -> None:
    make_video().rename(tmp_path / "pipe:0")
    monkeypatch.chdir(tmp_path)
    assert len(read(Path("pipe:0"))[1]) == 12


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"old")
    with (
        pytest.raises(RuntimeError, match="stop"),
        VideoWriter(target, Fraction(25), Fraction(1, 25)) as writer,
    ):
        writer.write(np.zeros((32, 32, 3), np.uint8), 0)
        raise RuntimeError("stop")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("limit", [20_000, 100_000])
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, limit) -> None:
    """The limit strikes while frames are written, or when the file is finished."""
    rng = np.random.default_rng(0)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    error = None
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard[1]))
    try:
        with VideoWriter(tmp_path / "out.mp4", Fraction(25), Fraction(1, 25)) as writer:
            for i in range(40):
                writer.write(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8), i)
    except ResourceError as caught:
        error = caught
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, hard)
    assert error is not None
    assert "disk is full" in str(error)
    assert str(tmp_path / "out.mp4") in str(error)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_fails_on_opening(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResourceError, match="cannot be written"):
        VideoWriter(tmp_path / "file" / "out.mp4", Fraction(25), Fraction(1, 25)).__enter__()


def test_a_read_only_folder_fails_on_opening(tmp_path, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(ResourceError, match="Read-only"):
        VideoWriter(tmp_path / "out.mp4", Fraction(25), Fraction(1, 25)).__enter__()
