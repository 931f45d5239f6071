"""Worker processes, one per core, that never outlive the process that started them.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar

import cv2

from unienc_core.errors import ResourceError

_CHECK_SECONDS = 0.2

ResultT = TypeVar("ResultT")


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
    """A pool of spawned processes, each with one OpenCV thread.

    They ignore Ctrl-C, which the parent handles, and end by themselves when the parent is killed.
    Leaving the context ends them at once: what they were writing lies aside and is never read.
    """

    def __init__(self, workers: int) -> None:
        self._executor = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_prepare_worker,
            initargs=(os.getpid(),),
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
                "a worker process was killed, perhaps for want of memory; use fewer workers. "
                "What is finished is kept: the same command goes on from there"
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


def make_pool(workers: int) -> InlinePool | ProcessPool:
    """Return a pool of `workers` processes; one worker means this process."""
    return InlinePool() if workers <= 1 else ProcessPool(workers)


def _prepare_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_CHECK_SECONDS)
    os._exit(1)
