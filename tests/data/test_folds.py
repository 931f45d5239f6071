"""Folds: nothing that is tested on, or near to it, is trained on; checked frame by frame."""

import itertools

import fake_drives
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unienc_core.data.folds import Fold, Span, Take, block_folds, recording_folds, takes_of
from unienc_core.data.store import Store
from unienc_core.data.store_writer import StoreWriter
from unienc_core.errors import DataError, UsageError

FPS = 20.0


def takes(*recordings: list[int], cameras: int = 1, gap: float = 1.0) -> list[Take]:
    """Recordings cut into drives of these lengths, pauses between them, several cameras."""
    made = []
    for number, lengths in enumerate(recordings):
        for camera in range(cameras):
            start = 0.0
            for length in lengths:
                times = start + (np.arange(length) + 0.1 * camera) / FPS
                made.append(Take(f"recording {number}", times))
                start = times[-1] + gap
    return made


def frames(spans: tuple[Span, ...]) -> set[tuple[int, int]]:
    found = [(s.drive, i) for s in spans for i in range(s.start, s.stop)]
    assert len(found) == len(set(found))
    return set(found)


def least_distance(given: list[Take], a: set[tuple[int, int]], b: set[tuple[int, int]]) -> float:
    """Frames between the nearest two frames of a recording, one of each set; checks all pairs."""
    least = np.inf
    for name in {take.recording for take in given}:
        one, other = (
            np.array([given[d].times[i] for d, i in part if given[d].recording == name])
            for part in (a, b)
        )
        if one.size and other.size:
            least = min(least, np.abs(one[:, None] - other).min() * FPS)
    return least


def check_fold(given: list[Take], fold: Fold, border: int) -> None:
    train, validation, test = (frames(p) for p in (fold.train, fold.validation, fold.test))
    assert train and validation and test
    for a, b in itertools.combinations((train, validation, test), 2):
        assert not a & b
        assert least_distance(given, a, b) > (border + 0.3 if border else 0)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.integers(20, 400), min_size=1, max_size=3), min_size=2, max_size=5),
    st.integers(2, 4),
    st.sampled_from([0, 3, 15]),
    st.integers(1, 2),
)
def test_no_frame_is_near_one_of_another_part(recordings, folds, border, cameras):
    given_takes = takes(*recordings, cameras=cameras)
    everything = {(d, i) for d, take in enumerate(given_takes) for i in range(len(take.times))}
    for divide in (recording_folds, block_folds):
        try:
            made = divide(given_takes, folds, border=border)
        except (UsageError, DataError):
            continue
        tested = [frames(fold.test) for fold in made]
        assert sum(map(len, tested)) == len(everything) and set().union(*tested) == everything
        for fold in made:
            check_fold(given_takes, fold, border)


def test_the_check_itself_would_notice_an_overlap():
    given_takes = takes([400], [400])
    fold = block_folds(given_takes, 4)[1]
    check_fold(given_takes, fold, 15)
    first = fold.train[0]
    nearer = Fold((Span(first.drive, first.start, first.stop + 1), *fold.train[1:]), *_rest(fold))
    with pytest.raises(AssertionError):
        check_fold(given_takes, nearer, 15)


def _rest(fold: Fold) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    return fold.validation, fold.test


def test_blocks_and_their_borders_by_hand():
    fold = block_folds(takes([1000]), 4)[1]
    assert fold.test == (Span(0, 250, 500),)
    # 235 and 485 frames are left on the two sides; 5% of them, rounded up to 16s: 16 and 32.
    assert fold.validation == (
        Span(0, 0, 16),
        Span(0, 219, 235),
        Span(0, 515, 547),
        Span(0, 968, 1000),
    )
    assert fold.train == (Span(0, 31, 204), Span(0, 562, 953))


def test_whole_recordings_by_hand():
    made = recording_folds(takes([700], [300], [200, 200], [350]), 2, border=0)
    # 700 + 300 against 400 + 350: the longest first, each to the smaller fold.
    assert made[0].test == (Span(0, 0, 700), Span(1, 0, 300))
    assert made[1].test == (Span(2, 0, 200), Span(3, 0, 200), Span(4, 0, 350))
    # A recording of two drives has one beginning and one end: 20 frames, which makes 32.
    assert made[0].validation == (
        Span(2, 0, 32),
        Span(3, 168, 200),
        Span(4, 0, 32),
        Span(4, 318, 350),
    )
    assert made[0].train == (Span(2, 32, 200), Span(3, 0, 168), Span(4, 32, 318))


def test_short_recordings_validate_as_a_whole():
    fold = recording_folds(takes(*([25] for _ in range(45))), 10)[0]
    assert len(fold.test) == 5 and len(fold.train) == 36 and len(fold.validation) == 4
    assert all((span.start, span.stop) == (0, 25) for span in (*fold.train, *fold.validation))


def test_drives_too_short_for_two_ends_and_their_borders_still_train():
    """Of 75 frames, two ends of 16 and two borders of 15 would leave 13, fewer than a window."""
    for frames in (62, 75, 123):
        fold = recording_folds(takes(*([frames] for _ in range(15))), 10)[0]
        assert {span.stop - span.start for span in (*fold.train, *fold.validation)} == {frames}
    fold = recording_folds(takes(*([124] for _ in range(15))), 10)[0]
    assert {span.stop - span.start for span in fold.train} == {124 - 2 * (16 + 15)}


def test_a_lone_short_recording_validates_at_its_ends():
    for fold in block_folds(takes([200]), 2):
        assert [span.stop - span.start for span in fold.validation] == [16, 16]
        assert fold.train
    fold = recording_folds(takes([100], [100]), 2)[0]
    assert [(span.start, span.stop) for span in fold.train] == [(31, 69)]


def test_cameras_are_cut_at_the_same_times():
    given_takes = takes([600], [500], cameras=3)
    for fold in (*block_folds(given_takes, 3), *recording_folds(given_takes, 2)):
        check_fold(given_takes, fold, 15)
        for first in (0, 3):  # the cameras of a recording, a tenth of a frame apart
            parts = [
                [(s.start, s.stop) for s in fold.test if s.drive == first + n] for n in range(3)
            ]
            apart = np.abs(np.array(parts[0]) - np.array(parts[2]))
            assert not apart.size or apart.max() <= 1


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(UsageError, match="3 folds of whole recordings, of which there are 2"):
        recording_folds(takes([100], [100]), 3)
    with pytest.raises(UsageError, match="10 folds of 200 frames"):
        block_folds(takes([200]), 10)
    with pytest.raises(DataError, match="nothing to validate on"):
        recording_folds(takes([25], [25]), 2)


def test_drives_of_a_store_are_its_recordings(tmp_path):
    store = Store(fake_drives.write_fake_store(tmp_path / "store", count=2, num_frames=3))
    first, second = takes_of([store])
    assert first.recording == "fake/drive-0" != second.recording
    np.testing.assert_allclose(first.times, np.arange(3) / 17)


def test_drives_cut_from_one_recording_lie_on_its_clock(tmp_path):
    with StoreWriter(tmp_path / "store", fake_drives.spec()) as writer:
        for number, start in enumerate((0.0, 7.5)):
            attrs = {"recording": "town", "start": start}
            frames = [fake_drives.frame(number, i) for i in range(3)]
            writer.add_drive(f"town {number}", frames, attrs=attrs)
    first, second = takes_of([Store(tmp_path / "store")])
    assert first.recording == second.recording == "fake/town"
    np.testing.assert_allclose(second.times, 7.5 + np.arange(3) / 17)
