"""Ids that last: who overlaps whom, what is new, what a cut forgets."""

import numpy as np
import pytest

from unienc_core.class_tables import ClassEntry, ClassTable, cityscapes_table
from unienc_core.inference.seen import Seen
from unienc_core.inference.track_segments import SegmentTracker
from unienc_core.segmentation import Instance, Segment, Segmentation

ROAD, PERSON, CAR = 7, 24, 26
SIZE = (40, 100)
TABLE = cityscapes_table()

Box = tuple[int, int, int]
"""Label id, first and last column."""


def panoptic(*boxes: Box) -> Segmentation:
    """Things of a frame, named in the order given, before a road."""
    ids, segments, seen = np.full(SIZE, ROAD, np.int32), [Segment(ROAD, ROAD)], {}
    for label, start, stop in boxes:
        number = seen[label] = seen.get(label, -1) + 1
        ids[10:30, start:stop] = label * 1000 + number
        segments.append(Segment(label * 1000 + number, label, area=20 * (stop - start)))
    return Segmentation(panoptic_ids=ids, segments=tuple(segments))


def instances(*boxes: Box) -> Segmentation:
    made = []
    for label, start, stop in boxes:
        mask = np.zeros(SIZE, bool)
        mask[10:30, start:stop] = True
        made.append(Instance(label, 0.9, mask))
    return Segmentation(instances=tuple(made))


def ids_of(found: Segmentation) -> list[int]:
    if found.instances is not None:
        return [one.id for one in found.instances]
    assert found.segments is not None
    return [segment.id for segment in found.segments if segment.id >= 1000]


@pytest.mark.parametrize("make", [panoptic, instances])
def test_objects_keep_their_ids_in_whatever_order_they_come(make) -> None:
    tracker = SegmentTracker(TABLE)
    assert ids_of(tracker.update(make((CAR, 0, 20), (CAR, 50, 80)))) == [26000, 26001]
    assert ids_of(tracker.update(make((CAR, 55, 85), (CAR, 2, 22)))) == [26001, 26000]
    assert ids_of(tracker.update(make((CAR, 4, 24), (CAR, 60, 90)))) == [26000, 26001]


def test_pixels_are_renamed_with_their_segments() -> None:
    tracker = SegmentTracker(TABLE)
    tracker.update(panoptic((CAR, 0, 20), (CAR, 50, 80)))
    found = tracker.update(panoptic((CAR, 55, 85), (CAR, 2, 22)))
    assert found.panoptic_ids is not None
    assert found.panoptic_ids.dtype == np.int32
    assert (found.panoptic_ids[10:30, 55:85] == 26001).all()
    assert (found.panoptic_ids[10:30, 2:22] == 26000).all()
    assert (found.panoptic_ids[:10] == ROAD).all()
    assert found.segments is not None
    assert found.segments[0] == Segment(ROAD, ROAD)
    assert found.segments[1].area == 600


@pytest.mark.parametrize("make", [panoptic, instances])
def test_what_overlaps_nothing_of_its_class_is_new(make) -> None:
    tracker = SegmentTracker(TABLE)
    tracker.update(make((CAR, 0, 20)))
    assert ids_of(tracker.update(make((PERSON, 0, 20), (CAR, 60, 80)))) == [24000, 26001]
    # Gone for a frame is gone: the first car comes back as a new one.
    assert ids_of(tracker.update(make((CAR, 0, 20), (CAR, 60, 80)))) == [26002, 26001]


@pytest.mark.parametrize("make", [panoptic, instances])
def test_the_largest_overlap_is_joined_first_and_once(make) -> None:
    tracker = SegmentTracker(TABLE)
    tracker.update(make((CAR, 20, 60)))
    assert ids_of(tracker.update(make((CAR, 0, 35), (CAR, 40, 62)))) == [26001, 26000]


def test_a_cut_forgets_but_never_repeats() -> None:
    tracker = SegmentTracker(TABLE)
    for expected in (26000, 26001):
        for _ in range(2):
            assert ids_of(tracker.update(panoptic((CAR, 0, 20)))) == [expected]
        tracker.reset()


def test_panoptic_segments_and_instances_are_numbered_apart() -> None:
    tracker = SegmentTracker(TABLE)
    one, both = panoptic((CAR, 50, 80)), instances((CAR, 0, 20), (CAR, 50, 80))
    found = tracker.update(
        Segmentation(one.panoptic_ids, one.segments, one.panoptic_ids, both.instances)
    )
    assert found.label_ids is one.panoptic_ids
    assert found.segments is not None
    assert found.instances is not None
    assert found.segments[1].id == 26000
    assert [instance.id for instance in found.instances] == [26000, 26001]


def test_frames_without_objects_or_of_another_size() -> None:
    tracker = SegmentTracker(TABLE)
    tracker.update(instances((CAR, 0, 20)))
    assert tracker.update(instances()).instances == ()
    small = np.zeros((3, 5), bool)
    small[1] = True
    tracker.update(instances((CAR, 0, 20)))
    found = tracker.update(Segmentation(instances=(Instance(CAR, 1.0, small),)))
    assert ids_of(found) == [26002]
    assert tracker.update(Segmentation()) == Segmentation()


def test_numbers_begin_again_before_they_run_into_the_next_class() -> None:
    entries = (ClassEntry(1, "a", (1, 1, 1), "a", True), ClassEntry(2, "b", (2, 2, 2), "b", True))
    tracker = SegmentTracker(ClassTable("small", entries, instance_factor=256))
    tracker.update(instances((1, 60, 80)))  # 256 lives on
    given = []
    for _ in range(300):
        found = tracker.update(instances((1, 60, 80), (1, 0, 20)))
        given.append(ids_of(found)[1])
        tracker.update(instances((1, 60, 80)))
    assert set(given) == set(range(257, 512))


def test_large_pictures_are_compared_thinned() -> None:
    tracker, big = SegmentTracker(TABLE), np.zeros((700, 1900), bool)
    big[100:400, 300:900] = True
    tracker.update(Segmentation(instances=(Instance(CAR, 1.0, big),)))
    found = tracker.update(Segmentation(instances=(Instance(CAR, 1.0, np.roll(big, 99, 1)),)))
    assert ids_of(found) == [26000]


def test_what_waits_is_cut_to_the_objects_and_comes_back_whole() -> None:
    found = SegmentTracker(TABLE).update(instances((CAR, 30, 50), (PERSON, 40, 60), (CAR, 5, 5)))
    assert found.instances is not None
    seen = Seen.of(found, SIZE)
    assert seen.objects is not None
    assert [one.mask.shape for one in seen.objects] == [(20, 20), (20, 20), (0, 0)]
    for one, whole in zip(seen.instances(SIZE), found.instances, strict=True):
        np.testing.assert_array_equal(one.mask, whole.mask)
        assert (one.id, one.label_id, one.score) == (whole.id, whole.label_id, whole.score)
    ids = seen.instance_ids()
    assert ids.dtype == np.int32
    assert (ids[10:30, 30:50] == 26000).all()  # the surer one comes first
    assert (ids[10:30, 50:60] == 24000).all()
    assert ids[:10].max() == 0
    assert seen.maps((20, 50))["instance"].shape == (20, 50)
