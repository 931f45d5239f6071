"""Which frames of a numbered sequence belong together, for any gap and any holes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

LEAST_RUN = 3
"""Frames of the shortest run: a target with a source before and one after it."""


CUT_OVERLAP = 2
"""Frames that two pieces of a cut run share."""


def runs(numbers: Iterable[int], gap: int) -> list[list[int]]:
    """Cut a sequence into runs whose neighbours lie exactly `gap` apart.

    Frames `gap` apart have the same remainder, so the runs of the remainders share no frame, and
    every frame whose two neighbours at distance `gap` exist lies inside one: stored run by run,
    with a gap of 1, a sequence holds each frame once and each triplet once. Holes and sequences
    that were thinned already need no case of their own.

    Args:
        numbers: Frame numbers, in any order.
        gap: Frames between a target and each of its sources, at least 1.

    Returns:
        Runs of `LEAST_RUN` frames or more, ascending, by their first frame. Frames of no run are
        in no triplet.
    """
    by_remainder: dict[int, list[list[int]]] = {}
    for number in sorted(set(numbers)):
        rows = by_remainder.setdefault(number % gap, [])
        if rows and number - rows[-1][-1] == gap:
            rows[-1].append(number)
        else:
            rows.append([number])
    found = [row for rows in by_remainder.values() for row in rows if len(row) >= LEAST_RUN]
    return sorted(found)


def cut(run: Sequence[int], most: int) -> list[list[int]]:
    """Cut a run into pieces of at most `most` frames that lose no triplet.

    Each piece repeats the last `CUT_OVERLAP` frames of the one before it: a frame at a cut is a
    target on one side or the other, once.

    Args:
        run: Frames of a run.
        most: At least `LEAST_RUN`.
    """
    step = most - CUT_OVERLAP
    starts = range(0, max(len(run) - CUT_OVERLAP, 1), step)
    return [list(run[start : start + most]) for start in starts]
