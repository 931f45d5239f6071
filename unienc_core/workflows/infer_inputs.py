"""What the inputs of `infer-video` stand for: files, folders, patterns, lists, pipe, webcam."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from unienc_core.data.store import is_store, resolve_store
from unienc_core.errors import DataError, UsageError, VideoError
from unienc_core.inference.containers import open_stdin
from unienc_core.inference.drive_source import DriveSource
from unienc_core.inference.frames import FrameSource
from unienc_core.inference.images import IMAGE_SUFFIXES, ImageSource, natural_key
from unienc_core.inference.video import VideoReader
from unienc_core.inference.webcam import WebcamSource

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg")
    + (".wmv", ".flv", ".3gp", ".ogv", ".gif", ".h264", ".hevc", ".mjpeg", ".mjpg", ".vob")
)
"""How files are told from others in a folder; a file that is named itself may end in anything."""

MAX_LIST_BYTES = 16 << 20
MAX_WEBCAM_DIGITS = 3

OnFailure = Callable[[Path, DataError], None]
"""Told of an input that cannot be read; returns when the others shall go on."""


@dataclass(frozen=True)
class Input:
    """One clip to be.

    Attributes:
        path: For people.
        open: Opens it.
        is_once: Whether it can be opened only once: a pipe, a camera.
        is_row: Whether it is a row of pictures, which have no times of their own.
    """

    path: Path
    open: Callable[[], FrameSource]
    is_once: bool = False
    is_row: bool = False


@dataclass(frozen=True)
class Reading:
    """How inputs are read.

    Attributes:
        drive: Drive of a store; None for its first.
        fps: Pictures a second of rows of pictures; None for 25.
    """

    drive: str | None = None
    fps: Fraction | None = None


def parse_fps(text: str | None) -> Fraction | None:
    """Read ``25``, ``23.976`` or ``24000/1001``.

    Raises:
        UsageError: If it is no rate.
    """
    if text is None:
        return None
    try:
        fps = Fraction(text) if len(text) < 32 and "e" not in text.lower() else Fraction(0)
    except (ValueError, ZeroDivisionError):
        fps = Fraction(0)
    if not Fraction(1, 3600) <= fps <= 1000:
        raise UsageError(f"--fps {text}: expected pictures a second, like 25 or 24000/1001")
    return fps.limit_denominator(100_000)


def expand(given: Sequence[str | Path], reading: Reading, on_failure: OnFailure) -> Iterator[Input]:
    """Turn what the user gave into clips.

    A video is a clip; so is a drive of a store. The pictures of a folder, a pattern or a list are
    one clip each; pictures given one by one are one clip together.

    Args:
        given: As on the command line.
        reading: How to read it.
        on_failure: Told of each input that cannot be read.

    Raises:
        UsageError: If something makes no sense.
    """
    if not given:
        raise UsageError("infer-video needs at least one video")
    texts = [os.fspath(text) for text in given]
    if "" in texts:
        raise UsageError("an input is an empty name; give a video, a folder, '-' or a number")
    pictures = [Path(text) for text in texts if _is_plain(text) and _is_picture(Path(text))]
    if pictures:
        name = pictures[0].stem if len(pictures) == 1 else _folder_name(pictures[0].parent)
        yield _row(sorted(pictures, key=natural_key), name, pictures[0], reading)
    for text in texts:
        if Path(text) in pictures:
            continue
        try:
            yield from _expand_one(text, reading)
        except DataError as error:
            on_failure(Path(text), error)
        except (OSError, ValueError) as error:  # a name too long, a folder that may not be entered
            why = getattr(error, "strerror", None) or error
            on_failure(Path(text), DataError(f"{text}: cannot be read ({why})"))


def _expand_one(text: str, reading: Reading) -> Iterator[Input]:
    path = Path(text)
    if text == "-":
        yield Input(path, lambda: VideoReader(open_stdin()), is_once=True)
    elif text.isascii() and text.isdigit() and len(text) <= MAX_WEBCAM_DIGITS:
        yield Input(path, lambda: WebcamSource(int(text)), is_once=True)
    elif text.startswith("@"):
        yield from _listed(Path(text[1:]), reading)
    elif path.is_dir():
        yield from _folder(path, reading)
    elif not path.exists() and glob.has_magic(text):
        found = [Path(name) for name in glob.iglob(text, recursive=True)]  # noqa: PTH207
        files = sorted((file for file in found if file.is_file()), key=natural_key)
        if not files:
            raise VideoError(f"{text}: no file matches this pattern")
        yield from _files(files, _folder_name(files[0].parent), path, reading)
    else:
        yield _video(path, reading)


# `os.path` and not `Path` in these three: it takes names that no file can have.
def _is_plain(text: str) -> bool:
    """Whether a text names a file as it stands."""
    return text[0] != "@" and not (glob.has_magic(text) and not os.path.exists(text))  # noqa: PTH110


def is_single(text: str) -> bool:
    """Whether a text names one input, and not a folder, a pattern or a list of them."""
    return _is_plain(text) and not os.path.isdir(text)  # noqa: PTH112


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not os.path.isdir(path)  # noqa: PTH112


def _folder_name(folder: Path) -> str:
    return folder.resolve().name or "pictures"


def _row(paths: list[Path], name: str, origin: Path, reading: Reading) -> Input:
    _refuse_drive(origin, reading)
    is_still = len(paths) == 1
    return Input(
        origin, lambda: ImageSource(paths, name, origin, reading.fps, is_still), is_row=True
    )


def _video(path: Path, reading: Reading) -> Input:
    _refuse_drive(path, reading)
    return Input(path, lambda: VideoReader(path))


def _refuse_drive(path: Path, reading: Reading) -> None:
    if reading.drive is not None:
        raise UsageError(f"{path}: --drive is for stores, this is none")


def _files(files: list[Path], name: str, origin: Path, reading: Reading) -> Iterator[Input]:
    """Pictures become one clip, each other file one of its own."""
    pictures = [file for file in files if _is_picture(file)]
    if pictures:
        yield _row(pictures, name, origin, reading)
    for file in files:
        if not _is_picture(file):
            yield _video(file, reading)


def _folder(path: Path, reading: Reading) -> Iterator[Input]:
    if is_store(path) or any(is_store(part) for part in path.iterdir() if part.is_dir()):
        store = resolve_store(path, "test")
        yield Input(path, lambda: DriveSource(store, reading.drive))
        return
    files = sorted((file for file in path.iterdir() if _is_media(file)), key=natural_key)
    num_pictures = sum(map(_is_picture, files))
    if not files:
        raise DataError(f"{path}: neither pictures nor videos nor a store are in this folder")
    if 0 < num_pictures < len(files):
        raise DataError(
            f"{path}: holds {num_pictures} pictures and {len(files) - num_pictures} videos; "
            f"choose by a pattern, such as '{path}/*{files[0].suffix}'"
        )
    yield from _files(files, _folder_name(path), path, reading)


def _is_media(file: Path) -> bool:
    known = file.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES
    return known and not file.name.startswith(".") and file.is_file()


def _listed(path: Path, reading: Reading) -> Iterator[Input]:
    """The files that a list names, one a line, relative to the list."""
    if not path.is_file():
        raise DataError(f"{path}: no such list of inputs (a file called @... is given as ./@...)")
    if path.stat().st_size > MAX_LIST_BYTES:
        raise DataError(f"{path}: {path.stat().st_size} bytes are no list of inputs")
    lines = (line.strip() for line in os.fsdecode(path.read_bytes()).splitlines())
    files = [path.parent / line for line in lines if line and not line.startswith("#")]
    if not files:
        raise DataError(f"{path}: the list names no input")
    yield from _files(files, path.stem, path, reading)
