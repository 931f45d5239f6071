"""Where evaluated segmentations come from, and one such source: two folders of files.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from unienc_core.class_tables import ClassTable
from unienc_core.data.seg_files.instance_files import read_instances
from unienc_core.data.seg_files.label_files import read_instance_ids, read_label_ids
from unienc_core.data.seg_files.names import (
    InstancePair,
    Matches,
    PanopticPair,
    SemanticPair,
    match_instances,
    match_panoptic,
    match_semantic,
)
from unienc_core.data.sets.cityscapes_files import IMAGES, LABELS
from unienc_core.data.sets.pictures import read_picture
from unienc_core.data.worker_pool import make_pool
from unienc_core.errors import DataError
from unienc_core.metrics.panoptic_quality import instance_segments
from unienc_core.workflows.seg_samples import (
    Prediction,
    ScoredImage,
    SegSample,
    Task,
    Truth,
    score_sample,
)

Pair = PanopticPair | InstancePair | SemanticPair


class SegSource(Protocol):
    """Pictures to score."""

    def __len__(self) -> int:
        """Return their number."""
        ...

    def check(self) -> None:
        """Score the first one and keep nothing: most of what can be wrong shows there."""
        ...

    def scores(self, with_confusion: bool) -> Iterator[tuple[int, ScoredImage]]:
        """Score all of them once, and yield each with its position as it is finished."""
        ...

    def sample(self, index: int) -> SegSample:
        """Read one of them again, with its image where that is known."""
        ...


class _Folders(NamedTuple):
    """What is needed to read a pair of files, in any process."""

    task: Task
    table: ClassTable
    predictions: Path


class FolderSource:
    """Predictions of anyone as files, next to ground truth.

    Args:
        predictions: Folder of predictions, or a panoptic document.
        ground_truth: Folder of ground truth, or a panoptic document.
        task: What is scored.
        table: The classes.
        workers: Processes.

    Raises:
        DataError: If a folder is missing or empty, two files claim one picture, or a panoptic
            document cannot be read.
    """

    def __init__(
        self, predictions: Path, ground_truth: Path, task: Task, table: ClassTable, workers: int
    ) -> None:
        matches: Matches[PanopticPair] | Matches[InstancePair] | Matches[SemanticPair]
        if task == "panoptic":
            matches = match_panoptic(ground_truth, predictions, table)
        elif task == "instance":
            matches = match_instances(ground_truth, predictions)
        else:
            matches = match_semantic(ground_truth, predictions)
        self._pairs, self._workers = matches.pairs, workers
        self.missing, self.extra = matches.missing, matches.extra
        self._folders = _Folders(task, table, predictions)

    def __len__(self) -> int:
        """Return the number of pictures with a prediction."""
        return len(self._pairs)

    def check(self) -> None:
        """Score the first picture."""
        _score_pair(self._folders, False, self._pairs[0])

    def scores(self, with_confusion: bool) -> Iterator[tuple[int, ScoredImage]]:
        """Score all pictures, several at a time."""
        score = partial(_score_pair, self._folders, with_confusion)
        workers = min(self._workers, len(self))
        with make_pool(workers, [__name__], may_copy=True) as pool:
            yield from pool.map(score, [(pair,) for pair in self._pairs])

    def sample(self, index: int) -> SegSample:
        """Read a picture; its image is sought where Cityscapes keeps it."""
        return _read_pair(self._folders, self._pairs[index], with_image=True)


def _score_pair(folders: _Folders, with_confusion: bool, pair: Pair) -> ScoredImage:
    return score_sample(_read_pair(folders, pair), folders.task, folders.table, with_confusion)


def _read_pair(folders: _Folders, pair: Pair, *, with_image: bool = False) -> SegSample:
    if isinstance(pair, PanopticPair):
        true_file, segments = pair.truth.path, pair.truth.segments
        ids = pair.truth.read_ids()
        if segments is None:
            segments = instance_segments(ids, folders.table, str(true_file))
        truth = Truth(str(true_file), ids, segments)
        found = pair.prediction
        prediction = Prediction(str(found.path), found.read_ids(), found.segments or ())
    elif isinstance(pair, InstancePair):
        true_file, where = pair.true_instances, str(pair.prediction)
        ids = read_instance_ids(true_file)
        truth = Truth(str(true_file), ids)
        size = (ids.shape[0], ids.shape[1])
        instances = read_instances(pair.prediction, folders.predictions, size, folders.table)
        prediction = Prediction(where, instances=instances)
    else:
        true_file, instances_file = pair.true_labels, pair.true_instances
        ids = None if instances_file is None else read_instance_ids(instances_file)
        truth = Truth(str(true_file), ids, label_ids=read_label_ids(true_file))
        prediction = Prediction(str(pair.prediction), label_ids=read_label_ids(pair.prediction))
    image = _read_image(true_file, pair.key) if with_image else None
    return SegSample(pair.key, truth, prediction, image)


def _read_image(truth: Path, key: str) -> np.ndarray | None:
    """Read the picture that ground truth of Cityscapes belongs to; None where there is none."""
    top = next((p.parent for p in truth.absolute().parents if p.name == LABELS), None)
    found = [] if top is None else sorted((top / IMAGES).glob(f"*/*/{key}_{IMAGES}.png"))
    try:
        return read_picture(found[0]) if found else None
    except DataError:  # nothing that is scored depends on it
        return None
