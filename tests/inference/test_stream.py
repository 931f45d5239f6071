"""Threads that overlap: order, bounds, errors and a clean end."""

import threading
import time
from collections.abc import Iterator

import pytest

from unienc_core.inference import timing
from unienc_core.inference.stream import ahead, with_next
from unienc_core.inference.timing import StageClock


def settle(condition) -> bool:
    for _ in range(200):
        if condition():
            return True
        time.sleep(0.01)
    return condition()


def test_order_is_kept_through_nested_stages() -> None:
    doubled = (2 * i for i in ahead(range(100), 3))
    assert list(ahead(doubled, 2)) == [2 * i for i in range(100)]


def test_it_runs_in_another_thread_and_never_far_ahead() -> None:
    made: list[int] = []
    threads: set[int] = set()

    def source() -> Iterator[int]:
        for i in range(50):
            made.append(i)
            threads.add(threading.get_ident())
            yield i

    items = ahead(source(), 3)
    assert next(items) == 0
    assert settle(lambda: len(made) == 5)  # read, three waiting, one at the door
    time.sleep(0.05)
    assert len(made) == 5
    assert threading.get_ident() not in threads
    items.close()


def test_errors_arrive_after_the_items_before_them() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise KeyError("gone")

    items = ahead(ahead(source()))
    assert next(items) == 1
    with pytest.raises(KeyError, match="gone"):
        next(items)


def test_stopping_early_ends_every_thread_and_closes_the_source() -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            i = 0
            while True:
                yield (i := i + 1)
        finally:
            closed.set()

    before = threading.active_count()
    items = ahead((x for x in ahead(source(), 2)), 2)
    assert next(items) == 1
    assert threading.active_count() == before + 2
    items.close()
    assert settle(closed.is_set)
    assert settle(lambda: threading.active_count() == before)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_of_the_reader_stops_the_source(error) -> None:
    before = threading.active_count()

    def consume() -> None:
        items = ahead(iter(int, 1), 2)
        try:
            for _ in items:
                raise error
        finally:
            items.close()

    with pytest.raises(error):
        consume()
    assert threading.active_count() == before


def test_waiting_is_not_working(monkeypatch) -> None:
    """Decoding takes 1 s a frame, computing 3 s of which it waits 1 s for the frame."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    clock = StageClock()

    def decode() -> Iterator[int]:
        for i in range(4):
            now[0] += 1
            yield i

    def compute(frames: Iterator[int]) -> Iterator[int]:
        for i in frames:
            now[0] += 2
            yield i
        now[0] += 0.5

    frames = clock.working("decode", decode())
    results = clock.working("compute", compute(clock.waiting("compute", frames)))
    assert list(results) == [0, 1, 2, 3]
    now[0] += 12.5 - 5
    assert clock.report() == {
        "decode": {"seconds": 4.0, "share": 0.2},
        "compute": {"seconds": 8.5, "share": 0.425},
    }


@pytest.mark.parametrize(
    ("wait", "expected"),
    [(True, [(0, 1), (1, 2), (2, None)]), (False, [(0, None), (1, None), (2, None)])],
)
def test_each_item_comes_with_the_one_after_it(wait, expected) -> None:
    assert list(with_next(iter(range(3)), wait)) == expected
    assert list(with_next(iter([7]), wait)) == [(7, None)]
    assert list(with_next(iter([]), wait)) == []
    taken = iter(range(100))
    next(with_next(taken, wait))
    assert next(taken) == (2 if wait else 1)  # no further ahead than it must
