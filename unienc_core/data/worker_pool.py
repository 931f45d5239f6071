"""Worker processes, one per core, that never outlive the process that started them.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import cv2

from unienc_core.errors import ResourceError

ResultT = TypeVar("ResultT")

_KEEP_FREED_MEMORY = ((-1, 1 << 30), (-3, 32 << 20))
"""Thresholds of the GNU C library (trim, mmap): pictures of one size come and go, and fresh pages
for each cost more time than all that is done with them."""


class Pool(Protocol):
    """Runs a function over jobs and yields (job number, result) as they finish."""

    def map(
        self, function: Callable[..., ResultT], jobs: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, ResultT]]:
        """Run `function(*job)` for each job."""
        ...


class InlinePool:
    """A pool of no process: jobs run here, in order."""

    def map(
        self, function: Callable[..., ResultT], jobs: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, ResultT]]:
        """Run `function(*job)` for each job."""
        for number, job in enumerate(jobs):
            yield number, function(*job)

    def __enter__(self) -> InlinePool:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


class ProcessPool:
    """A pool of processes, each with one OpenCV thread.

    They are forked off a server process that imports what they need once, and that never ran
    anything else, so that no thread or lock of this process is copied.

    They ignore Ctrl-C, which the parent handles, and end by themselves when the parent is killed.
    Leaving the context ends them at once: what they were writing lies aside and is never read.

    Args:
        workers: How many.
        preload: Modules that the server imports, unless it runs already.
        may_copy: Fork off this process instead, which takes no time, while it has one thread: for
            jobs that only read, since copies hold its open files, too.
    """

    def __init__(
        self, workers: int, preload: Sequence[str] = (), *, may_copy: bool = False
    ) -> None:
        copies = may_copy and sys.platform == "linux" and threading.active_count() == 1
        context = multiprocessing.get_context("fork" if copies else "forkserver")
        if copies:
            cv2.setNumThreads(1)  # a copy of OpenCV's threads would be waited for in vain
        else:
            context.set_forkserver_preload(["__main__", __name__, *preload])
        self._executor = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_prepare_worker
        )

    def map(
        self, function: Callable[..., ResultT], jobs: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, ResultT]]:
        """Run `function(*job)` for each job, in parallel.

        Raises:
            ResourceError: If a worker was killed, most likely for want of memory.
        """
        futures: dict[Future[ResultT], int] = {}
        try:
            for number, job in enumerate(jobs):
                futures[self._executor.submit(function, *job)] = number
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise ResourceError(
                "a worker process was killed, perhaps for want of memory; repeat the command with "
                "fewer workers"
            ) from None

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(self, *exception: object) -> None:
        processes = list((self._executor._processes or {}).values())
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def make_pool(
    workers: int, preload: Sequence[str] = (), *, may_copy: bool = False
) -> InlinePool | ProcessPool:
    """Return a pool of `workers` processes; one worker means this process."""
    return InlinePool() if workers <= 1 else ProcessPool(workers, preload, may_copy=may_copy)


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a copy has the handler of its parent
    cv2.setNumThreads(1)
    with suppress(OSError, AttributeError):  # another C library
        for parameter, value in _KEEP_FREED_MEMORY:
            ctypes.CDLL(None).mallopt(parameter, value)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Wait for the end of the process that started this one, and end this one at once."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in workers only
    parent.join()
    os._exit(1)
