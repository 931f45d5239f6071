"""Worker processes, one per core, that never outlive the process that started them.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar

import cv2

from unienc_core.errors import ResourceError

ResultT = TypeVar("ResultT")

_KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
}
"""Of the GNU C library: pictures of one size come and go, and fresh pages for each cost more time
than all that is done with them."""


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
        preload: See `start_server`.
    """

    def __init__(self, workers: int, preload: Sequence[str] = ()) -> None:
        start_server(preload)
        self._executor = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("forkserver"),
            initializer=_prepare_worker,
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


def make_pool(workers: int, preload: Sequence[str] = ()) -> InlinePool | ProcessPool:
    """Return a pool of `workers` processes; one worker means this process."""
    return InlinePool() if workers <= 1 else ProcessPool(workers, preload)


def start_server(preload: Sequence[str] = ()) -> None:
    """Start the process that workers are forked off, unless it runs already, and do not wait.

    Args:
        preload: Modules that it imports.
    """
    server = multiprocessing.forkserver
    server.set_forkserver_preload(["__main__", __name__, *preload])
    before = dict(os.environ)
    try:
        os.environ.update({**_KEEP_FREED_MEMORY, **before})
        server.ensure_running()
    finally:
        for name in _KEEP_FREED_MEMORY.keys() - before.keys():
            del os.environ[name]


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in workers only
    parent.join()
    os._exit(1)
