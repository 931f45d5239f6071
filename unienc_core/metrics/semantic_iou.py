"""Intersection over union of classes and categories, as the Cityscapes benchmark computes it.

IoU = TP / (TP + FP + FN) over all pixels of all images. Pixels whose true class is ignored count
for nothing; an ignored class that is predicted elsewhere is a miss there. iIoU weights the true
pixels of each object by the average size of its class over the object's own, so that small objects
count as much as large ones; false positives cannot be told apart into objects and stay unweighted.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unienc_core.class_tables import MOST_ID, ClassEntry, ClassTable
from unienc_core.errors import DataError
from unienc_core.metrics.joint import check_same_size, joint_areas
from unienc_core.metrics.scores import Absent, Score, Scores, mean_score

METRICS = ("miou", "iiou", "category_iou", "category_iiou")
"""Names of the metrics; those of a class are `iou` and `iiou`."""

_UNKNOWN = -1


@dataclass(frozen=True)
class SemanticCounts:
    """What adds up over images, by position in `ClassTable.classes`.

    Attributes:
        confusion: `K K` int64, pixels by true class (row) and predicted class (column), the
            ignored ones included.
        objects: `4 K` float64, pixels of true objects, weighted: those whose class was predicted
            and the others, then those whose category was predicted and the others. NaN once an
            image came without instance ids.
    """

    confusion: np.ndarray
    objects: np.ndarray

    @classmethod
    def zero(cls, table: ClassTable) -> SemanticCounts:
        """Return the counts of no image."""
        size = len(table.classes)
        return cls(np.zeros((size, size), np.int64), np.zeros((4, size)))

    def __add__(self, other: SemanticCounts) -> SemanticCounts:
        return SemanticCounts(self.confusion + other.confusion, self.objects + other.objects)


def count_semantic(
    predicted_labels: np.ndarray,
    true_labels: np.ndarray,
    true_instances: np.ndarray | None,
    table: ClassTable,
    where: str = "prediction",
    true_where: str = "ground truth",
) -> SemanticCounts:
    """Count the pixels of one image.

    Args:
        predicted_labels: `H W`, any integer type, label ids.
        true_labels: `H W`, any integer type, label ids.
        true_instances: `H W`, any integer type, instance ids, for iIoU; None where there are none.
        table: The classes.
        where: What to call the prediction in an error.
        true_where: What to call the ground truth in an error.

    Raises:
        DataError: If the sizes differ, or a label id is not in the table.
    """
    check_same_size(predicted_labels, true_labels, where, true_where)
    maps = [true_labels, predicted_labels]
    if true_instances is not None:
        check_same_size(true_instances, true_labels, f"instance ids of {true_where}", true_where)
        maps.append(true_instances)
    values, areas = joint_areas(*maps)
    rows = _places(values[:, 0], table, true_where)
    columns = _places(values[:, 1], table, where)
    size = len(table.classes)
    confusion = np.bincount(rows * size + columns, areas, size * size).astype(np.int64)
    objects = (
        np.full((4, size), np.nan)
        if true_instances is None
        else _count_objects(values[:, 2], columns, areas, table, true_where)
    )
    return SemanticCounts(confusion.reshape(size, size), objects)


def semantic_iou(counts: SemanticCounts, table: ClassTable, absent: Absent = "skip") -> Scores:
    """Return the scores of all images that were counted.

    Args:
        counts: Their sum.
        table: The classes.
        absent: What a class counts that is neither true nor predicted.

    Returns:
        `METRICS`, None where nothing was scored; iIoU only of classes with instances whose average
        size the table knows, and of categories of nothing but classes with instances.
    """
    scored = _positions(table.evaluated, table)
    per_class = {
        entry.name: {
            "iou": _pixel_iou(counts.confusion, [place], scored, absent),
            "iiou": _object_iou(counts, counts.objects[:2], [place], [place], table, absent)
            if entry.is_thing
            else None,
        }
        for entry, place in zip(table.evaluated, scored, strict=True)
    }
    categories = {
        name: [entry for entry in table.classes if entry.category == name]
        for name in dict.fromkeys(entry.category for entry in table.evaluated)
    }
    category_iou, category_iiou = [], []
    for entries in categories.values():
        counted = _positions([entry for entry in entries if not entry.ignored], table)
        category_iou.append(_pixel_iou(counts.confusion, counted, scored, absent))
        if all(entry.has_instances for entry in entries):
            members = _positions(entries, table)
            category_iiou.append(
                _object_iou(counts, counts.objects[2:], counted, members, table, absent)
            )
    means = (
        mean_score(scores["iou"] for scores in per_class.values()),
        mean_score(scores["iiou"] for scores in per_class.values()),
        mean_score(category_iou),
        mean_score(category_iiou),
    )
    return Scores(dict(zip(METRICS, means, strict=True)), per_class)


def _places(label_ids: np.ndarray, table: ClassTable, where: str) -> np.ndarray:
    """Return the positions in `ClassTable.classes` of label ids."""
    lookup = np.full(MOST_ID + 2, _UNKNOWN)
    lookup[[entry.id for entry in table.classes]] = np.arange(len(table.classes))
    inside = (label_ids >= 0) & (label_ids <= MOST_ID)
    places = lookup[np.where(inside, label_ids, MOST_ID + 1)]
    unknown = np.unique(label_ids[places == _UNKNOWN]).tolist()
    if unknown:
        raise DataError(
            f"{where}: holds the label id {unknown[0]}, which {table.name} does not have; expected "
            f"label ids {table.classes[0].id}..{table.classes[-1].id}, not training ids"
        )
    return places


def _count_objects(
    instance_ids: np.ndarray,
    predicted: np.ndarray,
    areas: np.ndarray,
    table: ClassTable,
    where: str,
) -> np.ndarray:
    """Return the weighted pixels of the objects, as `SemanticCounts.objects` holds them.

    Args:
        instance_ids: `M`, of each combination that occurs.
        predicted: `M`, position of the predicted class.
        areas: `M`, px.
        table: The classes.
        where: What to call the ground truth in an error.
    """
    is_object = instance_ids >= table.instance_factor
    ids, which = np.unique(instance_ids[is_object], return_inverse=True)
    true = _places(ids // table.instance_factor, table, where)
    predicted, areas = predicted[is_object], areas[is_object]
    sizes = np.bincount(which, areas, ids.size)
    average = np.array([e.average_size or 0.0 if e.is_thing else 0.0 for e in table.classes])
    weighted = areas * (average[true] / sizes)[which]
    _, category = np.unique([e.category for e in table.classes], return_inverse=True)
    hits = predicted == true[which], category[predicted] == category[true[which]]
    num = len(table.classes)
    rows = [
        np.bincount(true[which][chosen], weighted[chosen], num)
        for hit in hits
        for chosen in (hit, ~hit)
    ]
    return np.stack(rows)


def _positions(entries: Sequence[ClassEntry], table: ClassTable) -> list[int]:
    place = {entry.id: number for number, entry in enumerate(table.classes)}
    return [place[entry.id] for entry in entries]


def _pixel_iou(
    confusion: np.ndarray, counted: list[int], scored: list[int], absent: Absent
) -> Score:
    """Return the IoU of the classes `counted` taken as one."""
    hit = int(confusion[np.ix_(counted, counted)].sum())
    missed = int(confusion[counted].sum()) - hit
    false = _false_positives(confusion, counted, counted, scored)
    return _ratio(hit, hit + missed + false, absent)


def _object_iou(
    counts: SemanticCounts,
    objects: np.ndarray,
    counted: list[int],
    predicted: list[int],
    table: ClassTable,
    absent: Absent,
) -> Score:
    """Return the weighted IoU of the classes `counted` taken as one.

    Args:
        counts: All counts.
        objects: `2 K`, weighted pixels, right and wrong.
        counted: Positions of the evaluated classes.
        predicted: Positions of the classes that count as right or as false positives.
        table: The classes.
        absent: See `semantic_iou`.
    """
    hit, missed = objects[:, counted].sum(axis=1).tolist()
    if np.isnan(hit) or not all(table.classes[place].average_size for place in counted):
        return None
    scored = _positions(table.evaluated, table)
    false = _false_positives(counts.confusion, counted, predicted, scored)
    return _ratio(hit, hit + missed + false, absent)


def _false_positives(
    confusion: np.ndarray, counted: list[int], predicted: list[int], scored: list[int]
) -> int:
    """Count pixels of other evaluated classes that were predicted as one of `predicted`."""
    others = [place for place in scored if place not in counted]
    return int(confusion[np.ix_(others, predicted)].sum())


def _ratio(part: float, whole: float, absent: Absent) -> Score:
    if whole == 0:
        return 0.0 if absent == "zero" else None
    return float(part / whole)
