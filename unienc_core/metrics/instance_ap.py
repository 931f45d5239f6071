"""Average precision of instances, as the Cityscapes benchmark computes it.

For each overlap threshold t of 0.5, 0.55, ..., 0.95: a true object is found where a prediction of
its class has IoU > t; of several that do, the surest is the true positive and the others are false
ones. A prediction that overlaps no true object so is a false positive, unless more than t of it
lies on void, on groups and on objects too small to count. It is not COCO's figure: void counts,
precision is not interpolated, and objects are not limited in number.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from unienc_core.class_tables import ClassTable
from unienc_core.errors import DataError
from unienc_core.metrics.joint import check_same_size
from unienc_core.metrics.panoptic_quality import instance_segments
from unienc_core.metrics.scores import Absent, Score, Scores, mean_score
from unienc_core.segmentation import Instance, Segment

METRICS = ("ap", "ap50", "ap_agnostic", "ap50_agnostic")
"""Names of the metrics; those of a class are the first two. Agnostic: all things as one class."""

OVERLAPS = np.arange(0.5, 1.0, 0.05)
"""IoU thresholds, made as the benchmark makes them: 0.75 is exact, 0.6 is a bit above."""

MIN_AREA = 100
"""True objects of fewer pixels are neither found nor missed."""


@dataclass(frozen=True)
class ImageMatches:
    """What of one image goes into the score, for `T` true and `P` predicted objects.

    Attributes:
        true_labels: Label ids, `T` int64.
        true_areas: Px, `T` int64.
        is_group: Whether it is a group of objects that nobody told apart, `T` bool.
        labels: Label ids, `P` int64.
        scores: Confidences, `P` float64.
        areas: Px, `P` int64.
        void: Px of each that lie on void, `P` int64.
        shared: Px that each prediction shares with each true object of any class, `P T` int64.
    """

    true_labels: np.ndarray
    true_areas: np.ndarray
    is_group: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    areas: np.ndarray
    void: np.ndarray
    shared: np.ndarray


def match_image(
    instances: Iterable[Instance],
    true_instance_ids: np.ndarray,
    table: ClassTable,
    where: str = "prediction",
    true_where: str = "ground truth",
) -> ImageMatches:
    """Count what the predicted objects of one image share with the true ones.

    Args:
        instances: Predicted objects, which may overlap. They are taken one by one, so that a
            generator need not hold more than one mask. Those of classes that are no evaluated
            things, and empty ones, do not count.
        true_instance_ids: `H W`, any integer type: label id x factor + number; a plain label id
            is a group if its class is a thing, and void if it is ignored.
        table: The classes.
        where: What to call the prediction in an error.
        true_where: What to call the ground truth in an error.

    Raises:
        DataError: If a mask has another size, a score is no finite number, or an id belongs to no
            class.
    """
    segments = instance_segments(true_instance_ids, table, true_where)
    objects = [s for s in segments if table.by_id[s.category_id].is_thing]
    places = _places(true_instance_ids, segments, objects, table)
    labels, scores, counts = [], [], []
    for instance in instances:
        if not _is_scored(instance, table, where):
            continue
        check_same_size(instance.mask, true_instance_ids, where, true_where)
        inside = _values_inside(places, instance.mask)
        if inside.size:
            labels.append(instance.label_id)
            scores.append(instance.score)
            counts.append(np.bincount(inside, minlength=len(objects) + 2))
    table_of_counts = np.array(counts, np.int64).reshape(-1, len(objects) + 2)
    return ImageMatches(
        true_labels=np.array([s.category_id for s in objects], np.int64),
        true_areas=np.array([s.area for s in objects], np.int64),
        is_group=np.array([s.is_crowd for s in objects], bool),
        labels=np.array(labels, np.int64),
        scores=np.array(scores, np.float64),
        areas=table_of_counts.sum(axis=1),
        void=table_of_counts[:, _VOID],
        shared=table_of_counts[:, _FIRST:],
    )


def average_precision(
    images: Sequence[ImageMatches], table: ClassTable, absent: Absent = "skip"
) -> Scores:
    """Return the scores of all images.

    Args:
        images: What `match_image` found in each.
        table: The classes.
        absent: What a class counts that has no true object, groups and small ones aside.

    Returns:
        `METRICS`: AP, the mean over classes and thresholds, and AP at an overlap of 0.5; None
        where there is no true object. Agnostic is what the benchmark would give if every thing
        were of one class, so that also the groups of an image are one.
    """
    per_class = {
        entry.name: _both_scores(_precisions([_of_class(i, entry.id) for i in images]), absent)
        for entry in table.things
    }
    metrics = {
        name: mean_score(scores[name] for scores in per_class.values()) for name in ("ap", "ap50")
    }
    agnostic = _both_scores(_precisions([_as_one_class(image) for image in images]), absent)
    metrics |= {f"{name}_agnostic": score for name, score in agnostic.items()}
    return Scores(metrics, per_class)


# What a pixel of the ground truth is to a prediction on it; true objects count on from `_FIRST`.
_ELSEWHERE, _VOID, _FIRST = 0, 1, 2


def _places(
    ids: np.ndarray, segments: Sequence[Segment], objects: Sequence[Segment], table: ClassTable
) -> np.ndarray:
    """Return for each pixel `_ELSEWHERE`, `_VOID`, or `_FIRST` + position among the objects."""
    place_of = np.zeros(max((s.id for s in segments), default=0) + 1, np.uint16)
    for segment in segments:
        # As the benchmark has it, single objects of an ignored class are not void.
        is_plain = segment.id < table.instance_factor
        if is_plain and table.by_id[segment.category_id].ignored:
            place_of[segment.id] = _VOID
    for number, segment in enumerate(objects):
        place_of[segment.id] = _FIRST + number
    return place_of[ids]


def _is_scored(instance: Instance, table: ClassTable, where: str) -> bool:
    entry = table.by_id.get(instance.label_id)
    if entry is None:
        raise DataError(
            f"{where}: an object has the class {instance.label_id}, which {table.name} does not "
            "have; expected label ids, not training ids"
        )
    if not math.isfinite(instance.score):
        raise DataError(
            f"{where}: an object has the score {instance.score}, expected a finite number"
        )
    return entry.is_thing


def _values_inside(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the values where a mask is set, looking only at its bounding box."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    box = np.s_[y : y + height, x : x + width]
    return values[box][mask[box]]


def _of_class(image: ImageMatches, label: int) -> ImageMatches:
    """Return the objects of one class."""
    true, predicted = image.true_labels == label, image.labels == label
    return ImageMatches(
        image.true_labels[true],
        image.true_areas[true],
        image.is_group[true],
        image.labels[predicted],
        image.scores[predicted],
        image.areas[predicted],
        image.void[predicted],
        image.shared[np.ix_(predicted, true)],
    )


def _as_one_class(image: ImageMatches) -> ImageMatches:
    """Return all objects as of one class, of which a picture has one group at most."""
    single, group = ~image.is_group, image.is_group
    if not group.any():
        return image
    return ImageMatches(
        np.append(image.true_labels[single], 0),
        np.append(image.true_areas[single], image.true_areas[group].sum()),
        np.append(image.is_group[single], True),
        image.labels,
        image.scores,
        image.areas,
        image.void,
        np.column_stack([image.shared[:, single], image.shared[:, group].sum(axis=1)]),
    )


@dataclass(frozen=True)
class _Verdicts:
    """What became of the objects of one class in one image, for `O` overlap thresholds.

    Attributes:
        found: Best score that found each of the `T` that count, -inf where it is missed, `O T`.
        is_false: Which predictions are false positives, `O P`.
        scores: Of the predictions, `P`.
    """

    found: np.ndarray
    is_false: np.ndarray
    scores: np.ndarray


def _judge(image: ImageMatches) -> _Verdicts:
    """Judge the objects of one image, all of one class."""
    small = image.true_areas < MIN_AREA
    counted = ~image.is_group & ~small
    shared, areas = image.shared[:, counted], image.true_areas[counted]
    union = areas + image.areas[:, None] - shared
    hits = shared / union > OVERLAPS[:, None, None]  # strictly above, `O P T`
    found = np.where(hits, image.scores[:, None], -np.inf)
    is_hit = hits.any(axis=2)
    surplus = np.array(is_hit)
    if found.size:
        threshold, true = np.nonzero(hits.any(axis=1))
        surplus[threshold, found.argmax(axis=1)[threshold, true]] = False
    # A small group counts twice, as in the benchmark. What matches a group needs no case of its
    # own: more than t of it lies on that group.
    doubtful = [image.shared[:, which].sum(axis=1) for which in (image.is_group, small)]
    ignored = (image.void + doubtful[0] + doubtful[1]) / image.areas
    is_false = np.where(is_hit, surplus, ignored <= OVERLAPS[:, None])
    return _Verdicts(found.max(axis=1, initial=-np.inf), is_false, image.scores)


def _precisions(images: Sequence[ImageMatches]) -> np.ndarray | None:
    """Return the average precision of one class at each overlap; None without a true object."""
    verdicts = [_judge(image) for image in images if image.true_areas.size or image.areas.size]
    if not any(v.found.size for v in verdicts):
        return None
    found = np.concatenate([v.found for v in verdicts], axis=1)
    is_false = np.concatenate([v.is_false for v in verdicts], axis=1)
    scores = np.concatenate([v.scores for v in verdicts])
    return np.array(
        [
            _area_under_curve(true[true > -np.inf], scores[false], true.size)
            for true, false in zip(found, is_false, strict=True)
        ]
    )


def _area_under_curve(true: np.ndarray, false: np.ndarray, num_objects: int) -> float:
    """Return the area under precision over recall.

    The curve has a point for each score, from the lowest on, and (recall 0, precision 1). The step
    of a point is half the way from the recall before to that after; at both ends the recall stays.

    Args:
        true: Scores of the predictions that found an object.
        false: Scores of the false positives.
        num_objects: True objects, found or not.
    """
    scores = np.unique(np.concatenate([true, false]))
    tp, fp = (s.size - np.searchsorted(np.sort(s), scores, side="left") for s in (true, false))
    precision = np.append(tp / (tp + fp), 1.0)
    recall = np.append(tp / num_objects, 0.0)
    around = np.concatenate([recall[:1], recall, [0.0]])
    return float(precision @ ((around[:-2] - around[2:]) / 2))


def _both_scores(precisions: np.ndarray | None, absent: Absent) -> dict[str, Score]:
    if precisions is None:
        return dict.fromkeys(("ap", "ap50"), 0.0 if absent == "zero" else None)
    return {"ap": float(precisions.mean()), "ap50": float(precisions[0])}
