"""Depth metrics and protocols against hand-made numbers and an independent re-computation."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unienc_core.errors import DataError, UsageError
from unienc_core.metrics.depth import (
    KINDS,
    METRICS,
    MetricMean,
    depth_metrics,
    resize_disparity,
    score_pixels,
    to_depth,
)
from unienc_core.metrics.protocols import PROTOCOLS, choose

SYNTH, KITTI = PROTOCOLS["synth"], PROTOCOLS["kitti-eigen"]


def maps(seed: int, size: tuple[int, int] = (12, 17)) -> tuple[np.ndarray, np.ndarray]:
    """Ground truth with sky and far pixels, and a prediction off by noise and a factor."""
    rng = np.random.default_rng(seed)
    depth_gt = rng.uniform(0.2, 100, size)
    depth_gt[rng.random(size) < 0.3] = 0
    depth = rng.uniform(0.05, 0.2) * np.where(depth_gt > 0, depth_gt, 30)
    return depth_gt, depth * rng.lognormal(0, 0.3, size)


def by_hand(depth_gt, depth, low, high) -> dict[str, float]:
    """The metrics pixel by pixel in plain Python, median scaled and clamped."""
    pairs = [
        (float(g), float(p))
        for g, p in zip(depth_gt.ravel(), depth.ravel(), strict=True)
        if low < g < high
    ]

    def middle(values):
        ordered, n = sorted(values), len(values)
        return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2

    ratio = middle([g for g, _ in pairs]) / middle([p for _, p in pairs])
    pairs = [(g, min(max(p * ratio, low), high)) for g, p in pairs]
    n = len(pairs)
    values = [
        math.fsum(abs(g - p) / g for g, p in pairs) / n,
        math.fsum((g - p) ** 2 / g for g, p in pairs) / n,
        math.sqrt(math.fsum((g - p) ** 2 for g, p in pairs) / n),
        math.sqrt(math.fsum((math.log(g) - math.log(p)) ** 2 for g, p in pairs) / n),
    ]
    values += [sum(max(g / p, p / g) < 1.25**k for g, p in pairs) / n for k in (1, 2, 3)]
    return dict(zip(METRICS, values, strict=True))


def test_metrics_by_hand() -> None:
    found = depth_metrics(np.array([2.0, 4.0, 10.0, 8.0]), np.array([2.0, 5.0, 5.0, 8.8]))
    assert found["abs_rel"] == pytest.approx((0 + 1 / 4 + 5 / 10 + 0.8 / 8) / 4)
    assert found["sq_rel"] == pytest.approx((0 + 1 / 4 + 25 / 10 + 0.64 / 8) / 4)
    assert found["rmse"] == pytest.approx(math.sqrt((0 + 1 + 25 + 0.64) / 4))
    logs = (0, math.log(5 / 4), math.log(2), math.log(1.1))
    assert found["rmse_log"] == pytest.approx(math.sqrt(sum(x * x for x in logs) / 4))
    # 5/4 is not below 1.25: strict. The factor 2 lies between 1.25^3 = 1.953 and nothing.
    assert (found["a1"], found["a2"], found["a3"]) == (0.5, 0.75, 0.75)


def test_float32_inputs_are_accumulated_in_float64() -> None:
    depth_gt = np.full(1 << 20, 3.0, np.float32)
    depth = np.full(1 << 20, np.float32(3.1), np.float32)
    expected = (float(np.float32(3.1)) - 3.0) / 3.0
    assert depth_metrics(depth_gt, depth)["abs_rel"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_scoring_equals_an_independent_recomputation(seed: int) -> None:
    depth_gt, depth = maps(seed)
    scored = score_pixels(depth_gt, depth, SYNTH)
    assert scored is not None
    expected = by_hand(depth_gt, depth, 0.5, 80)
    assert scored.metrics() == pytest.approx(expected, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-4, 1e4))
def test_median_scaling_forgets_the_unit(seed: int, factor: float) -> None:
    depth_gt, depth = maps(seed)
    one = score_pixels(depth_gt, depth, SYNTH)
    other = score_pixels(depth_gt, factor * depth, SYNTH)
    assert one is not None
    assert other is not None
    assert other.factor * factor == pytest.approx(one.factor)
    assert other.metrics() == pytest.approx(one.metrics(), rel=1e-9)


def test_without_scaling_the_unit_matters() -> None:
    depth_gt, depth = maps(3)
    double = score_pixels(depth_gt, 2 * np.where(depth_gt > 0, depth_gt, 1), SYNTH, 1.0)
    assert double is not None
    assert double.metrics()["abs_rel"] > 0.5
    assert double.factor == 1.0
    assert score_pixels(depth_gt, depth, SYNTH, 1.0).metrics() != pytest.approx(
        score_pixels(depth_gt, depth, SYNTH).metrics()
    )


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda p: p.name)
@pytest.mark.parametrize("factor", [None, 1.0])
def test_perfect_prediction(protocol, factor) -> None:
    depth_gt, _ = maps(1, (37, 124))
    depth = to_depth(depth_gt, "depth", depth_gt.shape, "itself")  # holes (sky) are not scored
    found = score_pixels(depth_gt, depth, protocol, factor).metrics()
    assert found == dict(zip(METRICS, (0, 0, 0, 0, 1, 1, 1), strict=True))


def test_predictions_are_clamped_after_scaling() -> None:
    depth_gt = np.array([[10.0, 10.0, 10.0]])
    scored = score_pixels(depth_gt, np.array([[1e-3, 10.0, 900.0]]), SYNTH)
    assert scored.depth.tolist() == [0.5, 10.0, 80.0]


def test_subset_keeps_the_scale_of_the_image() -> None:
    depth_gt = np.array([[2.0, 4.0, 8.0, 0.0]])
    scored = score_pixels(depth_gt, np.array([[1.0, 2.0, 3.0, 1.0]]), SYNTH)
    far = np.array([[False, False, True, True]])
    assert scored.subset_metrics(far)["abs_rel"] == pytest.approx((8 - 6) / 8)
    assert scored.subset_metrics(np.array([[False, False, False, True]])) is None


def test_garg_crop_in_pixels() -> None:
    assert KITTI.window(375, 1242) == (slice(153, 371), slice(44, 1197))
    assert KITTI.window(370, 1226) == (slice(151, 366), slice(44, 1181))
    assert KITTI.window(376, 1241) == (slice(153, 372), slice(44, 1196))
    mask = KITTI.valid(np.full((375, 1242), 5.0))
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (153, 370, 44, 1196)
    assert mask.sum() == 218 * 1153


def test_valid_pixels_lie_strictly_between_the_limits() -> None:
    depth_gt = np.array([[0.0, -1.0, np.nan, np.inf, 0.5, 0.51, 79.9, 80.0]])
    assert SYNTH.valid(depth_gt).tolist() == [[False] * 5 + [True, True, False]]
    assert SYNTH.window(96, 320) == (slice(0, 96), slice(0, 320))


def test_image_without_a_valid_pixel_gives_nothing() -> None:
    assert score_pixels(np.zeros((4, 5)), np.ones((4, 5)), SYNTH) is None
    outside = np.zeros((375, 1242))
    outside[:100] = 5.0  # above the Garg crop
    assert score_pixels(outside, np.ones_like(outside), KITTI) is None


def test_mean_over_images_not_pixels() -> None:
    mean = MetricMean()
    assert mean.result() == dict.fromkeys(METRICS)
    mean.add(dict.fromkeys(METRICS, 1.0))
    mean.add(None)
    mean.add(dict.fromkeys(METRICS, 2.0))
    assert mean.num_images == 2
    assert mean.result() == dict.fromkeys(METRICS, 1.5)


def test_resize_is_bilinear_with_pixel_centres_at_integers() -> None:
    # c' = s (c + 0.5) - 0.5 with s = 2: 0 -> (-0.5, border), 1 -> 0.25 from 0, ...
    found = resize_disparity(np.array([[0.0, 1.0, 2.0]]), (1, 6))
    assert found.tolist() == [[0.0, 0.25, 0.75, 1.25, 1.75, 2.0]]
    assert found.dtype == np.float64


def test_depth_of_other_size_is_resized_as_disparity() -> None:
    depth = to_depth(np.array([[1.0, 4.0]]), "depth", (1, 4), "x")
    # Disparity 1, 1/4 -> 1, 13/16, 7/16, 1/4; the mean of depths would give 1.75 and 3.25.
    assert depth[0] == pytest.approx([1, 16 / 13, 16 / 7, 4])
    same = to_depth(np.array([[1.0, 0.25]]), "disparity", (1, 4), "x")
    assert same[0] == pytest.approx(depth[0])


def test_a_plane_survives_resizing() -> None:
    # Disparity of a plane is linear in the image, so that bilinear resizing is exact inside.
    u, v = np.meshgrid(np.arange(64), np.arange(24))
    full = 1 / (0.02 + 0.001 * u + 0.003 * v)
    coarse_u, coarse_v = np.meshgrid(2 * np.arange(32) + 0.5, 2 * np.arange(12) + 0.5)
    coarse = 1 / (0.02 + 0.001 * coarse_u + 0.003 * coarse_v)
    found = to_depth(coarse, "depth", full.shape, "plane")
    assert found[1:-1, 1:-1] == pytest.approx(full[1:-1, 1:-1], rel=1e-12)


@pytest.mark.parametrize("kind", ["depth", "disparity"])
@pytest.mark.parametrize(
    ("value", "word"), [(np.nan, "NaN"), (np.inf, "infinite"), (-1.0, "negative")]
)
def test_values_that_are_no_prediction(kind, value: float, word: str) -> None:
    values = np.ones((3, 4))
    values[1, 2] = value
    with pytest.raises(DataError, match=rf"some/file\.npy: 1 of 12 values are {word}"):
        to_depth(values, kind, (3, 4), "some/file.npy")


def test_holes_in_a_prediction() -> None:
    values = np.ones((3, 4))
    values[0, 0] = 0
    with pytest.raises(DataError, match="map.npy: 1 pixels without depth"):
        to_depth(values, "depth", (6, 8), "map.npy")
    depth = to_depth(values, "depth", (3, 4), "map.npy")
    depth_gt = np.full((3, 4), 5.0)
    with pytest.raises(DataError, match=r"map.npy: no depth \(0\) at 1 of 12"):
        score_pixels(depth_gt, depth, SYNTH, name="map.npy")
    depth_gt[0, 0] = 0
    assert score_pixels(depth_gt, depth, SYNTH, name="map.npy").metrics()["abs_rel"] == 0


def test_disparity_zero_is_infinitely_far() -> None:
    disparity = np.full((2, 4), 0.1)
    disparity[0, 0] = 0
    depth = to_depth(disparity, "disparity", (2, 4), "x")
    scored = score_pixels(np.full((2, 4), 10.0), depth, SYNTH, name="x")
    assert scored.depth.tolist() == pytest.approx([80] + [10] * 7)
    with pytest.raises(DataError, match="half of the scored pixels or more have disparity 0"):
        hidden = to_depth(np.zeros((2, 4)), "disparity", (2, 4), "x")
        score_pixels(np.full((2, 4), 10.0), hidden, SYNTH, name="x")


def test_unknown_names_get_the_nearest() -> None:
    assert choose("kitti-eigen", PROTOCOLS, "protocol") == "kitti-eigen"
    with pytest.raises(UsageError, match=r"no protocol 'kitti_eigen' \(did you mean 'kitti-eigen'"):
        choose("kitti_eigen", PROTOCOLS, "protocol")
    with pytest.raises(UsageError, match="no kind 'density'.*known: depth, disparity"):
        choose("density", KINDS, "kind")


@pytest.mark.data
@pytest.mark.parametrize("frame", range(3))
def test_kitti_eigen_equals_an_independent_implementation(real_data, frame: int) -> None:
    folder = real_data / "tiny_kitti/2011_09_26/2011_09_26_drive_0001_sync/image_02/depth"
    row, column, metres = np.load(folder / f"{frame:010d}.npy", allow_pickle=False).T
    depth_gt = np.zeros((375, 1242))
    depth_gt[row.astype(int), column.astype(int)] = metres
    rng = np.random.default_rng(frame)
    rough = rng.uniform(0.02, 1, (6, 20)).astype(np.float32)
    disparity = cv2.resize(rough, (640, 192), interpolation=cv2.INTER_CUBIC).clip(0.01)

    prediction = 1 / cv2.resize(disparity, (1242, 375))
    inside = [
        (metres_here, prediction[r, c])
        for r, c, metres_here in zip(row.astype(int), column.astype(int), metres, strict=True)
        if 153 <= r < 371 and 44 <= c < 1197 and depth_gt[r, c] == metres_here
    ]
    expected = by_hand(*np.array(inside, np.float64).T, 1e-3, 80)

    depth = to_depth(disparity, "disparity", (375, 1242), "x")
    scored = score_pixels(depth_gt, depth, KITTI)
    assert scored.depth_gt.size > 1000
    assert scored.metrics() == pytest.approx(expected, rel=1e-5)
