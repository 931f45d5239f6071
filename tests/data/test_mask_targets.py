"""Targets of mask prediction: by hand, pixel by pixel, and against the panoptic ground truth."""

import numpy as np
import pytest

from unienc_core.class_tables import ClassEntry, ClassTable, cityscapes_table
from unienc_core.classes import TRAIN_NAMES, id_to_train_id
from unienc_core.data.mask_targets import draw_task, mask_targets
from unienc_core.data.sampler import uniforms
from unienc_core.data.sets.panoptic import panoptic_segments
from unienc_core.data.sets.pictures import read_codes
from unienc_core.data.synthcity import City, CityConfig
from unienc_core.sentences import TASKS

TABLE = cityscapes_table()
ROAD, PERSON, CAR = (TRAIN_NAMES.index(name) for name in ("road", "person", "car"))


def targets(task, semantic, instance, table=TABLE):
    return mask_targets(task, table.train_ids[semantic], instance, table)


def slow(task, instance, table=TABLE):
    """The rules one pixel at a time, of the instance ids alone."""
    places = {entry.id: n for n, entry in enumerate(table.evaluated)}
    segments = {}
    for y, x in np.ndindex(instance.shape):
        value = int(instance[y, x])
        single = value >= table.instance_factor
        entry = table.by_id[value // table.instance_factor if single else value]
        is_crowd = entry.has_instances and not single
        if entry.ignored or is_crowd or (task == "instance" and not entry.has_instances):
            continue
        number = value if entry.has_instances and task != "semantic" else 0
        mask = segments.setdefault((places[entry.id], number), np.zeros(instance.shape, bool))
        mask[y, x] = True
    ordered = sorted(segments)
    return [segments[key] for key in ordered], [key[0] for key in ordered]


def assert_equal(found, expected):
    masks, classes = found
    assert (masks.dtype, classes.dtype) == (bool, np.int64)
    assert classes.tolist() == expected[1]
    assert len(masks) == len(expected[0])
    for mask, other in zip(masks, expected[0], strict=True):
        np.testing.assert_array_equal(mask, other)


def semantic_of(instance):
    return np.where(instance >= 1000, instance // 1000, instance).astype(np.uint8)


def street():
    """Road, void, two cars, a crowd of cars, a person, a caravan, which nothing is scored of."""
    ids = np.full((8, 12), 7, np.int32)
    ids[0] = 0
    ids[1:3, 1:4] = 26000
    ids[1:3, 6:9] = 26017
    ids[4:6, 2:8] = 26
    ids[3:5, 10] = 24000
    ids[6:8, 0:2] = 29000
    return ids


def test_by_hand():
    ids = street()
    masks, classes = targets("panoptic", semantic_of(ids), ids)
    assert classes.tolist() == [ROAD, PERSON, CAR, CAR]
    assert [int(mask.sum()) for mask in masks] == [96 - 12 - 6 - 6 - 12 - 2 - 4, 2, 6, 6]
    assert masks[2][1, 1]
    assert masks[3][1, 6]
    masks, classes = targets("semantic", semantic_of(ids), ids)
    assert classes.tolist() == [ROAD, PERSON, CAR]
    assert masks[2].sum() == 12  # both cars, without the crowd
    masks, classes = targets("instance", semantic_of(ids), ids)
    assert classes.tolist() == [PERSON, CAR, CAR]


@pytest.mark.parametrize("task", TASKS)
def test_frames_without_anything_have_no_targets(task):
    for value in (0, 26, 29000):  # void, a crowd, an object of a class that is not scored
        ids = np.full((3, 4), value, np.int32)
        masks, classes = targets(task, semantic_of(ids), ids)
        assert masks.shape == (0, 3, 4)
        assert classes.shape == (0,)


@pytest.mark.parametrize("task", TASKS)
def test_against_the_slow_way_on_noise(task):
    rng = np.random.default_rng(3)
    values = np.array([0, 4, 7, 8, 23, 24, 24000, 24001, 26, 26000, 26900, 33, 33000, 30002])
    for shape in ((1, 1), (1, 40), (17, 23)):
        ids = rng.choice(values, shape).astype(np.uint16)
        assert_equal(targets(task, semantic_of(ids), ids), slow(task, ids))


@pytest.mark.parametrize("task", TASKS)
def test_another_table_of_classes(task):
    grey = (90, 90, 90)
    table = ClassTable(
        "farm",
        (
            ClassEntry(3, "meadow", grey, "ground"),
            ClassEntry(40, "cow", grey, "animal", has_instances=True),
            ClassEntry(41, "fly", grey, "animal", has_instances=True, ignored=True),
            ClassEntry(200, "fence", grey, "thing"),
        ),
        instance_factor=4096,
    )
    values = np.array([3, 40, 41, 200, 40 * 4096 + 5, 40 * 4096 + 1500, 41 * 4096])
    ids = np.random.default_rng(1).choice(values, (9, 11)).astype(np.int32)
    semantic = np.where(ids >= 4096, ids // 4096, ids)
    assert table.train_ids[[3, 40, 41, 200, 0, 255]].tolist() == [0, 1, 255, 2, 255, 255]
    assert_equal(targets(task, semantic, ids, table), slow(task, ids, table))


def assert_as_panoptic(semantic, instance):
    """Masks of the panoptic task are the segments of the official ground truth, crowds left out."""
    to_train = id_to_train_id()
    expected = sorted(
        (int(to_train[s["category_id"]]), s["id"], s["area"], s["bbox"])
        for s in panoptic_segments(instance)
        if not s["iscrowd"]
    )
    masks, classes = targets("panoptic", semantic, instance)
    found = []
    for mask, place in zip(masks, classes.tolist(), strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        size = [int(n[-1] - n[0]) + 1 for n in (columns, rows)]
        (value,) = np.unique(instance[mask])
        found.append((place, int(value), int(mask.sum()), [int(columns[0]), int(rows[0]), *size]))
    assert found == expected
    return len(expected)


def test_frames_of_the_city():
    city = City(CityConfig(seed=5, num_frames=3, image_size=(48, 160)))
    for index in range(2):
        frame = city.render(index)
        semantic, instance = frame["semantic"], frame["instance_ids"]
        assert assert_as_panoptic(semantic, instance) > 5
        for task in TASKS:
            assert_equal(targets(task, semantic, instance), slow(task, instance))


@pytest.mark.data
def test_frames_of_cityscapes(real_data):
    files = sorted((real_data / "cityscapes" / "gtFine").rglob("*_gtFine_instanceIds.png"))
    assert files
    for path in files:
        instance = read_codes(path, np.uint16)
        labels = path.with_name(path.name.replace("instanceIds", "labelIds"))
        semantic = read_codes(labels, np.uint8)
        assert assert_as_panoptic(semantic, instance) > 10
        smaller = (slice(None, 768, 8), slice(None, None, 8))
        for task in TASKS:
            found = targets(task, semantic[smaller], instance[smaller])
            assert_equal(found, slow(task, instance[smaller]))


def test_tasks_are_drawn_by_cumulative_thresholds():
    at = {0.0: 0, 0.3299: 0, 0.33: 1, 0.6599: 1, 0.66: 2, 0.9999: 2}
    assert {u: TASKS.index(draw_task(u)) for u in at} == at
    drawn = [draw_task(u) for u in uniforms(0, "labels", 0, 0, 3000)]
    shares = [drawn.count(task) / 3000 for task in TASKS]
    np.testing.assert_allclose(shares, [0.33, 0.33, 0.34], atol=0.03)
