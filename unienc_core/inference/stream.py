"""Stages of a stream that overlap, with bounded queues between them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")

QUEUE_SIZE = 4
_POLL_SECONDS = 0.1


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Worker(threading.Thread, Generic[T]):
    """Runs an iterable and puts its items into a bounded queue, then None or a failure."""

    def __init__(self, items: Iterable[T], size: int) -> None:
        super().__init__(daemon=True)
        self.queue: queue.Queue[tuple[T] | _Failure | None] = queue.Queue(size)
        self._items = items
        self._stopped = threading.Event()

    def run(self) -> None:
        last: _Failure | None = None
        try:
            for item in self._items:
                if not self._put((item,)):
                    break
        except BaseException as error:  # handed on to whoever reads the queue
            last = _Failure(error)
        finally:
            if isinstance(self._items, Generator):
                self._items.close()  # here, in the thread that ran it
        self._put(last)

    def stop(self) -> None:
        """Let the thread end at its next item and wait for it."""
        self._stopped.set()
        self.join()

    def _put(self, item: tuple[T] | _Failure | None) -> bool:
        while not self._stopped.is_set():
            try:
                self.queue.put(item, timeout=_POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False


def ahead(items: Iterable[T], size: int = QUEUE_SIZE) -> Generator[T]:
    """Iterate `items` in a thread of its own, at most `size` of them ahead of the reader.

    Nested, these make a pipeline: ``for out in ahead(compute(ahead(decode)))`` decodes, computes
    and consumes at the same time in bounded memory. An exception of `items` is raised here; when
    the reader stops early (close the iterator), the thread has ended once `close` returns.

    Args:
        items: What to iterate; a generator is closed by the thread that ran it.
        size: Items that may wait.
    """
    worker = _Worker(items, size)
    worker.start()
    try:
        while (entry := worker.queue.get()) is not None:
            if isinstance(entry, _Failure):
                raise entry.error
            yield entry[0]
    finally:
        worker.stop()


def with_next(items: Iterable[T], wait: bool = True) -> Generator[tuple[T, T | None]]:
    """Iterate `items`, each with the one after it.

    Args:
        items: What to iterate.
        wait: Whether to hold each back until the next is there; if not, none has a next.

    Yields:
        Pairs; the last one's second is None.
    """
    if not wait:
        for item in items:
            yield item, None
        return
    held: list[T] = []
    for item in items:
        if held:
            yield held.pop(), item
        held.append(item)
    if held:
        yield held.pop(), None
