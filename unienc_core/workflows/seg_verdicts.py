"""What the pixels of a scored picture count for: right, wrong, or nothing."""

from __future__ import annotations

import numpy as np

from unienc_core.class_tables import ClassEntry, ClassTable
from unienc_core.metrics.instance_ap import match_image
from unienc_core.metrics.joint import joint_areas
from unienc_core.metrics.panoptic_quality import MATCH_IOU, instance_segments
from unienc_core.workflows.seg_confusion import match_objects
from unienc_core.workflows.seg_samples import SegSample, Task

UNSCORED, RIGHT, WRONG, UNMATCHED = range(4)

_COLOURS = ((48, 49, 56), (86, 150, 118), (235, 72, 60), (255, 184, 66))
_NAMES: dict[Task, tuple[str, ...]] = {
    "panoptic": ("not scored", "right", "wrong class", "right class, segments do not match"),
    "instance": ("no object", "found", "missed", "found where there is none"),
    "semantic": ("not scored", "right", "wrong class"),
}


def _legend(names: tuple[str, ...]) -> ClassTable:
    entries = enumerate(zip(names, _COLOURS, strict=False))
    return ClassTable(
        "verdicts", tuple(ClassEntry(id, name, color, name) for id, (name, color) in entries)
    )


VERDICTS = {task: _legend(names) for task, names in _NAMES.items()}
"""The verdicts of each task, as a table for the drawings."""


def judge_pixels(sample: SegSample, task: Task, table: ClassTable) -> np.ndarray:
    """Judge each pixel of a picture.

    Args:
        sample: The picture; its instances are a list, since they are looked through.
        task: What is scored.
        table: The classes.

    Returns:
        `H W` uint8, ids of `VERDICTS`.
    """
    if task == "panoptic":
        return _judge_segments(sample, table)
    if task == "instance":
        return _judge_objects(sample, table)
    truth, found = sample.truth.label_ids, sample.prediction.label_ids
    assert truth is not None
    assert found is not None
    ignored = np.zeros(256, bool)
    ignored[[entry.id for entry in table.classes if entry.ignored]] = True
    verdicts = np.where(truth == found, RIGHT, WRONG)
    return np.where(ignored[truth], UNSCORED, verdicts).astype(np.uint8)


def _judge_segments(sample: SegSample, table: ClassTable) -> np.ndarray:
    truth, found = sample.truth, sample.prediction
    assert truth.ids is not None
    assert found.ids is not None
    true = {s.id: s for s in truth.segments if not table.by_id[s.category_id].ignored}
    predicted = {segment.id: segment for segment in found.segments}
    pairs, areas = joint_areas(truth.ids, found.ids)
    true_ids, rows = np.unique(truth.ids, return_inverse=True)
    predicted_ids, columns = np.unique(found.ids, return_inverse=True)
    verdicts = np.full((true_ids.size, predicted_ids.size), UNSCORED, np.uint8)
    sizes = np.zeros(predicted_ids.size, np.int64)
    voids = np.zeros(predicted_ids.size, np.int64)
    places = np.searchsorted(true_ids, pairs[:, 0]), np.searchsorted(predicted_ids, pairs[:, 1])
    np.add.at(sizes, places[1], areas)
    is_void = ~np.isin(pairs[:, 0], list(true))
    np.add.at(voids, places[1][is_void], areas[is_void])
    for (true_id, predicted_id), area, row, column in zip(
        pairs.tolist(), areas.tolist(), *places, strict=True
    ):
        if true_id not in true or true[true_id].is_crowd:
            continue
        segment, other = true[true_id], predicted.get(predicted_id)
        if other is None or other.category_id != segment.category_id:
            verdicts[row, column] = WRONG
        else:
            union = segment.area + sizes[column] - area - voids[column]
            verdicts[row, column] = RIGHT if area / union > MATCH_IOU else UNMATCHED
    return verdicts[rows.reshape(truth.ids.shape), columns.reshape(truth.ids.shape)]


def _judge_objects(sample: SegSample, table: ClassTable) -> np.ndarray:
    ids = sample.truth.ids
    assert ids is not None
    # As `match_image` takes them: evaluated things, predicted ones that are not empty.
    objects = [
        segment.id
        for segment in instance_segments(ids, table, sample.truth.where)
        if table.by_id[segment.category_id].is_thing
    ]
    instances = [
        one
        for one in sample.prediction.instances
        if table.by_id[one.label_id].is_thing and one.mask.any()
    ]
    image = match_image(instances, ids, table, sample.prediction.where, sample.truth.where)
    match = match_objects(image)
    verdicts = np.full(ids.shape, UNSCORED, np.uint8)
    for one, is_false in zip(instances, match.is_false, strict=True):
        if is_false:
            verdicts[one.mask] = UNMATCHED
    for number, (value, partner) in enumerate(zip(objects, match.partner, strict=True)):
        if match.counted[number]:
            found = partner >= 0 and image.labels[partner] == image.true_labels[number]
            verdicts[ids == value] = RIGHT if found else WRONG
    return verdicts
