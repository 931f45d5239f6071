"""Folds for cross-testing on sequences: what is trained on, chosen by, and tested on.

Frames that lie next to each other in time look alike and have nearly the same label. So a fold is
made of whole recordings, or of whole blocks of them with frames left out at every border; all
cameras of a recording are cut at the same times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from unienc_core.data.steering import recording_of
from unienc_core.data.store import Store
from unienc_core.errors import DataError, UsageError

BORDER = 15
"""Frames left out of training at a border: as many as two windows of 16 frames can share."""

VALIDATION_SHARE = 0.05
"""Of each stretch, at its beginning and at its end (Lechner et al.)."""

CHUNK = 16
"""Validation parts are rounded up to so many frames."""

_SHORT_SHARE = 10

_TRAIN, _VALIDATION, _TEST, _LEFT_OUT = range(4)


@dataclass(frozen=True)
class Take:
    """A drive as folds see it: consecutive frames of one camera.

    Attributes:
        recording: What it was cut from; takes of one recording lie on one clock.
        times: Of its frames, s, ascending.
    """

    recording: str
    times: np.ndarray


@dataclass(frozen=True)
class Span:
    """Frames of one drive that lie together.

    Attributes:
        drive: Number of the drive among those of all stores, in order.
        start: First frame.
        stop: The frame after the last one.
    """

    drive: int
    start: int
    stop: int


@dataclass(frozen=True)
class Fold:
    """A division of all frames; those at borders belong to no part.

    Attributes:
        train: What is learnt from.
        validation: What decides which weights are kept.
        test: What is scored.
    """

    train: tuple[Span, ...]
    validation: tuple[Span, ...]
    test: tuple[Span, ...]


def takes_of(stores: Sequence[Store]) -> list[Take]:
    """Return the drives of stores, in order; the same name of a source is the same recording."""
    takes: list[Take] = []
    for store in stores:
        for number, drive in enumerate(store.drives):
            name, start = recording_of(drive)
            times = np.arange(drive.num_frames) / store.fps
            if "timestamp" in store.keys:
                times = store.column(number, "timestamp")
            takes.append(Take(f"{store.manifest['source']}/{name}", start + times))
    return takes


def recording_folds(takes: Sequence[Take], folds: int, *, border: int = BORDER) -> list[Fold]:
    """Divide whole recordings into folds of about equally many frames.

    The longest recording goes first, each to the fold that is the smallest so far.

    Args:
        takes: All drives.
        folds: How many.
        border: Frames left out between training and validation.

    Raises:
        UsageError: If there are fewer recordings than folds.
        DataError: If a fold has nothing to train or to validate on.
    """
    sizes: dict[str, int] = {}
    for take in takes:
        sizes[take.recording] = sizes.get(take.recording, 0) + len(take.times)
    if not 2 <= folds <= len(sizes):
        raise UsageError(
            f"{folds} folds of whole recordings, of which there are {len(sizes)}; choose 2 to "
            f"{len(sizes)} folds, or folds of blocks"
        )
    filled, home = [0] * folds, dict[str, int]()
    for recording in sorted(sizes, key=lambda name: -sizes[name]):
        smallest = min(range(folds), key=lambda k: filled[k])
        home[recording] = smallest
        filled[smallest] += sizes[recording]
    tested = [
        [np.full(len(take.times), home[take.recording] == k) for take in takes]
        for k in range(folds)
    ]
    return [_fold(takes, mask, border) for mask in tested]


def block_folds(takes: Sequence[Take], folds: int, *, border: int = BORDER) -> list[Fold]:
    """Divide all recordings, one after another, into blocks of equally many frames, one a fold.

    Args:
        takes: All drives.
        folds: How many.
        border: Frames left out between training, validation and test.

    Raises:
        UsageError: If the blocks would be too short to test on.
        DataError: If a fold has nothing to train or to validate on.
    """
    clocks = {name: _clock(group) for name, group in _recordings(takes).items()}
    total = sum(len(clock) for clock in clocks.values())
    if folds < 2 or total // folds < CHUNK + border:
        raise UsageError(
            f"{folds} folds of {total} frames; choose at least 2, and so few that each has "
            f"{CHUNK + border} frames"
        )
    ends = [round(k * total / folds) for k in range(folds + 1)]
    made: list[Fold] = []
    for first, last in zip(ends, ends[1:], strict=False):
        begin = 0
        parts: dict[str, tuple[float, float]] = {}
        for name, clock in clocks.items():
            low, high = max(first - begin, 0), min(last - begin, len(clock))
            if low < high:
                after = clock[high] if high < len(clock) else np.inf
                parts[name] = (clock[low] if low else -np.inf, after)
            begin += len(clock)
        mask = [_within(take.times, parts.get(take.recording, (0.0, 0.0))) for take in takes]
        made.append(_fold(takes, mask, border))
    return made


def _fold(takes: Sequence[Take], tested: Sequence[np.ndarray], border: int) -> Fold:
    """Make a fold of what is tested: leave out its borders, then divide what remains."""
    roles = [np.where(mask, _TEST, _TRAIN) for mask in tested]
    _leave_out(takes, roles, _TEST, border)
    _choose_validation(takes, roles, border)
    _leave_out(takes, roles, _VALIDATION, border)
    fold = Fold(*(_spans(roles, role) for role in (_TRAIN, _VALIDATION, _TEST)))
    if not (fold.train and fold.validation):
        lacks = "validate" if fold.train else "train"
        raise DataError(
            f"a fold has nothing to {lacks} on: what it does not test is too short; use longer or "
            "more recordings, or other folds"
        )
    return fold


def _choose_validation(takes: Sequence[Take], roles: Sequence[np.ndarray], border: int) -> None:
    """Take both ends of every stretch; of stretches too short for that, every tenth as a whole.

    Too short is what its borders would leave next to nothing of, unless there is nothing else.
    """
    short: list[tuple[str, float, float]] = []
    ends: list[tuple[str, float, float]] = []
    chosen: list[tuple[str, float, float]] = []
    for name, numbers in _numbers(takes).items():
        for stretch in _stretches([takes[n] for n in numbers], [roles[n] for n in numbers]):
            size = CHUNK * -(-int(np.ceil(VALIDATION_SHARE * len(stretch))) // CHUNK)
            if 4 * size <= len(stretch):
                ends = [
                    (name, stretch[0], stretch[size - 1]),
                    (name, stretch[-size], stretch[-1]),
                ]
            if 4 * (size + border) <= len(stretch):
                chosen += ends
            else:
                short.append((name, stretch[0], stretch[-1]))
    if len(short) == 1 and not chosen:
        chosen = ends
    count = -(-len(short) // _SHORT_SHARE) if len(short) > 1 else 0
    chosen += [short[int((i + 0.5) * len(short) / count)] for i in range(count)]
    for name, first, last in chosen:
        for take, role in zip(takes, roles, strict=True):
            if take.recording == name:
                inside = (take.times >= first) & (take.times <= last)
                role[inside & (role == _TRAIN)] = _VALIDATION


def _stretches(takes: Sequence[Take], roles: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the times of one recording's training frames, cut where frames are tested."""
    pairs = list(zip(takes, roles, strict=True))
    tested = np.sort(np.concatenate([take.times[role == _TEST] for take, role in pairs]))
    parts = [Take(take.recording, take.times[role == _TRAIN]) for take, role in pairs]
    clock = _clock([part for part in parts if part.times.size])
    passed = np.searchsorted(tested, clock)
    for _, group in groupby(range(len(clock)), key=lambda i: passed[i]):
        yield clock[list(group)]


def _leave_out(takes: Sequence[Take], roles: Sequence[np.ndarray], kept: int, border: int) -> None:
    """Leave out of training what lies within `border` frames of a part, on any camera."""
    if not border:
        return
    for numbers in _numbers(takes).values():
        times = [takes[n].times[roles[n] == kept] for n in numbers]
        near = np.sort(np.concatenate(times))
        if not near.size:
            continue
        for n in numbers:
            close = _distance(takes[n].times, near) < (border + 0.5) * _interval(takes[n].times)
            close |= _widened(roles[n] == kept, border)
            roles[n][close & (roles[n] == _TRAIN)] = _LEFT_OUT


def _distance(times: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Return how far each time is from the nearest of some ascending ones."""
    padded = np.concatenate(([-np.inf], near, [np.inf]))
    place = np.searchsorted(near, times)
    return np.minimum(times - padded[place], padded[place + 1] - times)


def _widened(mask: np.ndarray, by: int) -> np.ndarray:
    """Return which places lie within `by` places of a true one."""
    return np.convolve(mask, np.ones(2 * by + 1), "full")[by : by + len(mask)] > 0.5


def _interval(times: np.ndarray) -> float:
    return float(np.median(np.diff(times))) if len(times) > 1 else 0.0


def _within(times: np.ndarray, part: tuple[float, float]) -> np.ndarray:
    return (times >= part[0]) & (times < part[1])


def _clock(takes: Sequence[Take]) -> np.ndarray:
    """Return the times of a recording: of takes side by side, those of the first."""
    kept: list[np.ndarray] = []
    for take in sorted(takes, key=lambda t: t.times[0]):
        if not kept or take.times[0] > kept[-1][-1]:
            kept.append(take.times)
    return np.concatenate(kept) if kept else np.empty(0)


def _recordings(takes: Sequence[Take]) -> dict[str, list[Take]]:
    return {name: [takes[n] for n in numbers] for name, numbers in _numbers(takes).items()}


def _numbers(takes: Sequence[Take]) -> dict[str, list[int]]:
    """Return the numbers of the takes of every recording, in order of first appearance."""
    numbers: dict[str, list[int]] = {}
    for number, take in enumerate(takes):
        numbers.setdefault(take.recording, []).append(number)
    return numbers


def _spans(roles: Sequence[np.ndarray], role: int) -> tuple[Span, ...]:
    found: list[Span] = []
    for drive, each in enumerate(roles):
        edges = np.flatnonzero(np.diff(np.concatenate(([False], each == role, [False]))))
        found += [Span(drive, int(a), int(b)) for a, b in edges.reshape(-1, 2)]
    return tuple(found)
