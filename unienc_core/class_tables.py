"""Class tables: what the ids of any labelled data set mean, for evaluators and drawings.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import colorsys
from collections import Counter
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from unienc_core.classes import IGNORE_TRAIN_ID, INSTANCE_FACTOR, LABELS
from unienc_core.errors import DataError, PresetError
from unienc_core.safe_yaml import MAX_YAML_BYTES, parse_yaml
from unienc_core.strict import validate_strictly

MOST_ID = 255
"""Label ids are stored in 8 bits."""

_Byte = Annotated[int, Field(ge=0, le=255)]


@dataclass(frozen=True)
class ClassEntry:
    """One class of a table.

    Attributes:
        id: Label id.
        name: Class name.
        color: R, G, B in 0..255.
        category: Name of the group that it belongs to.
        has_instances: Whether single objects are told apart.
        ignored: Whether it is left out of every score.
        average_size: Mean area of an instance, px, for iIoU; None where unknown.
    """

    id: int
    name: str
    color: tuple[int, int, int]
    category: str
    has_instances: bool = False
    ignored: bool = False
    average_size: float | None = None

    @property
    def is_thing(self) -> bool:
        """Whether this is an evaluated class with instances."""
        return self.has_instances and not self.ignored


@dataclass(frozen=True)
class ClassTable:
    """All classes of a data set, by id.

    Attributes:
        name: Of the data set.
        classes: Each id once, ascending, all in 0..255.
        instance_factor: An instance id is ``label id * instance_factor + k``; a smaller value is
            the label id of stuff or of a crowd.
    """

    name: str
    classes: tuple[ClassEntry, ...]
    instance_factor: int = INSTANCE_FACTOR

    @cached_property
    def by_id(self) -> dict[int, ClassEntry]:
        """The classes by their label ids."""
        return {entry.id: entry for entry in self.classes}

    @cached_property
    def evaluated(self) -> tuple[ClassEntry, ...]:
        """The classes that count."""
        return tuple(entry for entry in self.classes if not entry.ignored)

    @cached_property
    def things(self) -> tuple[ClassEntry, ...]:
        """The evaluated classes with instances."""
        return tuple(entry for entry in self.evaluated if entry.is_thing)

    @cached_property
    def train_ids(self) -> np.ndarray:
        """Label id to training id, its place in `evaluated`, 256 uint8; 255 for all others."""
        ids = np.full(MOST_ID + 1, IGNORE_TRAIN_ID, np.uint8)
        for place, entry in enumerate(self.evaluated):
            ids[entry.id] = place
        return ids

    def first_id(self, label_id: int) -> int:
        """Return the id of the first instance of a class; the others follow.

        Since 0 is void, a class of label id 0 counts as one beyond all others.
        """
        return (label_id or MOST_ID + 1) * self.instance_factor

    @cached_property
    def palette(self) -> np.ndarray:
        """`256 3` uint8 RGB by label id; black where there is no class."""
        palette = np.zeros((MOST_ID + 1, 3), np.uint8)
        for entry in self.classes:
            palette[entry.id] = entry.color
        return palette


@cache
def cityscapes_table() -> ClassTable:
    """Return the 34 drawn labels of Cityscapes, 19 of them evaluated, 8 of these things."""
    return ClassTable(
        "cityscapes",
        tuple(
            ClassEntry(
                id=label.id,
                name=label.name,
                color=label.color,
                category=label.category,
                has_instances=label.has_instances,
                ignored=label.train_id == IGNORE_TRAIN_ID,
                average_size=label.average_size,
            )
            for label in LABELS
            if label.id >= 0  # the licence plate is never drawn
        ),
    )


class ClassSpec(BaseModel):
    """One class, as a file or a preset says it; see `load_class_table`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: int = Field(ge=0, le=MOST_ID)
    name: str = Field(min_length=1)
    color: tuple[_Byte, _Byte, _Byte] | None = None
    category: str | None = None
    thing: bool = False
    ignore: bool = False
    average_size: float | None = Field(default=None, gt=0)


class ClassTableSpec(BaseModel):
    """A class table, as a file or a preset says it; see `load_class_table`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    instance_factor: int = Field(default=INSTANCE_FACTOR, gt=MOST_ID)
    classes: tuple[ClassSpec, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _tells_classes_apart(self) -> ClassTableSpec:
        for what in ("id", "name"):
            ((value, times),) = Counter(getattr(c, what) for c in self.classes).most_common(1)
            if times > 1:
                raise ValueError(f"{times} classes have the {what} {value}, expected one")
        if all(c.ignore for c in self.classes):
            raise ValueError("every class is ignored, so there is nothing to score")
        return self

    def table(self) -> ClassTable:
        """Return the table, in the order of its ids."""
        ordered = sorted(self.classes, key=lambda c: c.id)
        return ClassTable(
            self.name,
            tuple(
                ClassEntry(
                    id=c.id,
                    name=c.name,
                    color=c.color or _distinct_colour(place),
                    category=c.category or c.name,
                    has_instances=c.thing,
                    ignored=c.ignore,
                    average_size=c.average_size,
                )
                for place, c in enumerate(ordered)
            ),
            self.instance_factor,
        )


def load_class_table(path: Path) -> ClassTable:
    """Read the class table of a data set from YAML.

    It reads ``{name: nyu, classes: [{id: 1, name: wall}, {id: 2, name: chair, thing: true}, ...]}``
    where a class may also have `color` (R, G, B; default: one of its own), `category` (default:
    its name), `ignore` and `average_size`.

    Raises:
        DataError: If the file cannot be read, or is no such table.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_YAML_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise DataError(f"{path}: the class table cannot be read ({reason})") from None
    try:
        raw = parse_yaml(text, str(path))
        if not isinstance(raw, dict):
            raise DataError(f"{path}: found no keys, expected a class table: name, classes")
        table = validate_strictly(ClassTableSpec, raw, str(path))
    except PresetError as error:
        raise DataError(str(error)) from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        raise DataError(
            f"{path}: '{where}': {message.lower()}" if where else f"{path}: {message}"
        ) from None
    return table.table()


def _distinct_colour(place: int) -> tuple[int, int, int]:
    """Return one of a series of colours in which neighbours differ much (golden-ratio hues)."""
    hue, value = place * 0.618034 % 1.0, (0.95, 0.7, 0.85)[place % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.65, value)
    return round(255 * red), round(255 * green), round(255 * blue)
