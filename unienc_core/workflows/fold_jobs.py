"""Folds spread over processes: each has its list of folds, and all stop and save as one would.

A process takes no other fold once it is told to stop. It is told in two ways, since each has its
moment: a message, and SIGTERM or SIGINT, which training notes, and else is read between folds. It
may get as many signals as there are senders (a terminal, a cluster, the parent).
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch

from unienc_core.contracts import Reporter
from unienc_core.data.worker_pool import end_with_parent
from unienc_core.device import resolve_device
from unienc_core.errors import Interrupted, ResourceError
from unienc_core.training.signals import StopFlag
from unienc_core.workflows.steering_fold import FoldRequest, run_fold
from unienc_core.workflows.training_data import spare_workers

_SECONDS = 1.0
"""From one reminder of those that shall stop to the next."""


@dataclass
class _Job:
    """A process with its folds."""

    process: SpawnProcess
    connection: Connection


def run_folds(
    request: FoldRequest, numbers: Sequence[int], jobs: int, reporter: Reporter
) -> list[dict[str, Any]]:
    """Do folds, several at a time, each as `run_fold` does.

    Args:
        request: What is to be done; its threads and loading processes are divided.
        numbers: Of the folds.
        jobs: Processes; of 1, this one.
        reporter: Told of progress.

    Returns:
        The result of each fold, in the order of `numbers`.

    Raises:
        Interrupted: After SIGTERM or SIGINT, with everything saved.
        ResourceError: If a process was killed.
        UniencError: What stopped a fold; the others are stopped then, and saved.
    """
    jobs = min(jobs, len(numbers))
    if jobs <= 1:
        return [run_fold(request, number, reporter) for number in numbers]
    results: dict[int, dict[str, Any]] = {}
    errors: list[BaseException] = []
    lists = [numbers[i::jobs] for i in range(jobs)]
    with _started(_shared_out(request, jobs), lists) as working, StopFlag() as stop:
        reminded = 0.0
        while working:
            for job in _heard(working):
                _hear(job, working, results, errors, reporter)
            if (stop.number or errors) and time.monotonic() - reminded > _SECONDS:
                _remind(working)
                reminded = time.monotonic()
    faults = [error for error in errors if not isinstance(error, Interrupted)]
    if faults and not stop.number:
        raise faults[0]
    for fault in faults:
        reporter.say(f"while stopping, a process failed: {fault}")
    if len(results) < len(numbers):
        raise Interrupted(_what_is_left(request.out, stop.number, len(results), len(numbers)))
    return [results[number] for number in numbers]


def _shared_out(request: FoldRequest, jobs: int) -> FoldRequest:
    """Divide the cores among processes."""
    options = request.options
    threads = max(1, (options.get("threads") or torch.get_num_threads()) // jobs)
    workers = options.get("workers")
    spare = spare_workers(resolve_device(options["device"]), jobs)
    workers = spare if workers is None else workers // jobs
    return replace(request, options={**options, "threads": threads, "workers": workers})


@contextmanager
def _started(request: FoldRequest, lists: Iterable[Sequence[int]]) -> Iterator[list[_Job]]:
    """Start a process for each list of folds; those still there at the end are killed."""
    context = multiprocessing.get_context("spawn")
    jobs: list[_Job] = []
    try:
        with _ignoring_ctrl_c():
            for numbers in lists:
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(request, numbers, theirs))
                process.start()
                theirs.close()
                jobs.append(_Job(process, ours))
        yield list(jobs)
    finally:
        for job in jobs:
            job.process.kill()
            job.process.join()


@contextmanager
def _ignoring_ctrl_c() -> Iterator[None]:
    """Have new processes ignore Ctrl-C, which would end them while they still import."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _heard(working: Sequence[_Job]) -> list[_Job]:
    """Wait a moment for what processes have to say, and return those that spoke or ended."""
    spoke = wait([job.connection for job in working], _SECONDS / 2)
    return [job for job in working if job.connection in spoke]


def _hear(
    job: _Job,
    working: list[_Job],
    results: dict[int, dict[str, Any]],
    errors: list[BaseException],
    reporter: Reporter,
) -> None:
    """Take in one message of a process, or its end."""
    kind: str
    value: Any
    try:
        kind, value = job.connection.recv()
    except (EOFError, OSError):
        text = "a process was killed, perhaps for want of memory; repeat the command with fewer"
        kind, value = "error", ResourceError(f"{text} --jobs")
    if kind == "progress":
        reporter.progress(value)
    elif kind == "say":
        reporter.say(value)
    elif kind == "result":
        results[value["fold"]] = value
    else:
        working.remove(job)
        if kind == "error":
            errors.append(value)


def _remind(working: Sequence[_Job]) -> None:
    for job in working:
        with suppress(OSError):  # it has ended by now
            job.connection.send("stop")
        job.process.terminate()


def _what_is_left(out: Path, number: int, done: int, count: int) -> str:
    by = f" by {signal.Signals(number).name}" if number else ""
    return f"stopped{by} after {done} of {count} folds; saved in {out}, the same command goes on"


def _work(request: FoldRequest, numbers: Sequence[int], connection: Connection) -> None:
    """Do folds one after another, in a process of its own, until told to stop."""
    told: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: told.append(number))
    threading.Thread(target=end_with_parent, daemon=True).start()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # as the command line does
    reporter = Reporter(
        progress=lambda progress: connection.send(("progress", progress)),
        say=lambda line: connection.send(("say", line)),
    )
    try:
        for number in numbers:
            if told or connection.poll():
                raise Interrupted("told to stop")
            connection.send(("result", run_fold(request, number, reporter)))
        connection.send(("done", None))
    except BaseException as error:
        with suppress(OSError):  # the parent is gone
            connection.send(("error", _portable(error)))
    os._exit(0)  # all is on the disk, and loading processes end with this one


def _portable(error: BaseException) -> BaseException:
    """Return an error that can be sent, with where it was raised as a note."""
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:
        copy = RuntimeError(f"{type(error).__name__}: {error}")
    copy.add_note("".join(traceback.format_exception(error)))
    return copy
