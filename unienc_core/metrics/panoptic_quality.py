"""Panoptic quality, as the Cityscapes benchmark computes it (Kirillov et al., Eq. 1).

PQ = sum of IoU over matches / (TP + FP / 2 + FN / 2) = SQ RQ, with SQ = sum of IoU / TP. A true
and a predicted segment of one class match where their IoU exceeds 0.5, which no two can do with
the same partner. Void counts for nothing: it is left out of the union, and a prediction that lies
mostly on void, or on a crowd of its class, is no false positive.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unienc_core.class_tables import ClassTable
from unienc_core.errors import DataError
from unienc_core.metrics.joint import check_same_size, joint_areas
from unienc_core.metrics.scores import Absent, Score, Scores, mean_score
from unienc_core.segmentation import VOID, Segment

METRICS = tuple(
    f"{name}{group}" for group in ("", "_things", "_stuff") for name in ("pq", "sq", "rq")
)
"""Names of the metrics; those of a class are the first three."""

MATCH_IOU = 0.5
"""Two segments match above it."""

MOSTLY_VOID = 0.5
"""A prediction of which more than this share is void, or crowd of its class, does not count."""

_MOST_LISTED = 5


@dataclass(frozen=True)
class PanopticCounts:
    """What adds up over images, by position in `ClassTable.evaluated`.

    Attributes:
        iou_sum: Sum of the IoU of the matches, float64.
        tp: Matches, int64.
        fp: Predicted segments without a match, int64.
        fn: True segments without a match, int64.
    """

    iou_sum: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray

    @classmethod
    def zero(cls, table: ClassTable) -> PanopticCounts:
        """Return the counts of no image."""
        size = len(table.evaluated)
        return cls(np.zeros(size), *(np.zeros(size, np.int64) for _ in range(3)))

    def __add__(self, other: PanopticCounts) -> PanopticCounts:
        return PanopticCounts(
            self.iou_sum + other.iou_sum,
            self.tp + other.tp,
            self.fp + other.fp,
            self.fn + other.fn,
        )


def instance_segments(
    instance_ids: np.ndarray, table: ClassTable, where: str = "ground truth"
) -> tuple[Segment, ...]:
    """List the segments of an image of instance ids, those of ignored classes included.

    A plain label id of a class with instances is a crowd; of any other class it is one segment.

    Args:
        instance_ids: `H W`, any integer type: label id x factor + number, or the label id alone.
        table: The classes.
        where: What to call the image in the error.

    Raises:
        DataError: If a value belongs to no class.
    """
    values, areas = joint_areas(instance_ids)
    segments = []
    for value, area in zip(values[:, 0].tolist(), areas.tolist(), strict=True):
        is_plain = value < table.instance_factor
        entry = table.by_id.get(value if is_plain else value // table.instance_factor)
        if entry is None:
            raise DataError(
                f"{where}: holds the id {value}, expected label ids of {table.name} or label id x "
                f"{table.instance_factor} + number; is it an instanceIds image?"
            )
        segments.append(Segment(value, entry.id, is_plain and entry.is_thing, area))
    return tuple(segments)


def count_panoptic(
    predicted_ids: np.ndarray,
    predicted: Sequence[Segment],
    true_ids: np.ndarray,
    true: Sequence[Segment],
    table: ClassTable,
    where: str = "prediction",
    true_where: str = "ground truth",
) -> PanopticCounts:
    """Match the segments of one image and count.

    Args:
        predicted_ids: `H W`, any integer type, segment ids, `VOID` where there is none.
        predicted: What they mean; the recorded areas are not used.
        true_ids: `H W`, any integer type, segment ids.
        true: What they mean. Their recorded areas are taken, not counted. All that belongs to an
            ignored class is void.
        table: The classes.
        where: What to call the prediction in an error.
        true_where: What to call the ground truth in an error.

    Raises:
        DataError: If the sizes differ, the ids of an image are not those of its segments, or a
            class is unknown or, predicted, ignored.
    """
    check_same_size(predicted_ids, true_ids, where, true_where)
    pairs, areas = joint_areas(true_ids, predicted_ids)
    predictions = _by_id(predicted, pairs[:, 1], table, where)
    truths = _by_id(true, pairs[:, 0], table, true_where)
    for segment in predictions.values():
        if table.by_id[segment.category_id].ignored:
            raise DataError(
                f"{where}: segment {segment.id} has the class {segment.category_id} "
                f"({table.by_id[segment.category_id].name}), which is not evaluated; expected an "
                f"evaluated class, or {VOID} (void) in its pixels"
            )
    truths = {i: s for i, s in truths.items() if not table.by_id[s.category_id].ignored}
    return _count(_Overlaps.of(pairs, areas, truths), predictions, truths, table)


def panoptic_quality(counts: PanopticCounts, table: ClassTable, absent: Absent = "skip") -> Scores:
    """Return the scores of all images that were counted.

    Args:
        counts: Their sum.
        table: The classes.
        absent: What a class counts that is neither true nor predicted.

    Returns:
        `METRICS` over all classes, things and stuff; None where no class of a group was scored.
        SQ of a class without a match is 0.
    """
    per_class = {
        entry.name: _class_quality(
            float(counts.iou_sum[n]),
            int(counts.tp[n]),
            int(counts.fp[n]),
            int(counts.fn[n]),
            absent,
        )
        for n, entry in enumerate(table.evaluated)
    }
    groups = {
        "": table.evaluated,
        "_things": table.things,
        "_stuff": [entry for entry in table.evaluated if not entry.is_thing],
    }
    metrics = {
        f"{name}{group}": mean_score(per_class[entry.name][name] for entry in entries)
        for group, entries in groups.items()
        for name in ("pq", "sq", "rq")
    }
    return Scores(metrics, per_class)


@dataclass(frozen=True)
class _Overlaps:
    """How many pixels true and predicted segments share.

    Attributes:
        shared: By true and predicted id, in that order; None as true id means all void.
        areas: Of the predicted segments.
    """

    shared: dict[tuple[int | None, int], int]
    areas: dict[int, int]

    @classmethod
    def of(cls, pairs: np.ndarray, areas: np.ndarray, truths: Mapping[int, Segment]) -> _Overlaps:
        shared: dict[tuple[int | None, int], int] = {}
        totals: dict[int, int] = {}
        for (true_id, predicted_id), area in zip(pairs.tolist(), areas.tolist(), strict=True):
            key = (true_id if true_id in truths else None, predicted_id)
            shared[key] = shared.get(key, 0) + area
            totals[predicted_id] = totals.get(predicted_id, 0) + area
        return cls(shared, totals)


def _count(
    overlaps: _Overlaps,
    predictions: Mapping[int, Segment],
    truths: Mapping[int, Segment],
    table: ClassTable,
) -> PanopticCounts:
    counts = PanopticCounts.zero(table)
    place = {entry.id: number for number, entry in enumerate(table.evaluated)}
    true_matched, predicted_matched = set(), set()
    for (true_id, predicted_id), area in overlaps.shared.items():
        if true_id is None or predicted_id not in predictions:
            continue
        true, predicted = truths[true_id], predictions[predicted_id]
        if true.is_crowd or true.category_id != predicted.category_id:
            continue
        void = overlaps.shared.get((None, predicted_id), 0)
        iou = area / (overlaps.areas[predicted_id] + true.area - area - void)
        if iou > MATCH_IOU:
            counts.iou_sum[place[true.category_id]] += iou
            counts.tp[place[true.category_id]] += 1
            true_matched.add(true_id)
            predicted_matched.add(predicted_id)
    crowds = {s.category_id: s.id for s in truths.values() if s.is_crowd}  # the last one of a class
    for true in truths.values():
        if not true.is_crowd and true.id not in true_matched:
            counts.fn[place[true.category_id]] += 1
    for predicted in predictions.values():
        if predicted.id in predicted_matched:
            continue
        uncounted = overlaps.shared.get((None, predicted.id), 0)
        if predicted.category_id in crowds:
            uncounted += overlaps.shared.get((crowds[predicted.category_id], predicted.id), 0)
        if uncounted / overlaps.areas[predicted.id] <= MOSTLY_VOID:
            counts.fp[place[predicted.category_id]] += 1
    return counts


def _by_id(
    segments: Sequence[Segment], ids: np.ndarray, table: ClassTable, where: str
) -> dict[int, Segment]:
    """Return the segments by id, once they are those of the image and their classes known."""
    by_id = {segment.id: segment for segment in segments}
    found = set(np.unique(ids).tolist())
    for left, holder, lacking in (
        (found - by_id.keys() - {VOID}, "picture", "list of segments"),
        (by_id.keys() - found, "list of segments", "picture"),
    ):
        if left:
            some = ", ".join(str(i) for i in sorted(left)[:_MOST_LISTED])
            more = ", ..." if len(left) > _MOST_LISTED else ""
            raise DataError(
                f"{where}: {len(left)} segment ids are in the {holder} but not in the {lacking}: "
                f"{some}{more}"
            )
    for segment in segments:
        if segment.category_id not in table.by_id:
            raise DataError(
                f"{where}: segment {segment.id} has the class {segment.category_id}, which "
                f"{table.name} does not have; expected label ids, not training ids"
            )
    return by_id


def _class_quality(iou_sum: float, tp: int, fp: int, fn: int, absent: Absent) -> dict[str, Score]:
    if not tp + fp + fn:
        return dict.fromkeys(("pq", "sq", "rq"), 0.0 if absent == "zero" else None)
    whole = tp + 0.5 * fp + 0.5 * fn
    return {"pq": iou_sum / whole, "sq": iou_sum / tp if tp else 0.0, "rq": tp / whole}
