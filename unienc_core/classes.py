"""The Cityscapes label table: ids, training ids, names, categories and colours."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from unienc_core.tables import read_table

IGNORE_TRAIN_ID: Final = 255
"""Training id of every label that is not evaluated."""

INSTANCE_FACTOR: Final = 1000
"""An instance id is ``label id * INSTANCE_FACTOR + k``; a plain label id is stuff or a crowd."""


@dataclass(frozen=True)
class Label:
    """One row of the label table.

    Attributes:
        id: Label id as stored in ``labelIds`` images; -1 for the licence plate, never drawn.
        train_id: 0..18 for the evaluated classes, else `IGNORE_TRAIN_ID`.
        name: Class name.
        category: One of the eight groups, "void" included.
        has_instances: Whether single objects are told apart.
        color: R, G, B in 0..255.
        average_size: Mean area of an instance in the training split, px; None where unknown.
    """

    id: int
    train_id: int
    name: str
    category: str
    has_instances: bool
    color: tuple[int, int, int]
    average_size: float | None

    @property
    def is_thing(self) -> bool:
        """Whether this is an evaluated class with instances."""
        return self.has_instances and self.train_id != IGNORE_TRAIN_ID


def _label(row: dict[str, str]) -> Label:
    return Label(
        id=int(row["id"]),
        train_id=int(row["train_id"]),
        name=row["name"],
        category=row["category"],
        has_instances=row["instances"] == "1",
        color=(int(row["red"]), int(row["green"]), int(row["blue"])),
        average_size=float(row["average_size"]) if row["average_size"] else None,
    )


LABELS: Final[tuple[Label, ...]] = tuple(
    _label(row) for row in read_table("unienc_core", "cityscapes_labels.csv")
)
"""All 35 labels, by id; the table names its source."""

LABEL_BY_NAME: Final = MappingProxyType({label.name: label for label in LABELS})
TRAIN_LABELS: Final[tuple[Label, ...]] = tuple(
    sorted((x for x in LABELS if x.train_id != IGNORE_TRAIN_ID), key=lambda x: x.train_id)
)
"""The 19 evaluated labels in the order of their training ids."""

TRAIN_NAMES: Final[tuple[str, ...]] = tuple(label.name for label in TRAIN_LABELS)
THING_TRAIN_IDS: Final[tuple[int, ...]] = tuple(x.train_id for x in TRAIN_LABELS if x.is_thing)
STUFF_TRAIN_IDS: Final[tuple[int, ...]] = tuple(x.train_id for x in TRAIN_LABELS if not x.is_thing)
NUM_TRAIN_CLASSES: Final = len(TRAIN_LABELS)


def id_to_train_id() -> np.ndarray:
    """Return a look-up table of 256 uint8: label id to training id, 255 where ignored."""
    table = np.full(256, IGNORE_TRAIN_ID, np.uint8)
    for label in LABELS:
        if label.id >= 0:
            table[label.id] = label.train_id
    return table


def train_id_to_id() -> np.ndarray:
    """Return a look-up table of 256 uint8: training id to label id, 0 where ignored."""
    table = np.zeros(256, np.uint8)
    for label in TRAIN_LABELS:
        table[label.train_id] = label.id
    return table


def train_palette() -> np.ndarray:
    """Return `256 3` uint8 RGB colours by training id; ignored ones are black."""
    palette = np.zeros((256, 3), np.uint8)
    for label in TRAIN_LABELS:
        palette[label.train_id] = label.color
    return palette


def id_palette() -> np.ndarray:
    """Return `256 3` uint8 RGB colours by label id; unknown ids are black."""
    palette = np.zeros((256, 3), np.uint8)
    for label in LABELS:
        if label.id >= 0:
            palette[label.id] = label.color
    return palette
