"""One picture of a segmentation evaluation: what is true, what was predicted, how they compare.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import numpy as np

from unienc_core.class_tables import ClassTable
from unienc_core.metrics import instance_ap, panoptic_quality, semantic_iou
from unienc_core.metrics.instance_ap import ImageMatches
from unienc_core.metrics.joint import joint_areas
from unienc_core.metrics.panoptic_quality import PanopticCounts
from unienc_core.metrics.scores import Absent, Scores
from unienc_core.metrics.semantic_iou import SemanticCounts
from unienc_core.segmentation import Instance, Segment

Task = Literal["panoptic", "instance", "semantic"]
TASKS: tuple[Task, ...] = ("panoptic", "instance", "semantic")

METRICS: dict[Task, tuple[str, ...]] = {
    "panoptic": panoptic_quality.METRICS,
    "instance": instance_ap.METRICS,
    "semantic": semantic_iou.METRICS,
}
"""Names of the metrics of each task; the first one ranks pictures."""

Counts = PanopticCounts | ImageMatches | SemanticCounts


@dataclass(frozen=True)
class Truth:
    """The ground truth of a picture; which parts there are depends on the task.

    Attributes:
        where: What to call it in errors.
        ids: `H W`: segment ids (panoptic), instance ids (instance; semantic, where known).
        segments: What segment ids mean (panoptic).
        label_ids: `H W`, label ids (semantic).
    """

    where: str
    ids: np.ndarray | None = None
    segments: Sequence[Segment] = ()
    label_ids: np.ndarray | None = None


@dataclass(frozen=True)
class Prediction:
    """What was predicted for a picture; which parts there are depends on the task.

    Attributes:
        where: What to call it in errors.
        ids: `H W`, segment ids (panoptic).
        segments: What they mean (panoptic).
        label_ids: `H W`, label ids (semantic).
        instances: Objects, to be taken once and one by one (instance).
    """

    where: str
    ids: np.ndarray | None = None
    segments: Sequence[Segment] = ()
    label_ids: np.ndarray | None = None
    instances: Iterable[Instance] = ()


@dataclass(frozen=True)
class SegSample:
    """One picture to score.

    Attributes:
        name: File or frame.
        truth: Its ground truth.
        prediction: What was predicted.
        image: `H W 3`, uint8 RGB, where known.
    """

    name: str
    truth: Truth
    prediction: Prediction
    image: np.ndarray | None = None


class ScoredImage(NamedTuple):
    """What of one picture goes into the scores.

    Attributes:
        counts: For the metric of the task.
        size: Height and width.
        confusion: Panoptic, if asked for: `E+1 E+1` int64, see `pixel_confusion`.
    """

    counts: Counts
    size: tuple[int, int]
    confusion: np.ndarray | None = None


def score_sample(
    sample: SegSample, task: Task, table: ClassTable, with_confusion: bool = False
) -> ScoredImage:
    """Compare the prediction of one picture with its ground truth.

    Args:
        sample: The picture, with the parts that the task needs.
        task: What is scored.
        table: The classes.
        with_confusion: Count pixels by class, too, where the metric does not anyway.

    Raises:
        DataError: If the two do not fit each other or the table.
    """
    truth, found = sample.truth, sample.prediction
    if task == "instance":
        assert truth.ids is not None
        counts = instance_ap.match_image(
            found.instances, truth.ids, table, found.where, truth.where
        )
        return ScoredImage(counts, _size(truth.ids))
    if task == "semantic":
        assert truth.label_ids is not None
        assert found.label_ids is not None
        counts = semantic_iou.count_semantic(
            found.label_ids, truth.label_ids, truth.ids, table, found.where, truth.where
        )
        return ScoredImage(counts, _size(truth.label_ids))
    assert truth.ids is not None
    assert found.ids is not None
    counts = panoptic_quality.count_panoptic(
        found.ids, found.segments, truth.ids, truth.segments, table, found.where, truth.where
    )
    confusion = pixel_confusion(sample, table) if with_confusion else None
    return ScoredImage(counts, _size(truth.ids), confusion)


def total_scores(
    counts: Sequence[Counts], task: Task, table: ClassTable, absent: Absent = "skip"
) -> Scores:
    """Return the scores of pictures, whose counts are added up in their order."""
    if task == "panoptic":
        summed = sum(cast(Sequence[PanopticCounts], counts), PanopticCounts.zero(table))
        return panoptic_quality.panoptic_quality(summed, table, absent)
    if task == "semantic":
        added = sum(cast(Sequence[SemanticCounts], counts), SemanticCounts.zero(table))
        return semantic_iou.semantic_iou(added, table, absent)
    return instance_ap.average_precision(cast(Sequence[ImageMatches], counts), table, absent)


def pixel_confusion(sample: SegSample, table: ClassTable) -> np.ndarray:
    """Count the pixels of a panoptic picture by true and predicted class.

    Returns:
        `E+1 E+1` int64, true class by predicted class, by position in `ClassTable.evaluated`; the
        last row and column are void.
    """
    truth, found = sample.truth, sample.prediction
    assert truth.ids is not None
    assert found.ids is not None
    place = {entry.id: number for number, entry in enumerate(table.evaluated)}
    void = len(place)
    rows, columns = (
        {segment.id: place.get(segment.category_id, void) for segment in segments}
        for segments in (truth.segments, found.segments)
    )
    confusion = np.zeros((void + 1, void + 1), np.int64)
    pairs, areas = joint_areas(truth.ids, found.ids)
    for (true_id, found_id), area in zip(pairs.tolist(), areas.tolist(), strict=True):
        confusion[rows.get(true_id, void), columns.get(found_id, void)] += area
    return confusion


def _size(values: np.ndarray) -> tuple[int, int]:
    return values.shape[0], values.shape[1]
