"""The files of a folder and their numbers.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from unienc_core.data.sets.listing import Listing
from unienc_core.errors import DataError

_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)*)")
_DECIMAL = re.compile(r"[0-9]+\.[0-9]+")

_Key = tuple[str | int | Fraction, ...]
"""A name taken apart: text and numbers by turns, so that names compare part by part."""


def numbered_files(folder: Path, suffixes: Sequence[str]) -> tuple[str, frozenset[int]]:
    """Return the suffix that most files of a folder have, and the numbers these are called by.

    Args:
        folder: It need not exist.
        suffixes: To choose from; the earlier one is taken where two are as frequent.

    Returns:
        The suffix, and the numbers of the files ``<number><suffix>``; none where there are none.
    """
    found = _numbers(folder, suffixes)
    suffix = _most(found)
    return suffix, frozenset(found[suffix])


def numbered_pictures(
    folder: Path, suffixes: Sequence[str], label: str, listing: Listing
) -> tuple[str, frozenset[int]]:
    """Return what `numbered_files` does, and report the pictures that are of another suffix only.

    Args:
        folder: It need not exist.
        suffixes: To choose from.
        label: What to call the folder in the report.
        listing: Takes the report.
    """
    found = _numbers(folder, suffixes)
    suffix = _most(found)
    for other, numbers in found.items():
        alone = [f"{label}/{number}" for number in sorted(numbers - found[suffix])]
        listing.drop(f"{other} in a folder of mostly {suffix}", alone)
    return suffix, frozenset(found[suffix])


def _numbers(folder: Path, suffixes: Sequence[str]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {suffix: set() for suffix in suffixes}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, dot, kind = entry.name.rpartition(".")
                suffix = dot + kind
                if suffix in found and stem.isascii() and stem.isdigit():
                    found[suffix].add(int(stem))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from None
    return found


def _most(found: Mapping[str, Collection[int]]) -> str:
    return max(found, key=lambda suffix: len(found[suffix]))


@dataclass(frozen=True)
class NumberedNames:
    """Pictures of a folder in the order of time.

    Attributes:
        names: Number to file name; numbers that are missing are pictures that are missing.
        has_step: Whether the names tell which are missing; if not, they follow each other.
    """

    names: dict[int, str]
    has_step: bool


def number_names(names: Sequence[str]) -> NumberedNames:
    """Number the pictures of a folder in the order of time, leaving holes where there are some.

    Names are compared part by part, every number in them as a number: ``2`` is before ``10``,
    ``12-59-57`` before ``13-00-00``, and ``0.5`` is one number. The first of the numbers that grows
    from every picture to the next counts, in units of the step that most neighbours have: pictures
    0, 5, 10, 20 become 0, 1, 2 and 4. Where no number has a usual step (times of a jittering
    clock), the pictures are taken to follow each other.

    Args:
        names: File names.
    """
    decimal = _has_decimals(names)
    keys = {name: _key(Path(name).stem, decimal) for name in names}
    ordered = sorted(names, key=lambda name: (keys[name], name))
    texts = {keys[name][0::2] for name in names}
    if len(ordered) > 1 and len(texts) == 1:
        columns = list(zip(*(keys[name][1::2] for name in ordered), strict=True))
        for column in columns:
            numbers = _in_steps([number for number in column if not isinstance(number, str)])
            if numbers:
                return NumberedNames(dict(zip(numbers, ordered, strict=True)), True)
    return NumberedNames(dict(enumerate(ordered)), len(ordered) == 1)


def _has_decimals(names: Sequence[str]) -> bool:
    """Say whether ``1.5`` is one number in these names: a clip's ``1.9`` comes before ``1.10``."""
    found = [text for name in names for text in _NUMBER.findall(Path(name).stem)]
    fractions = [text.split(".")[1] for text in found if _DECIMAL.fullmatch(text)]
    # Programs that drop the zeros at the end of a fraction drop all of them.
    same_width = len({len(fraction) for fraction in fractions}) == 1
    return same_width or not any(f.endswith("0") and f != "0" for f in fractions)


def _key(stem: str, decimal: bool) -> _Key:
    """Take a name apart into text, number, text, ..., text."""
    parts: list[str | int | Fraction] = []
    for place, part in enumerate(_NUMBER.split(stem)):
        if place % 2 == 0:
            parts.append(part)
        elif decimal and _DECIMAL.fullmatch(part):
            parts.append(Fraction(part))
        else:
            whole = part.split(".")
            parts.append(int(whole[0]))
            for number in whole[1:]:
                parts += [".", int(number)]
    return tuple(parts)


def _in_steps(numbers: Sequence[int | Fraction]) -> list[int]:
    """Return numbers in units of their usual step, the first as 0; none if there is none."""
    steps = Counter(b - a for a, b in pairwise(numbers))
    step, count = min(steps.items(), key=lambda item: (-item[1], item[0]))
    if min(steps) <= 0:
        return []
    places = [Fraction(number - numbers[0], step) for number in numbers]
    if count * 2 < len(numbers) - 1 or any(p.denominator > 1 for p in places):
        return []
    return [int(place) for place in places]
