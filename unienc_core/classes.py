"""The Cityscapes label table: ids, training ids, names, categories and colours."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

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
    """

    id: int
    train_id: int
    name: str
    category: str
    has_instances: bool
    color: tuple[int, int, int]

    @property
    def is_thing(self) -> bool:
        """Whether this is an evaluated class with instances."""
        return self.has_instances and self.train_id != IGNORE_TRAIN_ID


_ROWS: Final = """
-1 255 license_plate        vehicle      0   0   0 142
 0 255 unlabeled            void         0   0   0   0
 1 255 ego_vehicle          void         0   0   0   0
 2 255 rectification_border void         0   0   0   0
 3 255 out_of_roi           void         0   0   0   0
 4 255 static               void         0   0   0   0
 5 255 dynamic              void         0 111  74   0
 6 255 ground               void         0  81   0  81
 7   0 road                 flat         0 128  64 128
 8   1 sidewalk             flat         0 244  35 232
 9 255 parking              flat         0 250 170 160
10 255 rail_track           flat         0 230 150 140
11   2 building             construction 0  70  70  70
12   3 wall                 construction 0 102 102 156
13   4 fence                construction 0 190 153 153
14 255 guard_rail           construction 0 180 165 180
15 255 bridge               construction 0 150 100 100
16 255 tunnel               construction 0 150 120  90
17   5 pole                 object       0 153 153 153
18 255 polegroup            object       0 153 153 153
19   6 traffic_light        object       0 250 170  30
20   7 traffic_sign         object       0 220 220   0
21   8 vegetation           nature       0 107 142  35
22   9 terrain              nature       0 152 251 152
23  10 sky                  sky          0  70 130 180
24  11 person               human        1 220  20  60
25  12 rider                human        1 255   0   0
26  13 car                  vehicle      1   0   0 142
27  14 truck                vehicle      1   0   0  70
28  15 bus                  vehicle      1   0  60 100
29 255 caravan              vehicle      1   0   0  90
30 255 trailer              vehicle      1   0   0 110
31  16 train                vehicle      1   0  80 100
32  17 motorcycle           vehicle      1   0   0 230
33  18 bicycle              vehicle      1 119  11  32
"""


def _parse(row: str) -> Label:
    number, train, name, category, instances, r, g, b = row.split()
    return Label(
        id=int(number),
        train_id=int(train),
        name=name.replace("_", " "),
        category=category,
        has_instances=instances == "1",
        color=(int(r), int(g), int(b)),
    )


LABELS: Final[tuple[Label, ...]] = tuple(_parse(row) for row in _ROWS.strip().splitlines())
"""All 35 labels, by id."""

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
