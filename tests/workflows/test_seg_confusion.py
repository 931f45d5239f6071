"""What was taken for what, and which pixels are wrong: counted by hand."""

import numpy as np
import pytest
import seg_toys as toys

from unienc_core.metrics.instance_ap import match_image
from unienc_core.segmentation import Instance
from unienc_core.workflows.seg_confusion import (
    Confusion,
    count_confusion,
    draw_confusion,
    match_objects,
)
from unienc_core.workflows.seg_plots import rank_images
from unienc_core.workflows.seg_samples import Prediction, SegSample, Truth, score_sample
from unienc_core.workflows.seg_verdicts import RIGHT, UNMATCHED, UNSCORED, WRONG, judge_pixels

TABLE = toys.TABLE
CAR_26000, CAR_26001 = toys.box(20, 60, 20, 80), toys.box(20, 60, 100, 180)
PERSON, GROUP = toys.box(150, 180, 20, 60), toys.box(100, 140, 20, 120)
TINY, VOID = toys.box(100, 105, 200, 210), toys.box(150, 190, 200, 280)


def sample(task: str) -> SegSample:
    from unienc_core.metrics.panoptic_quality import instance_segments

    ids = toys.scene()
    found, segments = toys.found_segments()
    if task == "panoptic":
        truth = Truth("truth", ids, instance_segments(ids, TABLE))
        return SegSample("a", truth, Prediction("found", found, segments))
    if task == "semantic":
        truth = Truth("truth", ids, label_ids=toys.label_ids_of(ids))
        return SegSample("a", truth, Prediction("found", label_ids=toys.found_labels()))
    return SegSample(
        "a", Truth("truth", ids), Prediction("found", instances=toys.found_instances())
    )


def confusion_of(task: str) -> tuple[Confusion, dict[str, int]]:
    confusion = count_confusion([score_sample(sample(task), task, TABLE, True)], task, TABLE)
    return confusion, {name: i for i, name in enumerate([*confusion.names, confusion.nothing])}


def test_classes_of_pixels() -> None:
    confusion, at = confusion_of("semantic")
    assert confusion.counts.sum() == np.prod(toys.SIZE)
    assert confusion.counts[at["road"], at["sidewalk"]] == 10 * 300
    assert confusion.counts[at["ignored"], at["car"]] == VOID.sum()
    assert confusion.counts[at["car"], at["car"]] == (CAR_26000 | CAR_26001 | GROUP | TINY).sum()
    assert confusion.present == ("road", "sidewalk", "person", "car")


def test_classes_of_segments() -> None:
    confusion, at = confusion_of("panoptic")
    assert confusion.counts.sum() == np.prod(toys.SIZE)
    assert confusion.counts[at["person"], at["road"]] == PERSON.sum()
    assert confusion.counts[at["car"], at["car"]] == CAR_26000.sum() + 40 * 60
    assert confusion.counts[at["void"], at["car"]] == VOID.sum()


def test_classes_of_objects() -> None:
    confusion, at = confusion_of("instance")
    counts = confusion.counts
    assert counts[at["car"], at["car"]] == 2
    assert counts[at["person"], at["nothing"]] == 1
    # The second best on 26000 and the one on the road; the group, void and the tiny one are free.
    assert counts[at["nothing"], at["car"]] == 2
    assert counts.sum() == 5


def test_objects_pair_with_the_surest_that_fits_whatever_its_class() -> None:
    ids = toys.scene()
    found = [
        Instance(27, 0.2, CAR_26000),
        Instance(26, 0.1, CAR_26000),
        Instance(24, 0.9, toys.box(20, 60, 100, 140)),  # half of 26001: too little
    ]
    match = match_objects(match_image(found, ids, TABLE))
    assert match.counted.tolist() == [False, True, True, True, False]  # 26, 24000, 26000, ...
    assert match.partner[match.counted].tolist() == [-1, 0, -1]
    assert match.is_false.tolist() == [False, True, True]
    nobody = match_objects(match_image([], ids, TABLE))
    assert (nobody.partner == -1).all()


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (
            "semantic",
            [
                (toys.box(0, 10, 0, 300), WRONG),
                (CAR_26000 | GROUP | PERSON | TINY, RIGHT),
                (VOID, UNSCORED),
            ],
        ),
        (
            "panoptic",
            [
                (CAR_26000, RIGHT),
                (toys.box(20, 60, 100, 160), RIGHT),
                (toys.box(20, 60, 160, 180) | PERSON | toys.box(0, 15, 0, 40), WRONG),
                (VOID | GROUP, UNSCORED),
                (toys.box(190, 200, 0, 300), RIGHT),
            ],
        ),
        (
            "instance",
            [
                (CAR_26000 | CAR_26001, RIGHT),
                (PERSON, WRONG),
                (toys.box(0, 15, 0, 40), UNMATCHED),
                (VOID | GROUP | TINY | toys.box(190, 200, 0, 300), UNSCORED),
            ],
        ),
    ],
)
def test_pixels_are_judged(task, expected) -> None:
    verdicts = judge_pixels(sample(task), task, TABLE)
    for place, verdict in expected:
        assert set(np.unique(verdicts[place])) == {verdict}


def test_a_segment_that_overlaps_by_half_is_right_in_class_only() -> None:
    ids = np.full(toys.SIZE, 7, np.int32)
    ids[CAR_26001] = 3
    found = np.where(toys.box(20, 60, 100, 140), 3, 1)  # IoU exactly 0.5
    segments = {1: 7, 3: 26, 7: 7}
    truth, prediction = (
        [toys.Segment(i, segments[i], area=int((a == i).sum())) for i in np.unique(a)]
        for a in (ids, found)
    )
    judged = SegSample("a", Truth("t", ids, truth), Prediction("f", found, prediction))
    verdicts = judge_pixels(judged, "panoptic", TABLE)
    assert (verdicts[toys.box(20, 60, 100, 140)] == UNMATCHED).all()
    assert (verdicts[toys.box(20, 60, 140, 180)] == WRONG).all()
    assert (verdicts[0] == RIGHT).all()


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_the_worst_picture_comes_first_and_pictures_of_nothing_not_at_all(task) -> None:
    ids = np.full(toys.SIZE, toys.ROAD if task != "instance" else toys.VOID, np.uint16)
    perfect = {"panoptic": 1.0, "semantic": 1.0, "instance": None}[task]
    segments = [toys.Segment(7, 7, area=ids.size)] if task == "panoptic" else []
    plain = SegSample(
        "plain",
        Truth("t", ids, segments, ids),
        Prediction("f", ids, segments, ids),
    )
    images = [score_sample(s, task, TABLE) for s in (plain, sample(task))]
    ranked = rank_images(images, task, TABLE)
    assert ranked[0][0] == 1
    assert ranked[0][1] < 1
    assert ranked[1:] == ([] if perfect is None else [(0, perfect)])


@pytest.mark.parametrize("num", [1, 3, 19, 150])
def test_the_matrix_is_drawn_at_any_size(num: int) -> None:
    counts = np.zeros((num + 2, num + 2), np.int64)
    counts[np.arange(num), np.arange(num)] = 30
    counts[0, num - 1] += 10
    names = tuple(f"class {i}" for i in range(num + 1))
    picture = draw_confusion(Confusion(names, counts, "void", "pixels"), "title")
    right = (picture == (94, 190, 255)).all(axis=-1).sum()
    side = min(56, max(10, 1000 // (num + 1)))
    written = 0.3 if side >= 30 else 0.0
    full = num - (num > 1)  # the first class is right in three of four pixels only
    assert (1 - written) * full * (side - 1) ** 2 <= right <= num * (side - 1) ** 2
    assert max(picture.shape) < 2600
