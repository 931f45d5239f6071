"""Average precision of instances on images that can be followed by hand."""

import numpy as np
import pytest

from unienc_core.class_tables import ClassEntry, ClassTable, cityscapes_table
from unienc_core.errors import DataError
from unienc_core.metrics.instance_ap import METRICS, OVERLAPS, average_precision, match_image
from unienc_core.segmentation import Instance

TABLE = cityscapes_table()
PERSON, CAR = 24, 26

BEHIND = 1 / 4
"""AP of one object found behind one false positive: precision 1/2 0 1, steps 1/2 1/2 0."""


def box(top: int, bottom: int, left: int, right: int, size=(200, 300)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


def truth(regions: dict[int, tuple[int, int, int, int]], size=(200, 300)) -> np.ndarray:
    ids = np.full(size, 7, np.uint16)
    for value, region in regions.items():
        ids[box(*region, size)] = value
    return ids


def scores(*images: tuple[list[Instance], np.ndarray], absent="skip", table=TABLE):
    matches = [match_image(iter(instances), ids, table) for instances, ids in images]
    return average_precision(matches, table, absent)


def car(score: float, *region: int) -> Instance:
    return Instance(CAR, score, box(*region))


STREET = truth(
    {
        26000: (20, 60, 20, 80),
        26001: (20, 60, 100, 180),
        26: (100, 140, 20, 120),
        26002: (100, 105, 200, 210),
        0: (150, 190, 200, 280),
        24000: (150, 180, 20, 60),
    }
)
FOUND = [
    car(0.9, 20, 60, 20, 80),  # exact
    car(0.8, 20, 60, 100, 160),  # three quarters of the second car
    car(0.7, 20, 60, 22, 60),  # the first car again, IoU 0.633
    car(0.6, 100, 140, 20, 120),  # the group
    car(0.95, 150, 190, 200, 280),  # void
    car(0.85, 100, 105, 200, 210),  # too small to count
    car(0.5, 0, 15, 0, 40),  # nothing there
]


def test_a_street_by_hand():
    result = scores((FOUND, STREET))
    # Up to 0.7 both cars are found, from 0.75 (which 0.75 does not exceed) on the first one only,
    # and what finds nothing is less sure in all cases.
    assert result.per_class["car"] == {"ap": pytest.approx(0.75, abs=1e-12), "ap50": 1.0}
    assert result.per_class["person"] == {"ap": 0.0, "ap50": 0.0}
    assert result.per_class["bus"] == {"ap": None, "ap50": None}
    assert result.metrics["ap"] == pytest.approx(0.375, abs=1e-12)
    assert result.metrics["ap50"] == 0.5
    assert tuple(result.metrics) == METRICS


def test_agnostic_counts_a_person_as_one_more_object():
    result = scores((FOUND, STREET))
    # Of three objects two are found below 0.75 and one above it. Recall is 2/3 at the lowest true
    # score; the last step, up to the point of recall 0, is precise too.
    assert result.metrics["ap50_agnostic"] == pytest.approx(2 / 3, abs=1e-12)
    assert result.metrics["ap_agnostic"] == pytest.approx(0.5, abs=1e-12)
    wrong_class = [Instance(PERSON, 0.9, box(20, 60, 20, 80))]
    result = scores((wrong_class, truth({26000: (20, 60, 20, 80)})))
    assert (result.metrics["ap"], result.metrics["ap_agnostic"]) == (0.0, 1.0)


def test_the_steps_of_the_curve():
    ids = truth({26000: (0, 20, 0, 20), 26001: (0, 20, 40, 60)})
    found = [car(0.9, 0, 20, 0, 20), car(0.8, 100, 120, 0, 20), car(0.7, 0, 20, 40, 60)]
    # From the lowest score on: precision 2/3 1/2 1 1 at recall 1 1/2 1/2 0. A step is half of the
    # recall before less that after: 1/4 1/4 1/4 1/4.
    expected = (2 / 3 + 1 / 2 + 1 + 1) / 4
    assert scores((found, ids)).metrics["ap"] == pytest.approx(expected, abs=1e-12)


def test_equal_scores_are_one_point():
    ids = truth({26000: (0, 20, 0, 20)})
    found = [car(0.5, 0, 20, 0, 20), car(0.5, 100, 120, 0, 20)]
    # Precision 1/2 1 at recall 1 0, with steps of 1/2 1/2, in either order.
    for order in (found, found[::-1]):
        assert scores((order, ids)).metrics["ap50"] == pytest.approx(0.75, abs=1e-12)


def test_iou_at_a_threshold_is_no_match():
    ids = truth({26000: (0, 20, 0, 20)})
    half = scores(([car(0.5, 0, 10, 0, 20)], ids))
    more = scores(([car(0.5, 0, 11, 0, 20)], ids))
    assert half.metrics["ap50"] == 0.0
    assert more.metrics["ap50"] == 1.0
    assert more.metrics["ap"] == pytest.approx((OVERLAPS < 0.55).mean())


def test_of_two_that_find_an_object_the_surer_is_true():
    ids = truth({26000: (0, 20, 0, 20), 26001: (0, 20, 40, 60)})
    twice = [car(0.6, 0, 20, 0, 20), car(0.8, 0, 19, 0, 20), car(0.4, 0, 20, 40, 60)]
    # The one of 0.6 is false although it fits better: precision 2/3 1/2 1 1 at recall 1 1/2 1/2 0.
    expected = (2 / 3 + 1 / 2 + 1 + 1) / 4
    assert scores((twice, ids)).metrics["ap50"] == pytest.approx(expected, abs=1e-12)


def test_what_lies_on_a_group_is_left_out_up_to_the_threshold():
    ids = truth({26: (0, 20, 0, 100), 26000: (100, 120, 0, 20)})
    good, within, mostly = car(0.5, 100, 120, 0, 20), car(0.9, 0, 20, 0, 20), car(0.9, 0, 26, 0, 20)
    assert scores(([good, within], ids)).metrics["ap"] == 1.0
    # 20/26 = 0.77 of it is group: a false positive at 0.8 and above, in four of ten.
    result = scores(([good, mostly], ids)).metrics
    assert result["ap50"] == 1.0
    assert result["ap"] == pytest.approx((6 + 4 * BEHIND) / 10)


def test_what_lies_on_void_for_exactly_the_threshold_counts():
    ids = truth({0: (0, 10, 0, 20), 26000: (100, 120, 0, 20)})
    found = [car(0.5, 100, 120, 0, 20), car(0.9, 0, 20, 0, 20)]
    assert scores((found, ids)).metrics["ap"] == BEHIND


def test_a_small_group_counts_twice():
    ids = truth({26: (0, 9, 0, 11), 26000: (100, 120, 0, 20)})  # 99 px
    found = [car(0.5, 100, 120, 0, 20), car(0.9, 0, 18, 0, 11)]  # half of it lies on the group
    assert scores((found, ids)).metrics["ap"] == 1.0
    ids[9, 0] = 26  # 100 px of 198, counted once
    assert scores((found, ids)).metrics["ap"] == pytest.approx((1 + 9 * BEHIND) / 10)


@pytest.mark.parametrize(("value", "is_void"), [(0, True), (29, True), (29000, False), (24, False)])
def test_void_is_plain_ignored_labels_only(value, is_void):
    ids = truth({value: (0, 20, 0, 20), 26000: (100, 120, 0, 20)})
    found = [car(0.5, 100, 120, 0, 20), car(0.9, 0, 20, 0, 20)]
    assert scores((found, ids)).metrics["ap"] == pytest.approx(1.0 if is_void else BEHIND)


def test_groups_of_all_classes_are_one_for_agnostic():
    # Apart, the two are small, and each would count twice on a prediction of no class.
    ids = truth({26: (0, 6, 0, 10), 24: (6, 12, 0, 10), 26000: (100, 120, 0, 20)})
    found = [car(0.5, 100, 120, 0, 20), car(0.9, 0, 18, 0, 10)]
    result = scores((found, ids)).metrics
    # 120 of 180 px: twice the 60 of its class, or once those of both.
    assert result["ap"] == pytest.approx((4 + 6 * BEHIND) / 10)
    assert result["ap_agnostic"] == pytest.approx((4 + 6 * BEHIND) / 10)


def test_what_is_no_thing_and_what_is_empty_does_not_count():
    ids = truth({26000: (0, 20, 0, 20)})
    extra = [Instance(label, 0.9, box(100, 150, 0, 50)) for label in (0, 7, 29)]
    extra.append(Instance(CAR, 0.9, np.zeros(ids.shape, bool)))
    assert scores(([*extra, car(0.5, 0, 20, 0, 20)], ids)).metrics["ap"] == 1.0


def test_nothing_left_to_judge_counts_zero():
    ids = truth({26000: (0, 20, 0, 20), 0: (100, 150, 0, 50)})
    assert scores(([car(0.5, 100, 150, 0, 50)], ids)).metrics["ap"] == 0.0
    assert scores(([], ids)).metrics["ap"] == 0.0


@pytest.mark.parametrize(("absent", "expected"), [("skip", 1.0), ("zero", 1 / 8)])
def test_classes_without_an_object(absent, expected):
    ids = truth({26000: (0, 20, 0, 20)})
    found = [car(0.5, 0, 20, 0, 20), Instance(PERSON, 0.9, box(100, 120, 0, 20))]
    result = scores((found, ids), absent=absent)
    assert result.metrics["ap"] == pytest.approx(expected)
    assert result.per_class["person"]["ap"] == (0.0 if absent == "zero" else None)
    nothing = scores(([], truth({})), absent=absent)
    assert set(nothing.metrics.values()) == {0.0 if absent == "zero" else None}


def test_images_are_put_together():
    ids = truth({26000: (0, 20, 0, 20)})
    hit, miss = car(0.5, 0, 20, 0, 20), car(0.9, 100, 120, 0, 20)
    whole = scores(([hit], ids), ([miss], ids))
    # Precision 1/2 0 1 at recall 1/2 0 0: steps 1/4 1/4 0.
    assert whole.metrics["ap"] == pytest.approx(1 / 8)
    assert scores(([miss], ids), ([hit], ids)) == whole


def test_another_table():
    entries = (
        ClassEntry(1, "floor", (0, 0, 0), "room"),
        ClassEntry(2, "chair", (9, 9, 9), "room", has_instances=True),
        ClassEntry(3, "lamp", (5, 5, 5), "room", has_instances=True, ignored=True),
    )
    table = ClassTable("rooms", entries, 100_000)
    ids = np.ones((20, 40), np.int32)
    ids[:10, :10] = 200_007
    ids[10:, 10:] = 3
    found = [Instance(2, 0.5, ids == 200_007), Instance(2, 0.9, ids == 3)]
    result = scores((found, ids), table=table)
    assert result.metrics["ap"] == 1.0
    assert set(result.per_class) == {"chair"}


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        (Instance(CAR, 0.5, np.ones((20, 30), bool)), "20x30, expected 200x300"),
        (Instance(CAR, float("nan"), box(0, 9, 0, 9)), "score nan, expected a finite number"),
        (Instance(77, 0.5, box(0, 9, 0, 9)), "class 77, which cityscapes does not have"),
    ],
)
def test_a_wrong_prediction_is_one_line(instance, message):
    with pytest.raises(DataError, match=message) as caught:
        match_image([instance], STREET, TABLE, "a.txt", "b.png")
    assert str(caught.value).startswith("a.txt: ")
    assert "\n" not in str(caught.value)


def test_a_wrong_id_in_the_truth():
    with pytest.raises(DataError, match=r"b\.png: holds the id 34"):
        match_image([], np.full((4, 4), 34, np.uint16), TABLE, "a.txt", "b.png")
