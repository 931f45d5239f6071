"""Panoptic quality by hand: each rule of the benchmark on a picture small enough to follow."""

import pickle

import numpy as np
import pytest

from unienc_core.class_tables import ClassEntry, ClassTable, cityscapes_table
from unienc_core.errors import DataError
from unienc_core.metrics.panoptic_quality import (
    METRICS,
    PanopticCounts,
    count_panoptic,
    instance_segments,
    panoptic_quality,
)
from unienc_core.segmentation import Segment

TABLE = cityscapes_table()
ROAD, SKY, PERSON, CAR = 7, 23, 24, 26


def picture(*areas):
    """A picture of 1 x N pixels: ids with the numbers of pixels that have them, in order."""
    return np.concatenate([np.full(number, value) for value, number in areas])[None]


def segments(ids, classes, crowds=()):
    return [
        Segment(value, category, value in crowds, int((ids == value).sum()))
        for value, category in classes.items()
    ]


def count(predicted, predicted_classes, true, true_classes, crowds=()):
    return count_panoptic(
        predicted,
        segments(predicted, predicted_classes),
        true,
        segments(true, true_classes, crowds),
        TABLE,
    )


def of_class(counts, label_id):
    place = [entry.id for entry in TABLE.evaluated].index(label_id)
    return tuple(float(a[place]) for a in (counts.iou_sum, counts.tp, counts.fp, counts.fn))


def test_a_match_a_miss_and_a_false_alarm():
    true = picture((1, 10), (2, 6), (3, 4))
    predicted = picture((5, 8), (6, 8), (7, 4))
    counts = count(predicted, {5: ROAD, 6: CAR, 7: PERSON}, true, {1: ROAD, 2: CAR, 3: CAR})
    assert of_class(counts, ROAD) == (0.8, 1, 0, 0)
    assert of_class(counts, CAR) == (0.75, 1, 0, 1)
    assert of_class(counts, PERSON) == (0, 0, 1, 0)
    scores = panoptic_quality(counts, TABLE)
    car = scores.per_class["car"]
    assert (car["pq"], car["sq"], car["rq"]) == (0.5, 0.75, 2 / 3)
    assert scores.per_class["person"] == {"pq": 0, "sq": 0, "rq": 0}
    assert scores.per_class["sky"] == {"pq": None, "sq": None, "rq": None}
    assert scores.metrics["pq"] == pytest.approx((0.8 + 0.5 + 0) / 3, abs=1e-15)
    assert scores.metrics["pq_things"] == 0.25
    assert scores.metrics["pq_stuff"] == 0.8
    assert tuple(scores.metrics) == METRICS


@pytest.mark.parametrize(("overlap", "matched"), [(8, False), (9, True)])
def test_half_an_overlap_is_no_match(overlap, matched):
    """Of 12 + 12 pixels, 8 shared ones are 8 / 16."""
    true = picture((1, 12), (2, 24 - overlap))
    predicted = picture((9, 12 - overlap), (8, 12), (9, 12))
    counts = count(predicted, {8: CAR, 9: ROAD}, true, {1: CAR, 2: ROAD})
    assert of_class(counts, CAR)[1:] == ((1, 0, 0) if matched else (0, 1, 1))


def test_void_is_left_out_of_the_union_and_predicting_it_is_a_miss():
    true = picture((1, 6), (0, 6), (2, 6))
    predicted = picture((3, 12), (0, 6))
    counts = count(predicted, {3: CAR}, true, {1: CAR, 2: ROAD})
    assert of_class(counts, CAR) == (1.0, 1, 0, 0)
    assert of_class(counts, ROAD) == (0, 0, 0, 1)


@pytest.mark.parametrize(("void", "false_alarm"), [(5, 1), (6, 0)])
def test_a_prediction_mostly_on_void_counts_for_nothing(void, false_alarm):
    true = picture((0, void), (2, 20 - void))
    predicted = picture((3, 10), (4, 10))
    counts = count(predicted, {3: PERSON, 4: ROAD}, true, {2: ROAD})
    assert of_class(counts, PERSON) == (0, 0, false_alarm, 0)


@pytest.mark.parametrize(("category", "false_alarm"), [(CAR, 0), (PERSON, 1)])
def test_a_crowd_excuses_predictions_of_its_own_class_and_is_never_missed(category, false_alarm):
    true = picture((26, 20), (7, 20))
    predicted = picture((3, 10), (4, 30))
    counts = count(predicted, {3: category, 4: ROAD}, true, {26: CAR, 7: ROAD}, crowds=(26,))
    assert of_class(counts, category) == (0, 0, false_alarm, 0)
    assert of_class(counts, CAR)[3] == 0


def test_of_two_crowds_of_a_class_the_last_one_excuses_and_none_is_ever_matched():
    true = picture((26, 20), (27, 20), (7, 20))
    predicted = picture((3, 20), (4, 20), (5, 20))
    classes = {26: CAR, 27: CAR, 7: ROAD}
    counts = count(predicted, {3: CAR, 4: CAR, 5: ROAD}, true, classes, crowds=(26, 27))
    assert of_class(counts, CAR) == (0, 0, 1, 0)


def test_the_true_area_is_that_of_the_record():
    true, predicted = picture((1, 10)), picture((3, 10))
    counts = count_panoptic(predicted, [Segment(3, CAR)], true, [Segment(1, CAR, False, 16)], TABLE)
    assert of_class(counts, CAR)[0] == 10 / 16


def test_true_segments_of_ignored_classes_are_void():
    true = picture((29000, 8), (3, 4), (26000, 6))
    predicted = picture((1, 18))
    listed = instance_segments(true, TABLE)
    counts = count_panoptic(predicted, [Segment(1, CAR)], true, listed, TABLE)
    assert of_class(counts, CAR) == (1.0, 1, 0, 0)
    assert int(counts.fn.sum()) == 0


def test_ids_beyond_16_bits_are_told_apart():
    true = picture((70_000, 5), (70_000 - 65_536, 5)).astype(np.int32)
    counts = count(true, {70_000: CAR, 4464: PERSON}, true, {70_000: CAR, 4464: PERSON})
    assert (of_class(counts, CAR), of_class(counts, PERSON)) == ((1, 1, 0, 0), (1, 1, 0, 0))


def test_instance_ids_say_what_they_are():
    ids = picture((7, 3), (24, 2), (26, 4), (26000, 5), (26001, 6), (29000, 1), (30, 2), (0, 1))
    found = {s.id: (s.category_id, s.is_crowd, s.area) for s in instance_segments(ids, TABLE)}
    assert found == {
        0: (0, False, 1), 7: (7, False, 3), 24: (24, True, 2), 26: (26, True, 4),
        30: (30, False, 2), 26000: (26, False, 5), 26001: (26, False, 6), 29000: (29, False, 1),
    }  # fmt: skip
    with pytest.raises(DataError, match=r"^a\.png: holds the id 34001"):
        instance_segments(picture((34001, 1)), TABLE, "a.png")


def test_a_table_whose_first_class_is_0_is_no_void():
    table = ClassTable(
        "two",
        (
            ClassEntry(0, "floor", (0, 0, 0), "floor"),
            ClassEntry(1, "chair", (1, 1, 1), "chair", has_instances=True),
        ),
    )
    true = picture((0, 6), (1000, 6))
    predicted = picture((5, 6), (6, 6))
    counts = count_panoptic(
        predicted, [Segment(5, 1), Segment(6, 1)], true, instance_segments(true, table), table
    )
    assert counts.fp.tolist() == [0, 1]
    assert counts.fn.tolist() == [1, 0]


def test_counts_add_up_and_survive_pickling():
    true, predicted = picture((1, 10)), picture((3, 6), (0, 4))
    counts = count(predicted, {3: CAR}, true, {1: CAR})
    twice = PanopticCounts.zero(TABLE) + counts + pickle.loads(pickle.dumps(counts))
    assert of_class(twice, CAR) == (1.2, 2, 0, 0)
    assert panoptic_quality(twice, TABLE).metrics["pq"] == 0.6


def test_classes_that_are_absent_are_skipped_or_count_0():
    zero = PanopticCounts.zero(TABLE)
    assert set(panoptic_quality(zero, TABLE).metrics.values()) == {None}
    assert set(panoptic_quality(zero, TABLE, "zero").metrics.values()) == {0}
    true = picture((1, 10))
    counts = count(true, {1: CAR}, true, {1: CAR})
    scores = panoptic_quality(counts, TABLE, "zero")
    assert scores.metrics["pq"] == pytest.approx(1 / 19)
    assert scores.metrics["pq_things"] == 1 / 8
    assert scores.per_class["sky"] == {"pq": 0, "sq": 0, "rq": 0}
    assert panoptic_quality(counts, TABLE).metrics["pq_stuff"] is None


@pytest.mark.parametrize(
    ("predicted_classes", "true_classes", "words"),
    [
        ({1: CAR}, {1: CAR}, "p: 1 segment ids are in the picture but not in the list"),
        ({1: CAR, 2: CAR, 3: CAR}, {1: CAR}, "p: 1 segment ids are in the list of segments but"),
        ({1: CAR, 2: CAR}, {1: CAR, 4: CAR}, "t: 1 segment ids are in the list of segments but"),
        ({1: CAR, 2: 34}, {1: CAR}, "p: segment 2 has the class 34, which cityscapes does not"),
        ({1: CAR, 2: 5}, {1: CAR}, r"p: segment 2 has the class 5 \(dynamic\), which is not"),
        ({1: CAR, 2: CAR}, {1: 99}, "t: segment 1 has the class 99"),
    ],
)
def test_what_does_not_fit_is_refused(predicted_classes, true_classes, words):
    predicted, true = picture((1, 3), (2, 4)), picture((1, 6), (0, 1))
    with pytest.raises(DataError, match="^" + words):
        count_panoptic(
            predicted,
            segments(predicted, predicted_classes),
            true,
            segments(true, true_classes),
            TABLE,
            "p",
            "t",
        )


def test_sizes_that_differ_are_refused():
    with pytest.raises(DataError, match=r"^p: a picture of 1x5, expected 1x6 as t$"):
        count_panoptic(picture((0, 5)), [], picture((0, 6)), [], TABLE, "p", "t")
