"""Opening of video files and pipes by FFmpeg (PyAV), and what to say where it refuses."""

from __future__ import annotations

import os
import select
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from unienc_core.errors import UsageError, VideoError

_HEAD_BYTES = 4096
_POLL_SECONDS = 0.1


class PipeReader:
    """The bytes of a pipe, in order and once; a read that waits can be told to end.

    Args:
        descriptor: File descriptor to read; it is not closed.
        name: What to call it.
    """

    def __init__(self, descriptor: int, name: str = "stdin") -> None:
        self.name = name
        self.head = b""
        self._descriptor = descriptor
        self._stopped = threading.Event()
        self._interrupt: BaseException | None = None

    def read(self, size: int) -> bytes:
        """Read up to so many bytes; none at the end, or after `stop`."""
        try:
            while not self._stopped.is_set():
                # A thread in a plain read could not be ended; Windows cannot wait for pipes.
                if sys.platform == "win32" or self._is_ready():
                    data = os.read(self._descriptor, size)
                    self.head += data[: _HEAD_BYTES - len(self.head)]
                    return data
        except BaseException as error:  # FFmpeg, which calls this, would read on after Ctrl-C
            self._interrupt = error
            self.stop()
        return b""

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Raise what ended a read inside of FFmpeg, such as Ctrl-C, from out here."""
        try:
            yield
        finally:
            if self._interrupt is not None:
                raise self._interrupt

    def stop(self) -> None:
        """Let the reader see the end."""
        self._stopped.set()

    def _is_ready(self) -> bool:
        return bool(select.select([self._descriptor], [], [], _POLL_SECONDS)[0])


def open_stdin() -> PipeReader:
    """Return the standard input.

    Raises:
        UsageError: If it is a terminal, or closed.
    """
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        raise UsageError("'-' reads a video from a pipe, but stdin is closed") from None
    if stat.S_ISCHR(mode) and os.isatty(0):
        raise UsageError("'-' reads a video from a pipe, as in: cat a.mp4 | unienc infer-video -")
    return PipeReader(0)


def open_container(source: Path | PipeReader) -> Any:
    """Open a video file or a pipe.

    Raises:
        VideoError: Missing, not a video, or without its index.
    """
    if isinstance(source, PipeReader):
        try:
            return _refuse_text(av.open(source), source.name)
        except (FFmpegError, OSError, ValueError):
            raise VideoError(f"{source.name}: {why_unreadable(source.head, True)}") from None
    if not source.is_file():
        what = "is a folder, not a video" if source.is_dir() else "no such file"
        if source.exists() and not source.is_dir():
            what = "is no regular file; pipe it in with: cat ... | unienc infer-video -"
        raise VideoError(f"{source}: {what}")
    try:
        # An explicit protocol: neither the name nor a playlist inside can reach the network.
        container = av.open(
            f"file:{source.absolute()}", container_options={"protocol_whitelist": "file"}
        )
    except PermissionError:
        raise VideoError(f"{source}: cannot be read: permission denied") from None
    except (FFmpegError, OSError, ValueError):
        raise VideoError(f"{source}: {_why_file_unreadable(source)}") from None
    return _refuse_text(container, str(source))


def _refuse_text(container: Any, name: str) -> Any:
    if container.format.name == "tty":  # FFmpeg would film a text file
        container.close()
        raise VideoError(f"{name}: is text, not a video (a list of inputs is given as @{name})")
    return container


def _why_file_unreadable(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return why_unreadable(file.read(_HEAD_BYTES), False)
    except OSError as unreadable:
        return f"cannot be read: {unreadable.strerror}"


def why_unreadable(head: bytes, piped: bool) -> str:
    """Say what is wrong with a video that FFmpeg refuses, from its first bytes."""
    if not head:
        return "is empty (0 bytes)"
    if head[4:8] != b"ftyp":
        return "is not a video that can be decoded (mp4, mov, mkv, avi, ... expected)"
    if piped:
        return (
            "an mp4 whose index ('moov') does not stand in front cannot be read from a pipe; give "
            "the file itself, or move its index: ffmpeg -i IN -c copy -movflags +faststart OUT"
        )
    return (
        "an mp4 without a readable index ('moov'): the recording was cut before its end; "
        "repair it with a recovery tool and a whole file of the same camera"
    )
