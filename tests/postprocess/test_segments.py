"""Post-processing: every rule on logits made by hand, and all of them against a slow oracle."""

import math

import numpy as np
import pytest
import slow_segments
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from unienc_core.postprocess import segments
from unienc_core.postprocess.segments import (
    PanopticSegment,
    find_instances,
    panoptic_map,
    semantic_map,
)

ROAD, SKY, CAR, PERSON = range(4)
THINGS = (CAR, PERSON)
SIZE = (8, 12)


def classes(*rows: dict[int, float]) -> Tensor:
    """Logits of queries that give the probabilities named; the rest is spread evenly."""
    logits = torch.empty(len(rows), 5, dtype=torch.float64)
    for query, named in enumerate(rows):
        rest = (1 - sum(named.values())) / (5 - len(named))
        values = [named.get(c, rest) for c in range(5)]
        logits[query] = torch.tensor(values, dtype=torch.float64).log()
    return logits


def mask(*boxes: tuple[slice, slice], inside: float = 0.99, outside: float = 0.01) -> Tensor:
    made = torch.full(SIZE, outside, dtype=torch.float64)
    for box in boxes:
        made[box] = inside
    return torch.logit(made)


def masks(*made: Tensor) -> Tensor:
    return torch.stack(made)


LEFT, RIGHT, ALL = np.s_[:, :6], np.s_[:, 6:], np.s_[:, :]
TOP, BOTTOM = np.s_[:4], np.s_[4:]


def panoptic(class_logits: Tensor, mask_logits: Tensor, **thresholds):
    return panoptic_map(class_logits, mask_logits, SIZE, SIZE, THINGS, **thresholds)


def test_semantic_sums_queries_and_knows_no_void() -> None:
    """Two half-sure queries outweigh a surer one; "no object" and far pixels get a class."""
    found = semantic_map(
        classes({ROAD: 0.4}, {ROAD: 0.4}, {CAR: 0.6}, {4: 0.97}),
        masks(mask(LEFT), mask(LEFT), mask(ALL), mask(RIGHT)),
        SIZE,
        SIZE,
    )
    assert (found[LEFT] == ROAD).all()
    assert (found[RIGHT] == CAR).all()
    nothing = semantic_map(classes({4: 0.9, SKY: 0.05}), masks(mask()), SIZE, SIZE)
    assert (nothing == SKY).all()


def test_panoptic_gives_each_region_its_segment() -> None:
    ids, found = panoptic(
        classes({ROAD: 0.9}, {CAR: 0.95}, {4: 0.99}), masks(mask(LEFT), mask(RIGHT), mask(ALL))
    )
    assert ids.dtype == torch.int32
    assert (ids[LEFT] == 1).all()
    assert (ids[RIGHT] == 2).all()
    assert found == (PanopticSegment(1, ROAD, 48), PanopticSegment(2, CAR, 48))


def test_fused_stuff_leaves_ids_unique() -> None:
    """Road, car, road, car: another implementation calls them 1, 2, 1, 2."""
    quarters = [np.s_[:, 3 * i : 3 * i + 3] for i in range(4)]
    ids, found = panoptic(
        classes({ROAD: 0.9}, {CAR: 0.9}, {ROAD: 0.9}, {CAR: 0.9}), masks(*map(mask, quarters))
    )
    assert [int(ids[quarter].unique()) for quarter in quarters] == [1, 2, 1, 3]
    assert found == (
        PanopticSegment(1, ROAD, 48), PanopticSegment(2, CAR, 24), PanopticSegment(3, CAR, 24)
    )  # fmt: skip


def test_things_of_a_class_stay_apart_and_stuff_needs_no_list() -> None:
    ids, found = panoptic(
        classes({PERSON: 0.9}, {PERSON: 0.9}, {SKY: 0.9}, {SKY: 0.9}),
        masks(mask(np.s_[:4, :6]), mask(np.s_[:4, 6:]), mask(np.s_[4:, :6]), mask(np.s_[4:, 6:])),
    )
    assert [segment.label for segment in found] == [PERSON, PERSON, SKY]
    assert (ids[BOTTOM] == 3).all()


def test_area_is_of_the_mask_s_own_probability() -> None:
    """Class 0.82 times mask 0.6 is below a half: another implementation keeps nothing."""
    ids, found = panoptic(classes({CAR: 0.82}), masks(mask(LEFT, inside=0.6)))
    assert found == (PanopticSegment(1, CAR, 48),)
    assert (ids[LEFT] == 1).all()
    assert (ids[RIGHT] == 0).all()


def test_what_a_query_owns_outside_its_mask_is_void() -> None:
    """The only query owns every pixel: another implementation paints them all."""
    ids, found = panoptic(classes({CAR: 0.9}), masks(mask(LEFT, outside=0.49)))
    assert (ids[RIGHT] == 0).all()
    assert found == (PanopticSegment(1, CAR, 48),)


@pytest.mark.parametrize(("probability", "kept"), [(0.79, False), (0.8, False), (0.81, True)])
def test_the_class_must_exceed_its_threshold(probability, kept) -> None:
    ids, found = panoptic(classes({CAR: probability}), masks(mask(LEFT)))
    assert bool(found) is kept
    assert bool(ids.any()) is kept
    assert panoptic(classes({CAR: probability}), masks(mask(LEFT)), object_threshold=0.5)[1]


def test_a_query_below_the_threshold_owns_nothing() -> None:
    """It would take the left half from the road; "no object" neither, however sure."""
    ids, _ = panoptic(
        classes({ROAD: 0.9}, {CAR: 0.79}, {4: 0.999}),
        masks(mask(ALL, inside=0.6), mask(LEFT, inside=0.999), mask(RIGHT, inside=0.999)),
    )
    assert (ids == 1).all()


@pytest.mark.parametrize(("columns", "kept"), [(2, True), (3, False)])
def test_a_segment_must_keep_most_of_its_mask(columns, kept) -> None:
    """A car over the road's mask of 12 columns: at least 0.8 of them must be left to the road."""
    ids, found = panoptic(
        classes({ROAD: 0.9}, {CAR: 0.99}),
        masks(mask(ALL, inside=0.7), mask(np.s_[:, :columns], inside=0.99)),
    )
    assert [segment.label for segment in found] == ([ROAD, CAR] if kept else [CAR])
    rest = ids[:, columns:]
    assert (rest == 1).all() if kept else (rest == 0).all()  # void, not the car's
    assert panoptic(
        classes({ROAD: 0.9}, {CAR: 0.99}),
        masks(mask(ALL, inside=0.7), mask(np.s_[:, :columns], inside=0.99)),
        overlap_threshold=0.5,
    )[1][0].label == ROAD  # fmt: skip


def test_exactly_the_overlap_threshold_is_enough() -> None:
    sizes = (4, 5)  # 16 of 20 pixels are left
    road = torch.full(sizes, 2.0, dtype=torch.float64)
    car = torch.full(sizes, -5.0, dtype=torch.float64)
    car[:, 0] = 9.0
    logits = classes({ROAD: 0.9}, {CAR: 0.95})
    _, found = panoptic_map(logits, masks(road, car), sizes, sizes, THINGS)
    assert [segment.label for segment in found] == [ROAD, CAR]


def test_what_is_owned_beyond_the_mask_counts_for_the_overlap() -> None:
    """The reference divides all that a query owns by its mask, the part outside included."""
    weak = mask(np.s_[:, :2], inside=0.6, outside=0.4)  # 16 px, of which 8 go to the car
    strong = mask(np.s_[:, :1], inside=0.99)
    ids, found = panoptic(classes({ROAD: 0.9}, {CAR: 0.99}), masks(weak, strong))
    assert [segment.label for segment in found] == [ROAD, CAR]
    assert found[0].area == 8
    assert (ids[:, 2:] == 0).all()


def test_a_query_that_wins_nowhere_and_one_without_a_mask_give_nothing() -> None:
    _, found = panoptic(
        classes({CAR: 0.99}, {CAR: 0.81}, {SKY: 0.99}),
        masks(mask(LEFT, inside=0.999), mask(LEFT, inside=0.9), mask(inside=0.4, outside=0.4)),
    )
    assert found == (PanopticSegment(1, CAR, 48),)


def test_nothing_found_is_void_everywhere() -> None:
    """Another implementation fills such a map with -1."""
    ids, found = panoptic(classes({4: 0.99}, {CAR: 0.5}), masks(mask(ALL), mask(ALL)))
    assert found == ()
    assert ids.shape == SIZE
    assert ids.dtype == torch.int32
    assert (ids == 0).all()


def test_the_score_of_an_instance_is_class_times_mean_of_its_mask() -> None:
    logits = masks(mask(LEFT, inside=0.7, outside=0.3))
    (found,) = find_instances(classes({CAR: 0.9}), logits, SIZE, SIZE, [CAR])
    assert found.label == CAR
    assert found.score == pytest.approx(0.9 * 0.7, rel=1e-6)
    expected = torch.zeros(SIZE, dtype=torch.bool)
    expected[LEFT] = True
    assert torch.equal(found.mask, expected)


def test_instances_overlap_and_are_ranked() -> None:
    """Another implementation paints them beside each other, and drops the lesser."""
    found = find_instances(
        classes({CAR: 0.6}, {CAR: 0.9}), masks(mask(ALL), mask(LEFT)), SIZE, SIZE, [CAR]
    )
    assert [round(one.score, 3) for one in found] == [0.891, 0.594]
    assert [int(one.mask.sum()) for one in found] == [48, 96]


def test_one_query_may_be_two_things_and_stuff_is_none() -> None:
    found = find_instances(
        classes({CAR: 0.5, PERSON: 0.4}, {ROAD: 0.98}),
        masks(mask(LEFT), mask(RIGHT)),
        SIZE,
        SIZE,
        THINGS,
        top_k=3,
    )
    assert [one.label for one in found] == [CAR, PERSON]
    assert found[0].mask.data_ptr() == found[1].mask.data_ptr()


def test_things_are_chosen_after_the_likeliest_pairs() -> None:
    logits = classes({ROAD: 0.98}, {CAR: 0.5})
    both = masks(mask(LEFT), mask(RIGHT))
    assert find_instances(logits, both, SIZE, SIZE, THINGS, top_k=1) == []
    (car,) = find_instances(logits, both, SIZE, SIZE, THINGS, top_k=2)
    assert car.label == CAR


def test_no_object_neither_counts_nor_is_renormalised() -> None:
    (found,) = find_instances(
        classes({4: 0.7, CAR: 0.3 - 3e-9}), masks(mask(ALL)), SIZE, SIZE, [CAR]
    )
    assert found.score == pytest.approx(0.3 * 0.99, rel=1e-6)


def test_instances_for_people_have_probable_classes_and_masks() -> None:
    logits = classes({CAR: 0.9}, {CAR: 0.7}, {CAR: 0.95})
    all_three = masks(mask(LEFT, inside=0.51), mask(RIGHT), mask())
    found = find_instances(logits, all_three, SIZE, SIZE, [CAR], object_threshold=0.8)
    assert [one.score for one in found] == [pytest.approx(0.9 * 0.51, rel=1e-6)]


def test_masks_are_resized_as_logits_in_two_steps(monkeypatch) -> None:
    logits = 3 * torch.randn(5, 6, 8, generator=torch.Generator().manual_seed(0))
    for size in ((31, 50), (11, 9), (24, 32)):
        expected = functional.interpolate(logits[None], (24, 32), mode="bilinear")
        expected = functional.interpolate(expected, size, mode="bilinear")[0]
        for most in (1, 2000, 1 << 23):  # a row at a time, some, all
            monkeypatch.setattr(segments, "_BAND_VALUES", most)
            bands = list(segments._bands(logits, (24, 32), size))
            assert [rows.start for rows, _ in bands] == [0, *(rows.stop for rows, _ in bands)][:-1]
            torch.testing.assert_close(torch.cat([band for _, band in bands], 1), expected)


def test_memory_does_not_grow_with_the_queries(monkeypatch) -> None:
    """No map of all queries at the size of the picture is ever made, but masks of instances."""
    largest = []
    bands = segments._bands

    def watched(*args):
        for rows, band in bands(*args):
            largest.append(band.numel())
            yield rows, band

    monkeypatch.setattr(segments, "_bands", watched)
    monkeypatch.setattr(segments, "_BAND_VALUES", 40_000)
    logits, masks_ = torch.randn(150, 5), torch.randn(150, 8, 16)
    semantic_map(logits, masks_, (32, 64), (128, 256))
    panoptic_map(logits, masks_, (32, 64), (128, 256), THINGS, object_threshold=0.0)
    find_instances(logits, masks_, (32, 64), (128, 256), THINGS)
    assert max(largest) <= 40_000


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    queries=st.integers(1, 7),
    sharp=st.sampled_from([1.0, 3.0, 8.0]),
    thresholds=st.sampled_from([(0.8, 0.8), (0.3, 0.5), (0.0, 0.0)]),
    size=st.sampled_from([(9, 13), (6, 5)]),
)
def test_equal_to_the_slow_rules(seed, queries, sharp, thresholds, size) -> None:
    rng = np.random.default_rng(seed)
    logits = sharp * rng.standard_normal((queries, 5))
    small = sharp * rng.standard_normal((queries, 3, 4))
    both, sizes = (torch.from_numpy(logits), torch.from_numpy(small)), ((6, 8), size)
    expected = slow_segments.semantic(logits, small, *sizes)
    np.testing.assert_array_equal(semantic_map(*both, *sizes), expected)

    object_threshold, overlap_threshold = thresholds
    ids, found = panoptic_map(
        *both, *sizes, THINGS,
        object_threshold=object_threshold, overlap_threshold=overlap_threshold,
    )  # fmt: skip
    slow_ids, slow_found = slow_segments.panoptic(logits, small, *sizes, THINGS, *thresholds)
    np.testing.assert_array_equal(ids, slow_ids)
    assert {one.id: one.label for one in found} == slow_found
    assert [one.area for one in found] == [int((slow_ids == one.id).sum()) for one in found]

    top_k = 6
    objects = find_instances(*both, *sizes, THINGS, top_k=top_k)
    slow_objects = slow_segments.instances(logits, small, *sizes, THINGS, top_k)
    assert [one.label for one in objects] == [label for label, _, _ in slow_objects]
    for one, (_, score, inside) in zip(objects, slow_objects, strict=True):
        assert math.isclose(one.score, score, rel_tol=1e-9)
        np.testing.assert_array_equal(one.mask, inside)
