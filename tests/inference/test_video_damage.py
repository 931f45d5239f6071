"""Damaged videos: what decodes is delivered in order, what does not is counted exactly."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from unienc_core.errors import VideoError
from unienc_core.inference.frames import MAX_GAPS, Losses
from unienc_core.inference.span import Span
from unienc_core.inference.video import VideoReader

FRAGMENTS = "frag_keyframe+empty_moov+default_base_moof"


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def read(path: Path):
    with VideoReader(path) as reader:
        return reader.info, list(reader), reader.losses


def test_a_cut_file_gives_what_decodes_and_counts_the_rest(make_video) -> None:
    info, frames, losses = read(cut(make_video(num=40), 0.5))
    assert info.num_frames == 40
    assert 10 < len(frames) < 30
    assert losses.is_cut
    assert losses.num_lost == 40 - len(frames)
    assert [(gap.before, gap.num_lost) for gap in losses.gaps] == [(len(frames), losses.num_lost)]


def test_a_cut_fragmented_file_is_known_to_be_cut(make_video) -> None:
    _, frames, losses = read(cut(make_video(num=40, flags=FRAGMENTS), 0.5))
    assert 10 < len(frames) < 30
    assert losses.is_cut


def test_a_hole_is_counted_and_decoding_goes_on(make_video) -> None:
    path = make_video(num=40)
    data = bytearray(path.read_bytes())
    start = data.find(b"mdat") + len(data) // 3
    data[start : start + 4000] = bytes(4000)
    path.write_bytes(data)
    _, frames, losses = read(path)
    assert losses.num_lost > 0
    assert len(frames) + losses.num_lost == 40
    assert sum(gap.num_lost for gap in losses.gaps) == losses.num_lost
    assert frames[-1].pts == 39 * 1001  # times after the hole are those of the file
    assert not losses.is_cut


def test_broken_bytes_are_reported_and_never_crash(make_video) -> None:
    path = make_video(num=20)
    whole, opened = path.read_bytes(), 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        data = bytearray(whole)
        end = len(data) if seed % 3 else 2000  # every third time the index in front is hit
        for place in rng.integers(0, end, rng.integers(1, 30)):
            data[place] = rng.integers(0, 256)
        path.write_bytes(data if seed % 5 else data[: rng.integers(1, len(data))])
        try:
            info, frames, losses = read(path)
        except VideoError:
            continue
        opened += 1
        times = [frame.pts for frame in frames]
        assert all(a < b for a, b in pairwise(times))
        assert all(frame.image.shape == (info.height, info.width, 3) for frame in frames)
        assert sum(gap.num_lost for gap in losses.gaps) == losses.num_lost
    assert 20 < opened < 60


@pytest.mark.parametrize("bf", [0, 3])
def test_damage_is_counted_to_the_frame(make_video, bf) -> None:
    """Decoders hand B-frames out late after damage: none is lost twice or delivered too late."""
    path = make_video(num=40, bf=bf)
    whole = path.read_bytes()
    start, num_hurt = whole.find(b"mdat") + 8, 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        data = bytearray(whole)
        place, length = int(rng.integers(start, len(data))), int(rng.integers(1, 5000))
        data[place : place + length] = rng.bytes(len(data[place : place + length]))
        path.write_bytes(data)
        try:
            _, frames, losses = read(path)
        except VideoError:
            continue
        num_hurt += losses.num_lost > 0
        assert len(frames) + losses.num_lost == 40
        assert sum(frame.num_lost for frame in frames) + _at_the_end(frames, losses) == (
            losses.num_lost
        )
        # Brightness tells the number of a frame: each stands at its own time.
        numbers = [frame.pts // 1001 for frame in frames if not frame.is_damaged]
        shown = [(frame.image.mean() - 54) / 2 for frame in frames if not frame.is_damaged]
        assert np.median(np.abs(np.array(shown) - numbers)) < 1
        assert numbers == sorted(numbers)
    assert num_hurt > 10


def _at_the_end(frames, losses) -> int:
    return sum(gap.num_lost for gap in losses.gaps if gap.before > frames[-1].index)


def test_a_frame_knows_of_the_gap_before_it(make_video) -> None:
    path = make_video(num=40)
    data = bytearray(path.read_bytes())
    start = data.find(b"mdat") + len(data) // 3
    data[start : start + 4000] = bytes(4000)
    path.write_bytes(data)
    _, frames, losses = read(path)
    (gap,) = losses.gaps
    after = [frame for frame in frames if frame.num_lost]
    assert [(frame.index, frame.num_lost) for frame in after] == [(gap.before, gap.num_lost)]
    assert gap.time == frames[gap.before - 1].time


def test_damage_outside_of_a_span_is_not_missed(make_video) -> None:
    path = make_video(num=60)
    data = bytearray(path.read_bytes())
    start = data.find(b"mdat") + len(data) // 6
    data[start : start + 4000] = bytes(4000)
    path.write_bytes(data)
    with VideoReader(path) as reader:
        frames = list(reader.frames(Span(start=Fraction(3, 2))))
        assert frames[0].pts == 36 * 1001
        assert not reader.losses.any
    with VideoReader(path) as reader:
        list(reader.frames(Span(stop=4)))
        assert not reader.losses.any
    assert read(path)[2].num_lost > 0


def test_a_check_finds_a_cut_without_decoding(make_video, monkeypatch) -> None:
    whole, short = make_video("a.mp4", num=40), cut(make_video("b.mp4", num=40), 0.5)
    fragments = cut(make_video("c.mp4", num=40, flags=FRAGMENTS), 0.5)
    found = []
    for path in (whole, short, fragments):
        with VideoReader(path) as reader:
            monkeypatch.setattr(reader, "_pictures", None)  # decoding would fail
            reader.check()
            found.append((reader.losses.is_cut, reader.losses.num_lost > 0))
    assert found == [(False, False), (True, True), (True, False)]


def test_countless_gaps_do_not_fill_the_memory() -> None:
    losses = Losses()
    for i in range(3 * MAX_GAPS):
        losses.add(2 * i, i / 25)
    assert losses.num_lost == 3 * MAX_GAPS
    assert len(losses.gaps) == MAX_GAPS
    losses = Losses()
    losses.add(5, 0.2)
    losses.add(5, 0.4, 3)
    assert [(g.before, g.time, g.num_lost) for g in losses.gaps] == [(5, 0.2, 4)]
