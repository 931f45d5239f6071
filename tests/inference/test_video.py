"""Videos in and out: every frame, upright, at its exact time; what is no video is refused."""

import _thread
import os
import signal
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clip_toys import write_video

from unienc_core.errors import UsageError, VideoError
from unienc_core.inference.containers import PipeReader, open_stdin
from unienc_core.inference.span import Span
from unienc_core.inference.video import VideoReader

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
        frames = ((frame.image, frame.pts) for frame in reader)
        write_video(target, frames, reader.info.rate, reader.info.time_base)


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
    frames = ((image, pts) for pts in (7, 8))
    path = write_video(tmp_path / "c.mp4", frames, Fraction(10), Fraction(1, 10))
    _, frames, _ = read(path)
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


@pytest.mark.parametrize(
    ("a", "b", "c", "d", "shown"),
    [
        (0, 1, -1, 0, lambda image: np.rot90(image, -1)),  # held upright: a quarter clockwise
        (0, -1, 1, 0, lambda image: np.rot90(image)),
        (-1, 0, 0, -1, lambda image: np.rot90(image, 2)),
        (-1, 0, 0, 1, lambda image: image[:, ::-1]),  # a mirror, not half a turn
        (1, 0, 0, -1, lambda image: image[::-1]),
        (0, 1, 1, 0, lambda image: image.swapaxes(0, 1)),
    ],
)
def test_frames_come_as_players_show_them(make_video, a, b, c, d, shown) -> None:
    path = make_video(size=(48, 64))
    data = bytearray(path.read_bytes())
    header = data.find(b"tkhd") + 4 + 40  # the display matrix of the track
    matrix = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    data[header : header + 36] = b"".join(n.to_bytes(4, "big", signed=True) for n in matrix)
    expected = shown(read(path)[1][0].image)
    path.write_bytes(data)
    info, frames, _ = read(path)
    assert (info.height, info.width) == expected.shape[:2]
    np.testing.assert_array_equal(frames[0].image, expected)


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


def test_a_name_is_never_an_address(make_video, tmp_path, monkeypatch) -> None:
    make_video().rename(tmp_path / "pipe:0")
    monkeypatch.chdir(tmp_path)
    assert len(read(Path("pipe:0"))[1]) == 12


def test_ten_bits_and_other_codecs_are_read(make_video) -> None:
    for name, codec, pix_fmt in [
        ("a.mp4", "libx264", "yuv420p10le"),
        ("b.mkv", "libx264", "yuv422p"),
        ("c.avi", "mpeg4", "yuv420p"),
        ("d.mp4", "mjpeg", "yuvj420p"),
    ]:
        flags = "" if not name.endswith("mp4") else "faststart"
        flat = [np.full((48, 64, 3), 50 + 10 * i, np.uint8) for i in range(12)]
        made = make_video(name, codec=codec, pix_fmt=pix_fmt, flags=flags, pictures=flat)
        _, frames, losses = read(made)
        assert len(frames) == 12, name
        assert not losses.any
        assert frames[5].image.dtype == np.uint8
        levels = [frame.image.mean() for frame in frames]
        assert levels == pytest.approx([50 + 10 * i for i in range(12)], abs=4.9), name


def test_sound_is_known_of(make_video) -> None:
    assert read(make_video("a.mp4", with_audio=True))[0].has_audio
    info, frames, _ = read(make_video("b.mp4"))
    assert not info.has_audio
    assert len(frames) == 12


def test_a_span_gives_the_frames_of_the_whole(make_video) -> None:
    path = make_video(num=30, bf=2)
    _, whole, _ = read(path)
    with VideoReader(path) as reader:
        part = list(reader.frames(Span(Fraction(1, 2), 25, 4)))
    assert [frame.index for frame in part] == [12, 16, 20, 24]
    for frame in part:
        same = whole[frame.index]
        assert (frame.pts, frame.time) == (same.pts, same.time)
        np.testing.assert_array_equal(frame.image, same.image)


def read_pipe(data: bytes) -> list[float]:
    receiver, sender = os.pipe()

    def feed() -> None:
        with os.fdopen(sender, "wb") as file:
            file.write(data)

    threading.Thread(target=feed, daemon=True).start()
    try:
        with VideoReader(PipeReader(receiver)) as reader:
            assert reader.info.name == "stdin"
            return [frame.time for frame in reader]
    finally:
        os.close(receiver)


def test_a_pipe_gives_what_the_file_gives(make_video) -> None:
    for name, flags in [("a.mp4", "faststart"), ("b.mp4", FRAGMENTS), ("c.mkv", ""), ("d.ts", "")]:
        path = make_video(name, flags=flags)
        assert read_pipe(path.read_bytes()) == [frame.time for frame in read(path)[1]]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "stdin: is empty"), (b"text\n" * 99, "stdin: is"), (bytes(5000), "stdin: is not")],
)
def test_a_pipe_without_a_video_is_refused(content, message) -> None:
    with pytest.raises(VideoError, match=message):
        read_pipe(content)


def test_an_index_at_the_end_cannot_be_piped_and_says_so(make_video) -> None:
    with pytest.raises(VideoError, match="cannot be read from a pipe; give the file"):
        read_pipe(make_video(num=30, size=(240, 320), flags="").read_bytes())


def test_a_wait_for_a_pipe_can_be_ended() -> None:
    receiver, sender = os.pipe()
    pipe, got = PipeReader(receiver), []
    waiting = threading.Thread(target=lambda: got.append(pipe.read(100)), daemon=True)
    waiting.start()
    pipe.stop()
    waiting.join(10)
    assert got == [b""]
    os.close(sender)
    os.close(receiver)


def test_ctrl_c_is_heard_while_a_pipe_keeps_silent() -> None:
    """FFmpeg, which waits for the first bytes, would go on waiting."""
    receiver, sender = os.pipe()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Timer(0.2, _thread.interrupt_main).start()
        with pytest.raises(KeyboardInterrupt):
            VideoReader(PipeReader(receiver))
    finally:
        signal.signal(signal.SIGINT, before)
        os.close(sender)
        os.close(receiver)


def test_a_terminal_is_no_pipe() -> None:
    primary, terminal = os.openpty()
    saved = os.dup(0)
    os.dup2(terminal, 0)
    try:
        with pytest.raises(UsageError, match="from a pipe, as in"):
            open_stdin()
    finally:
        os.dup2(saved, 0)
        for descriptor in (primary, terminal, saved):
            os.close(descriptor)
