"""What a look through a clip finds: breaks, standing stretches, bars; and what is made of it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from moving_pictures import SIZE, noisy, slide

from unienc_core.data.clip_scan import ClipScanner, Window
from unienc_core.data.picture_motion import STANDING
from unienc_core.data.video_source import (
    KeptFrame,
    drive_frames,
    frames_per_drive,
    make_view,
    split_runs,
    stride_to,
    usual_gap,
)
from unienc_core.errors import UsageError
from unienc_core.geometry.camera import backproject

STEP = 0.04
K = np.array([[120.0, 0, 78.0], [0, 125.0, 50.0], [0, 0, 1]])


def scan(pictures, gap=2, times=None, after_gaps=()):
    scanner = ClipScanner(gap, STEP)
    for i, picture in enumerate(pictures):
        time = STEP * i if times is None else times[i]
        scanner.add(picture, time, after_gap=i in after_gaps)
    return scanner.result()


def test_a_drive_is_one_run():
    found = scan(slide(0, 20))
    assert found.runs(STANDING) == ([range(20)], 0)
    assert (found.num_cuts, found.num_gaps) == (0, 0)
    assert found.picture == Window(0, 0, SIZE[1], SIZE[0])


def test_runs_end_at_cuts_gaps_and_late_frames():
    times = [STEP * i for i in range(40)]
    times[30:] = [t + 1.0 for t in times[30:]]
    found = scan(slide(0, 15) + slide(1, 25), times=times, after_gaps={22})
    assert found.runs(STANDING)[0] == [range(15), range(15, 22), range(22, 30), range(30, 40)]
    assert (found.num_cuts, found.num_gaps) == (1, 2)


def test_times_that_vary_a_little_are_no_gap():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.5, 2.0, 20) * STEP)
    assert scan(slide(0, 20), times=list(times)).runs(STANDING)[0] == [range(20)]


def test_a_run_too_short_for_a_triplet_is_left_out():
    assert scan(slide(0, 4)).runs(STANDING)[0] == []
    assert scan(slide(0, 5)).runs(STANDING)[0] == [range(5)]


def test_a_standing_stretch_ends_a_run_and_is_counted():
    drive = slide(0, 40)
    stop = [noisy(drive[19], 2, i) for i in range(20)]
    found = scan(drive[:20] + stop + drive[20:])
    runs, standing = found.runs(STANDING)
    # Frame 19 stands already; the last ones before 38 have a source that moves.
    assert runs == [range(21), range(38, 60)]
    assert standing == 60 - 21 - 22
    assert found.runs(0.0) == ([range(60)], 0)


def test_a_moment_of_rest_is_no_stop():
    drive = slide(0, 30)
    runs, standing = scan(drive[:15] + [drive[14]] * 3 + drive[15:]).runs(STANDING)
    assert (runs, standing) == ([range(33)], 0)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (12, 0), (0, 20), (8, 10)])
def test_black_bars_are_found_to_the_pixel(top, left):
    pictures = slide(0, 12)
    for i, picture in enumerate(pictures):
        bars = noisy(np.full_like(picture, 8), 3, i)
        bars[top : SIZE[0] - top, left : SIZE[1] - left] = picture[
            top : SIZE[0] - top, left : SIZE[1] - left
        ]
        pictures[i] = bars
    edge = {0: 0}
    x, y = (edge.get(n, n + 2) for n in (left, top))  # two more px, which coding smears
    assert scan(pictures).picture == Window(x, y, SIZE[1] - x, SIZE[0] - y)


def test_a_night_without_bars_has_none():
    pictures = [(p * 0.1).astype(np.uint8) for p in slide(0, 12)]
    for picture in pictures:
        picture[40:44, 70:74] = 250
    assert scan(pictures).picture == Window(0, 0, SIZE[1], SIZE[0])


def test_gap_and_stride_come_near_the_papers_interval():
    assert [usual_gap(fps) for fps in (1.0, 10.0, 17.0, 25.0, 30.0, 60.0)] == [1, 1, 2, 3, 4, 7]
    assert [stride_to(fps, 25.0) for fps in (25.0, 30.0, 50.0, 60.0, 120.0)] == [1, 1, 2, 2, 5]


def rays_of(matrix, size):
    ones = torch.ones(1, 1, *size, dtype=torch.float64)
    return backproject(ones, torch.from_numpy(matrix)[None])[0]


def test_a_point_keeps_its_ray_through_bars_crop_and_size():
    """Shrunk by a whole number, the ray of a pixel is the mean of those that were averaged."""
    rays = rays_of(K, SIZE)[:, 6:60, 10:150]
    means = rays.unflatten(1, (27, 2)).unflatten(3, (70, 2)).mean((2, 4))
    stored = make_view(K, SIZE, Window(10, 6, 150, 90), (0, 0, 0, 36), (27, 70))
    assert stored.window == Window(10, 6, 150, 60)
    assert torch.allclose(rays_of(stored.K, (27, 70)), means, atol=1e-12)


def test_frames_are_cut_and_resized_as_the_view_says():
    view = make_view(K, SIZE, Window(0, 16, 160, 80), (20, 0, 20, 0), (32, 60))
    image = slide(0, 1)[0]
    frame = view.frame(image, 1.5)
    assert frame["image"].shape == (32, 60, 3)
    mean = image[16:80, 20:140].reshape(32, 2, 60, 2, 3).mean((1, 3))
    assert np.abs(frame["image"] - mean).max() <= 1
    assert frame["timestamp"] == 1.5


def test_the_usual_size_keeps_the_aspect_and_never_enlarges():
    whole = Window(0, 0, 1920, 1080)
    assert make_view(K, (1080, 1920), whole, (0, 0, 0, 0), None).image_size == (360, 640)
    assert make_view(K, SIZE, Window(0, 0, 160, 96), (0, 0, 0, 0), None).image_size == (96, 160)


def test_a_crop_that_leaves_nothing_is_refused():
    with pytest.raises(UsageError, match="leaves 16x160"):
        make_view(K, SIZE, Window(0, 0, 160, 96), (0, 40, 0, 40), None)


@settings(deadline=None, max_examples=50)
@given(
    lengths=st.lists(st.integers(7, 90), min_size=1, max_size=5),
    share=st.floats(0.05, 0.95),
    gap=st.integers(1, 3),
    longest=st.integers(8, 40),
)
def test_splits_share_frames_out_in_order_of_time(lengths, share, gap, longest):
    starts = np.cumsum([0, *lengths]) + np.arange(len(lengths) + 1)  # a frame is left out between
    runs = [range(a, a + n) for a, n in zip(starts, lengths, strict=False)]
    found = split_runs(runs, {"train": share, "val": 1 - share}, gap, longest)
    frames = {split: [i for run in rows for i in run] for split, rows in found.items()}
    assert all(2 * gap < len(run) <= longest for rows in found.values() for run in rows)
    together = frames["train"] + frames["val"]
    assert together == sorted(set(together))  # none twice, and all of train before val
    assert all(
        any(set(run) <= set(whole) for whole in runs) for rows in found.values() for run in rows
    )
    assert len(frames["train"]) <= round(share * sum(lengths))


def test_splits_keep_every_frame_where_nothing_is_too_short():
    found = split_runs([range(100), range(110, 210)], {"train": 0.75, "val": 0.25}, 1, 60)
    assert found["train"] == [range(50), range(50, 100), range(110, 160)]
    assert found["val"] == [range(160, 210)]


def test_long_drives_are_cut_so_that_a_shard_fits_in_memory():
    assert frames_per_drive((96, 320)) == 1000
    assert frames_per_drive((2160, 3840)) * 2160 * 3840 <= 256 << 20


def test_a_drive_takes_from_the_clip_no_more_than_it_needs():
    clip = iter([KeptFrame(i, p, i / 25, after_gap=False) for i, p in enumerate(slide(0, 12))])
    view = make_view(K, SIZE, Window(0, 0, 160, 96), (0, 0, 0, 0), None)
    times = [float(f["timestamp"]) for f in drive_frames(clip, range(2, 5), view)]
    assert times == [2 / 25, 3 / 25, 4 / 25]
    assert next(clip).number == 5
