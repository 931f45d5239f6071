"""Pictures as a video: natural order, upright, any kind; a webcam as well."""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from unienc_core.errors import DataError, VideoError
from unienc_core.inference import webcam
from unienc_core.inference.images import ImageSource, natural_key, read_image
from unienc_core.inference.span import Span
from unienc_core.inference.webcam import WebcamSource


def write(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    assert cv2.imwrite(str(path), image)
    return path


def flat(level: int, shape: tuple[int, ...] = (24, 32, 3), dtype: type = np.uint8) -> np.ndarray:
    return np.full(shape, level, dtype)


def test_numbers_in_names_count() -> None:
    names = ["a10.png", "a9.png", "B1.png", "a1b2.png", "a1b10.png", "a01.png"]
    ordered = sorted(map(Path, names), key=natural_key)
    assert [p.name for p in ordered] == [
        "a01.png", "a1b2.png", "a1b10.png", "a9.png", "a10.png", "B1.png"
    ]  # fmt: skip


def test_every_kind_of_picture_is_rgb(tmp_path) -> None:
    colour = flat(0)
    colour[..., 2] = 200  # red, as OpenCV writes it
    assert (read_image(write(tmp_path / "a.png", colour))[0, 0] == [200, 0, 0]).all()
    assert (read_image(write(tmp_path / "b.png", flat(77, (24, 32)))) == 77).all()
    deep = read_image(write(tmp_path / "c.png", flat(200 * 256, (24, 32), np.uint16)))
    assert deep.dtype == np.uint8
    assert (deep == 200).all()
    clear = read_image(write(tmp_path / "d.png", flat(50, (24, 32, 4))))
    assert clear.shape == (24, 32, 3)


def test_photos_come_upright(tmp_path) -> None:
    image = flat(30)
    image[:, :8] = 220
    path = write(tmp_path / "a.jpg", image)
    data = path.read_bytes()
    # EXIF orientation 6: to be turned clockwise by a quarter.
    tiff = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    body = b"Exif\0\0" + tiff
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:])
    turned = read_image(path)
    assert turned.shape == (32, 24, 3)
    assert turned[:6].mean() > 200
    assert turned[12:].mean() < 40


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"text" * 50, "not a picture"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "not a"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path, content, message) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_image(path)
    assert str(path) in str(error.value)
    with pytest.raises(DataError, match="No such file"):
        read_image(tmp_path / "none.png")


def row(tmp_path: Path, num: int = 6) -> list[Path]:
    return [write(tmp_path / f"p{i}.png", flat(10 * i)) for i in range(num)]


def test_pictures_are_a_stream(tmp_path) -> None:
    paths = row(tmp_path)
    source = ImageSource(paths, "row", tmp_path, Fraction(10))
    assert source.info.is_timed
    assert not ImageSource(paths, "row", tmp_path).info.is_timed  # 25 a second is a guess
    assert (source.info.rate, source.info.num_frames, source.info.name) == (10, 6, "row")
    frames = list(source.frames(Span(Fraction(1, 10), stride=2)))
    assert [(f.index, f.pts, f.time, f.stem, f.path) for f in frames] == [
        (i, i, i / 10, f"p{i}", paths[i]) for i in (1, 3, 5)
    ]
    assert [f.image.max() for f in frames] == [10, 30, 50]


def test_a_bad_picture_is_a_gap(tmp_path) -> None:
    paths = row(tmp_path)
    for bad in (0, 3, 4):
        paths[bad].write_bytes(b"gone")
    source = ImageSource(paths, "row", tmp_path)
    assert [(f.index, f.num_lost) for f in source] == [(1, 1), (2, 0), (5, 2)]
    assert [(g.before, g.num_lost) for g in source.losses.gaps] == [(1, 1), (5, 2)]
    for path in paths:
        path.write_bytes(b"gone")
    with pytest.raises(DataError, match=r"p0\.png: is not a picture"):
        ImageSource(paths, "row", tmp_path)


def test_equal_names_of_several_folders_are_numbered(tmp_path) -> None:
    paths = [write(tmp_path / folder / "x.png", flat(9)) for folder in "ab"]
    assert [f.stem for f in ImageSource(paths, "row", tmp_path)] == ["000000", "000001"]


class FakeCapture:
    """A camera of five frames."""

    def __init__(self, num: int = 5) -> None:
        self.left, self.released = num, False

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        image = flat(0)
        image[..., 0] = 99  # blue, as OpenCV gives it
        return (True, image) if self.left >= 0 else (False, None)

    def get(self, _: int) -> float:
        return 0.0

    def release(self) -> None:
        self.released = True


def test_a_webcam_is_a_stream_with_times_of_the_clock(monkeypatch) -> None:
    camera = FakeCapture()
    monkeypatch.setattr(webcam, "_open", lambda _: camera)
    with WebcamSource(0) as source:
        assert (source.info.name, source.info.rate, source.info.num_frames) == ("camera0", 30, None)
        frames = list(source)
        assert [f.index for f in frames] == list(range(5))
        assert all(a.pts < b.pts for a, b in zip(frames, frames[1:], strict=False))
        assert (frames[0].image[0, 0] == [0, 0, 99]).all()
        assert source.losses.is_cut  # it went away by itself
    assert camera.released


def test_a_webcam_ends_when_told(monkeypatch) -> None:
    monkeypatch.setattr(webcam, "_open", lambda _: FakeCapture(1000))
    with WebcamSource(0) as source:
        frames = iter(source)
        next(frames)
        source.stop()
        assert len(list(frames)) <= 1
        assert not source.losses.is_cut


def test_a_camera_that_is_not_there_is_named(capfd) -> None:
    with pytest.raises(VideoError, match="webcam 63: cannot be opened"):
        WebcamSource(63)
    assert capfd.readouterr().err == ""
