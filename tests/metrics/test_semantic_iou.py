"""Intersection over union by hand, and on the benchmark's own example."""

import pickle

import numpy as np
import pytest

from unienc_core.class_tables import ClassEntry, ClassTable, cityscapes_table
from unienc_core.errors import DataError
from unienc_core.metrics.semantic_iou import (
    METRICS,
    SemanticCounts,
    count_semantic,
    semantic_iou,
)

TABLE = cityscapes_table()
ROOM = ClassTable(
    "room",
    (
        ClassEntry(0, "unknown", (0, 0, 0), "unknown", ignored=True),
        ClassEntry(3, "wall", (1, 1, 1), "wall"),
        ClassEntry(40, "chair", (2, 2, 2), "seat", has_instances=True, average_size=8.0),
        ClassEntry(41, "sofa", (3, 3, 3), "seat", has_instances=True),
        ClassEntry(42, "lamp", (4, 4, 4), "lamp"),
    ),
)


def row(*areas):
    """A picture of 1 x N pixels: values with the numbers of pixels that have them, in order."""
    return np.concatenate([np.full(number, value) for value, number in areas])[None]


def golden():
    """A road with two cars, a group of cars, a tiny car, a person and a patch without label."""
    instances = np.full((200, 300), 7, np.uint16)
    instances[20:60, 20:80] = 26000
    instances[20:60, 100:180] = 26001
    instances[100:140, 20:120] = 26
    instances[100:105, 200:210] = 26002
    instances[150:190, 200:280] = 0
    instances[150:180, 20:60] = 24000
    labels = np.where(instances >= 1000, instances // 1000, instances).astype(np.uint8)
    predicted = labels.copy()
    predicted[:10] = 8
    predicted[150:190, 200:280] = 26
    return predicted, labels, instances


def test_the_known_example():
    scores = semantic_iou(count_semantic(*golden(), TABLE), TABLE)
    found = {name: scores.per_class[name]["iou"] for name in ("road", "sidewalk", "person", "car")}
    assert found == pytest.approx({"road": 0.93471, "sidewalk": 0, "person": 1, "car": 1}, abs=5e-6)
    assert scores.metrics == pytest.approx(
        {"miou": 0.73368, "iiou": 1, "category_iou": 1, "category_iiou": 1}, abs=5e-6
    )
    assert tuple(scores.metrics) == METRICS


def test_ignored_pixels_are_free_and_predicting_an_ignored_class_is_a_miss():
    true = row((3, 10), (0, 5), (42, 5))
    predicted = row((3, 8), (0, 2), (3, 5), (42, 5))
    counts = count_semantic(predicted, true, None, ROOM)
    assert counts.confusion.tolist() == [
        [0, 5, 0, 0, 0], [2, 8, 0, 0, 0], [0] * 5, [0] * 5, [0, 0, 0, 0, 5],
    ]  # fmt: skip
    scores = semantic_iou(counts, ROOM)
    assert scores.per_class["wall"]["iou"] == 0.8
    assert scores.per_class["lamp"]["iou"] == 1
    assert scores.per_class["chair"]["iou"] is None
    assert scores.metrics["miou"] == 0.9


def test_absent_classes_count_0_on_request():
    true = row((3, 10), (42, 10))
    counts = count_semantic(true, true, None, ROOM)
    assert semantic_iou(counts, ROOM).metrics["miou"] == 1
    zero = semantic_iou(counts, ROOM, "zero")
    assert zero.metrics["miou"] == 0.5
    assert zero.per_class["sofa"]["iou"] == 0
    assert zero.metrics["category_iou"] == pytest.approx(2 / 3)


def test_objects_are_weighted_by_the_average_size_of_their_class():
    """Chairs of 4 and 16 pixels weigh 8 / 4 and 8 / 16 a pixel; 3 and 8 of them are found."""
    true = row((40, 20), (3, 10))
    instances = row((40000, 4), (40001, 16), (3, 10))
    predicted = row((40, 3), (41, 1), (40, 8), (3, 8), (40, 2), (3, 8))
    scores = semantic_iou(count_semantic(predicted, true, instances, ROOM), ROOM)
    tp, fn, fp = 3 * 2 + 8 * 0.5, 1 * 2 + 8 * 0.5, 2
    assert scores.per_class["chair"]["iiou"] == pytest.approx(tp / (tp + fn + fp), abs=1e-15)
    assert scores.per_class["sofa"]["iiou"] is None
    assert scores.per_class["wall"]["iiou"] is None
    assert scores.metrics["iiou"] == scores.per_class["chair"]["iiou"]
    assert scores.metrics["category_iiou"] is None


def test_a_part_of_an_object_taken_for_another_class_of_its_category_is_right_there():
    """Ignored classes of the category included: 4 pixels car, 3 truck, 2 caravan, 1 road."""
    true, instances = row((26, 10), (7, 4)), row((26000, 10), (7, 4))
    predicted = row((26, 4), (27, 3), (29, 2), (7, 4), (30, 1))
    scores = semantic_iou(count_semantic(predicted, true, instances, TABLE), TABLE)
    weight = 12794.0202738185 / 10
    assert scores.per_class["car"]["iiou"] == pytest.approx(0.4, abs=1e-15)
    assert scores.metrics["category_iiou"] == pytest.approx(9 * weight / (10 * weight + 1))


def test_a_crowd_is_no_object():
    true = row((40, 10))
    scores = semantic_iou(count_semantic(true, true, row((40, 10)), ROOM), ROOM)
    assert scores.per_class["chair"] == {"iou": 1, "iiou": None}


def test_without_instance_ids_of_every_image_there_is_no_object_score():
    predicted, labels, instances = golden()
    with_ids = count_semantic(predicted, labels, instances, TABLE)
    scores = semantic_iou(with_ids + count_semantic(predicted, labels, None, TABLE), TABLE)
    assert scores.metrics["iiou"] is None
    assert scores.metrics["category_iiou"] is None
    assert scores.metrics["miou"] == pytest.approx(0.73368, abs=5e-6)


def test_counts_add_up_and_survive_pickling():
    one = count_semantic(*golden(), TABLE)
    two = SemanticCounts.zero(TABLE) + one + pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(two.confusion, 2 * one.confusion)
    np.testing.assert_array_equal(two.objects, 2 * one.objects)
    assert int(two.confusion.sum()) == 2 * 200 * 300


def test_a_category_takes_its_classes_for_one():
    true, predicted = row((26, 10), (7, 10)), row((27, 8), (7, 2), (8, 10))
    scores = semantic_iou(count_semantic(predicted, true, None, TABLE), TABLE)
    assert scores.metrics["miou"] == 0
    assert scores.metrics["category_iou"] == pytest.approx((8 / 10 + 10 / 12) / 2)


@pytest.mark.parametrize("bad", [5, 39, 43, 255, 256, -1])
def test_a_label_that_is_not_in_the_table_is_refused(bad):
    good, wrong = row((3, 4), (40, 2)), row((3, 4), (bad, 2))
    with pytest.raises(DataError, match=rf"^p: holds the label id {bad}, which room does not"):
        count_semantic(wrong, good, None, ROOM, "p", "t")
    with pytest.raises(DataError, match=rf"^t: holds the label id {bad}, which room does not"):
        count_semantic(good, wrong, None, ROOM, "p", "t")


def test_what_does_not_fit_is_refused():
    six, five = row((3, 6)), row((3, 5))
    with pytest.raises(DataError, match=r"^p: a picture of 1x5, expected 1x6 as t$"):
        count_semantic(five, six, None, ROOM, "p", "t")
    with pytest.raises(DataError, match=r"^instance ids of t: a picture of 1x5, expected 1x6"):
        count_semantic(six, six, five, ROOM, "p", "t")
    with pytest.raises(DataError, match=r"^t: holds the label id 39"):
        count_semantic(six, six, row((39001, 6)), ROOM, "p", "t")
