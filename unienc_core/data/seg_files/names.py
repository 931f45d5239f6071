"""Which prediction belongs to which ground truth, told by names as the official scripts do.

A picture is called by its key: ``<city>_<sequence>_<frame>`` in Cityscapes, else the stem of its
ground truth without ``_labelIds`` or ``_instanceIds``. The name of its prediction begins with the
key; predictions may lie in folders of any depth. Panoptic pictures go by the `image_id` of their
documents.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from unienc_core.class_tables import ClassTable
from unienc_core.data.seg_files.label_files import INSTANCES_SUFFIX, LABELS_SUFFIX
from unienc_core.data.seg_files.panoptic_files import (
    PanopticPicture,
    find_document,
    read_document,
)
from unienc_core.errors import DataError

_DEPTHS = ("*", "*/*", "*/*/*")  # as in a split of one city, a split, and a folder of splits
_ANNOTATOR = re.compile(r"_gt(Fine|Coarse)$")


@dataclass(frozen=True)
class SemanticPair:
    """Files of one picture.

    Attributes:
        key: What it is called.
        prediction: PNG of label ids.
        true_labels: PNG of label ids.
        true_instances: PNG of instance ids, or None if there is none.
    """

    key: str
    prediction: Path
    true_labels: Path
    true_instances: Path | None


@dataclass(frozen=True)
class InstancePair:
    """Files of one picture.

    Attributes:
        key: What it is called.
        prediction: Text file that lists the objects.
        true_instances: PNG of instance ids.
    """

    key: str
    prediction: Path
    true_instances: Path


@dataclass(frozen=True)
class PanopticPair:
    """Files of one picture.

    Attributes:
        key: What it is called.
        prediction: Its PNG, with segments.
        truth: Its PNG, with segments, or of instance ids.
    """

    key: str
    prediction: PanopticPicture
    truth: PanopticPicture


PairT = TypeVar("PairT", SemanticPair, InstancePair, PanopticPair)


@dataclass(frozen=True)
class Matches(Generic[PairT]):
    """Ground truth and predictions put together.

    Attributes:
        pairs: In the order of their keys.
        missing: Keys without a prediction, sorted.
        extra: Predictions without ground truth, sorted: files, relative to their folder, or image
            ids.
    """

    pairs: tuple[PairT, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]


def match_semantic(ground_truth: Path, predictions: Path) -> Matches[SemanticPair]:
    """Find the label ids of each picture.

    Args:
        ground_truth: Folder of ``*_labelIds.png``, themselves, by city, or by split and city, of
            which `val` is taken; perhaps with ``*_instanceIds.png`` beside them.
        predictions: Folder of PNGs, of any depth.

    Raises:
        DataError: If a folder is missing or empty, or two files claim one picture.
    """
    labels = _find_truth(ground_truth, LABELS_SUFFIX)
    instances = _beside(labels)
    found = _find_predictions(predictions, ".png", labels)
    pairs = tuple(
        SemanticPair(key, found.by_key[key], labels[key], instances.get(key))
        for key in sorted(found.by_key)
    )
    return Matches(pairs, found.missing, found.extra)


def match_instances(ground_truth: Path, predictions: Path) -> Matches[InstancePair]:
    """Find the objects of each picture.

    Args:
        ground_truth: Folder of ``*_instanceIds.png``, as for `match_semantic`.
        predictions: Folder of ``*.txt``, of any depth.

    Raises:
        DataError: If a folder is missing or empty, or two files claim one picture.
    """
    truth = _find_truth(ground_truth, INSTANCES_SUFFIX)
    found = _find_predictions(predictions, ".txt", truth)
    pairs = tuple(InstancePair(k, found.by_key[k], truth[k]) for k in sorted(found.by_key))
    return Matches(pairs, found.missing, found.extra)


def match_panoptic(
    ground_truth: Path, predictions: Path, table: ClassTable
) -> Matches[PanopticPair]:
    """Find the segments of each picture.

    Args:
        ground_truth: Folder of a panoptic document, or that document, or else a folder of
            ``*_instanceIds.png`` as for `match_semantic`.
        predictions: Folder of a panoptic document, or that document.
        table: The classes.

    Raises:
        DataError: If a folder is missing or empty, or a document cannot be read.
    """
    truth = _panoptic_truth(ground_truth, table)
    document = find_document(_folder(predictions))
    if document is None:
        raise DataError(
            f"{predictions}: found no JSON file, expected a panoptic document with its PNGs"
        )
    predicted = read_document(document, table, truth=False)
    keys = sorted(truth.keys() & predicted.keys())
    return Matches(
        tuple(PanopticPair(key, predicted[key], truth[key]) for key in keys),
        tuple(sorted(truth.keys() - predicted.keys())),
        tuple(sorted(predicted.keys() - truth.keys())),
    )


def _panoptic_truth(ground_truth: Path, table: ClassTable) -> dict[str, PanopticPicture]:
    top = _folder(ground_truth)
    for folder in (top, top / "gtFine"):
        document = find_document(folder)
        if document is not None:
            return read_document(document, table, truth=True)
    files = _find_truth(top, INSTANCES_SUFFIX)
    return {key: PanopticPicture(path, None) for key, path in files.items()}


def _find_truth(top: Path, suffix: str) -> dict[str, Path]:
    """Return the files of that suffix by key."""
    folder = _folder(top)
    for inner in ("gtFine", "val"):  # a data set, its labels, the split that is scored
        if (folder / inner).is_dir():
            folder = folder / inner
    found: dict[str, Path] = {}
    for pattern in _DEPTHS:
        for path in sorted(folder.glob(pattern + suffix)):
            key = _ANNOTATOR.sub("", path.name.removesuffix(suffix))
            if key in found:
                raise DataError(f"{path}: the second ground truth of {key}, beside {found[key]}")
            found[key] = path
    if not found:
        raise DataError(f"{folder}: found no *{suffix}, expected the ground truth of a split")
    return found


def _beside(labels: Mapping[str, Path]) -> dict[str, Path]:
    """Return the images of instance ids that lie beside those of label ids."""
    paths = {
        key: path.with_name(path.name.removesuffix(LABELS_SUFFIX) + INSTANCES_SUFFIX)
        for key, path in labels.items()
    }
    return {key: path for key, path in paths.items() if path.is_file()}


@dataclass(frozen=True)
class _Found:
    by_key: dict[str, Path]
    missing: tuple[str, ...]
    extra: tuple[str, ...]


def _find_predictions(folder: Path, suffix: str, keys: Iterable[str]) -> _Found:
    folder, known = _folder(folder), frozenset(keys)
    by_key: dict[str, Path] = {}
    extra, count = [], 0
    for root, _, names in os.walk(folder):
        for name in names:
            if not name.endswith(suffix):
                continue
            count += 1
            path = Path(root, name)
            key = _key_of(name, known)
            if key is None:
                extra.append(path.relative_to(folder).as_posix())
            elif key in by_key:
                first, second = sorted((by_key[key], path))
                raise DataError(f"{second}: the second prediction of {key}, beside {first}")
            else:
                by_key[key] = path
    if not count:
        raise DataError(f"{folder}: found no *{suffix}, expected predictions")
    return _Found(by_key, tuple(sorted(known - by_key.keys())), tuple(sorted(extra)))


def _key_of(name: str, keys: frozenset[str]) -> str | None:
    """Return the longest key that a file name begins with, at the border of a word."""
    for end in range(len(name) - 1, 0, -1):
        if not (name[end].isalnum() and name[end - 1].isalnum()) and name[:end] in keys:
            return name[:end]
    return None


def _folder(path: Path) -> Path:
    if not path.exists():
        raise DataError(f"{path}: no such folder")
    return path
