"""Segmentations of the frames of a store, by a network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from unienc_core.checkpoint import Checkpoint
from unienc_core.class_tables import ClassTable
from unienc_core.data.keys import LABEL_ID
from unienc_core.data.store import Store
from unienc_core.errors import DataError, UsageError
from unienc_core.metrics.panoptic_quality import instance_segments
from unienc_core.segmentation import Segmentation
from unienc_core.workflows.seg_export import SegExport
from unienc_core.workflows.seg_samples import (
    Prediction,
    ScoredImage,
    SegSample,
    Task,
    Truth,
    score_sample,
)

if TYPE_CHECKING:
    from unienc_core.inference.predictor import Predictor

STORE_KEYS = ("image", "semantic", "instance")


class SegmentationPredictor(Protocol):
    """Segments pictures."""

    @property
    def classes(self) -> ClassTable:
        """What its label ids mean."""
        ...

    def segment(self, image: np.ndarray) -> Segmentation:
        """Segment a picture.

        Args:
            image: `H W 3`, uint8, RGB.

        Returns:
            The three tasks, or those that it can, of that size.
        """
        ...


@dataclass(frozen=True)
class _ForOneTask:
    """A network that is asked for no more than what is scored."""

    network: Predictor
    task: Task

    @property
    def classes(self) -> ClassTable:
        return self.network.classes

    def segment(self, image: np.ndarray) -> Segmentation:
        return self.network.segment(image, (self.task,))


def network_predictor(
    checkpoint: Checkpoint, task: Task, device: str = "auto"
) -> SegmentationPredictor:
    """Return the network of a checkpoint, for one task.

    Raises:
        UsageError: If it does not segment, or there is no such device.
        CheckpointError: If it is damaged.
    """
    from unienc_core.inference.predictor import predictor_from  # folders need no network

    network = predictor_from(checkpoint, device)
    if task not in network.outputs:
        raise UsageError(
            f"{checkpoint.path}: the network of this checkpoint has no segmentation head"
        )
    return _ForOneTask(network, task)


class StoreSource:
    """The frames of a store, segmented by a network one at a time.

    Args:
        store: Holds `STORE_KEYS`.
        predictor: The network.
        task: What is scored.
        table: The classes.
        export: Where predictions are kept, if anywhere.

    Raises:
        DataError: If the store lacks one of them, or holds no label ids.
    """

    def __init__(
        self,
        store: Store,
        predictor: SegmentationPredictor,
        task: Task,
        table: ClassTable,
        export: SegExport | None = None,
    ) -> None:
        store.require(STORE_KEYS)
        unit = store.keys["semantic"].unit
        if unit != LABEL_ID:
            raise DataError(f"{store.path}: 'semantic' is in {unit}, expected {LABEL_ID}")
        self._store, self._predictor, self._export = store, predictor, export
        self._task: Task = task
        self._table = table
        self._frames = [(d, n) for d, i in enumerate(store.drives) for n in range(i.num_frames)]

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._frames)

    def check(self) -> None:
        """Score the first frame."""
        score_sample(self.sample(0), self._task, self._table)

    def scores(self, with_confusion: bool) -> Iterator[tuple[int, ScoredImage]]:
        """Score all frames in order, and keep the predictions where that is asked for."""
        for index in range(len(self)):
            sample = self.sample(index)
            if self._export is not None:
                self._export.add(sample.name, sample.prediction)
            yield index, score_sample(sample, self._task, self._table, with_confusion)
        if self._export is not None:
            self._export.finish()

    def sample(self, index: int) -> SegSample:
        """Read a frame and segment it."""
        drive, number = self._frames[index]
        frame = self._store.frame(drive, number, STORE_KEYS)
        where = f"{self._store.path}: frame {number} of {self._store.drives[drive].name}"
        truth = Truth(where, frame["instance"], label_ids=frame["semantic"])
        if self._task == "panoptic":
            segments = instance_segments(frame["instance"], self._table, where)
            truth = Truth(where, frame["instance"], segments)
        found = self._predictor.segment(frame["image"])
        prediction = _prediction(found, self._task, f"prediction of {where}")
        return SegSample(self._name(drive, number), truth, prediction, frame["image"])

    def _name(self, drive: int, number: int) -> str:
        """Name a frame as Cityscapes does, and as the city is exported: set, sequence, frame."""
        attrs = self._store.drives[drive].attrs
        city, sequence, first = (attrs.get(key) for key in ("city", "sequence", "first_frame"))
        if not (isinstance(city, str) and isinstance(sequence, int) and isinstance(first, int)):
            city = re.sub(r"[^0-9A-Za-z]", "", self._store.manifest["source"]) or "store"
            sequence, first = drive, 0
        return f"{city}_{sequence:06d}_{first + number:06d}"


def _prediction(found: Segmentation, task: Task, where: str) -> Prediction:
    """Take the part that a task needs.

    Raises:
        UsageError: If the predictor does not give it.
    """
    if task == "panoptic" and found.panoptic_ids is not None and found.segments is not None:
        return Prediction(where, found.panoptic_ids, found.segments)
    if task == "instance" and found.instances is not None:
        return Prediction(where, instances=found.instances)
    if task == "semantic" and found.label_ids is not None:
        return Prediction(where, label_ids=found.label_ids)
    raise UsageError(f"the predictor gives no {task} segmentation; choose another --task")
