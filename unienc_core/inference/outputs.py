"""The outputs of one clip together: claimed, written aside, and published all at once."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from av.error import FFmpegError

from unienc_core.errors import ResourceError, UsageError
from unienc_core.files import fsync_path
from unienc_core.inference.results import FrameResult
from unienc_core.inference.sinks import Sink
from unienc_core.inference.sinks.base import check_ours, publish, remove

try:
    import fcntl
except ImportError:  # Windows: two processes on one output are not told apart there
    fcntl = None


class Outputs:
    """Some sinks as a context.

    Leaving it without an error publishes every output under its own name. After Ctrl-C the parts
    stay, complete as far as they go. After any other error nothing is left.

    Args:
        sinks: At least one.

    Attributes:
        num_frames: Frames written.

    Raises:
        UsageError: If another process writes the same outputs.
        ResourceError: A folder cannot be written, or the disk is full.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self.sinks = list(sinks)
        self.num_frames = 0
        self._locks: list[_Lock] = []

    @property
    def needs_picture(self) -> bool:
        """Whether any of them wants annotated pictures."""
        return any(sink.needs_picture for sink in self.sinks)

    def __enter__(self) -> Self:
        """Claim the place on the disk, so that an unwritable folder fails before any work."""
        try:
            for target in sorted(sink.target for sink in self.sinks):
                with writing(target):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    self._locks.append(_Lock(target))
        except BaseException:
            self._release()
            raise
        try:
            self._remove_leftovers()
            for sink in self.sinks:
                check_ours(sink.target)
                with writing(sink.target):
                    sink.open()
        except BaseException:
            self._give_up()
            raise
        return self

    def write(self, result: FrameResult) -> None:
        """Give a frame to every sink."""
        for sink in self.sinks:
            with writing(sink.target):
                sink.write(result)
        self.num_frames += 1

    def report(self) -> dict[str, Any]:
        """Return what the sinks have to say."""
        return {key: value for sink in self.sinks for key, value in sink.report().items()}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Publish all outputs, keep their parts, or remove them."""
        interrupted = kind is not None and not issubclass(kind, Exception)
        try:
            if kind is None:
                self._publish()
            elif interrupted:
                self._close()
        except BaseException:
            self._give_up()
            raise
        if kind is not None and (not interrupted or self.num_frames == 0):
            self._give_up()
        self._release()

    def _publish(self) -> None:
        self._close()
        finished: list[tuple[Path, Path]] = []
        for sink in self.sinks:
            with writing(sink.target):
                finished.append((sink.finish(), sink.target))
        for path, target in finished:
            with writing(target):
                publish(path, target)
        with writing(finished[0][1]):
            fsync_path(finished[0][1].parent)
        self._remove_leftovers()

    def _close(self) -> None:
        for sink in self.sinks:
            with writing(sink.target):
                sink.close()

    def _give_up(self) -> None:
        for sink in self.sinks:
            with suppress(Exception):  # after an error the end cannot be written either
                sink.close()
        with suppress(ResourceError):
            self._remove_leftovers()
        self._release()

    def _remove_leftovers(self) -> None:
        for sink in self.sinks:
            for path in sink.leftovers():
                with writing(sink.target):
                    remove(path)

    def _release(self) -> None:
        while self._locks:
            self._locks.pop().release()


class _Lock:
    """Keeps other processes off an output; ends with the process at the latest."""

    def __init__(self, target: Path) -> None:
        self._path = target.with_name(f".{target.name}.lock")
        while True:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                if fcntl is not None:
                    fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._descriptor)
                raise UsageError(f"{target}: another process is writing it") from None
            # Its last holder may have removed the file between our opening and locking it.
            with suppress(FileNotFoundError):
                if self._path.stat().st_ino == os.fstat(self._descriptor).st_ino:
                    return
            os.close(self._descriptor)

    def release(self) -> None:
        with suppress(OSError):
            self._path.unlink()
        os.close(self._descriptor)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn the errors of writing an output into one that says what to do.

    Raises:
        ResourceError: If it cannot be written, or the disk is full.
    """
    try:
        yield
    except (OSError, FFmpegError) as error:
        code = error.errno if isinstance(error, OSError) else errno.ENOSPC
        if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or _is_full(error):
            text = f"{target}: the disk is full; free space or write elsewhere with --out"
        else:
            why = getattr(error, "strerror", None) or str(error)
            text = f"{target}: cannot be written ({why}); write elsewhere with --out"
        raise ResourceError(text) from None


def _is_full(error: BaseException) -> bool:
    """Whether a library's own text says so: HDF5 gives no error number."""
    return any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EFBIG))
