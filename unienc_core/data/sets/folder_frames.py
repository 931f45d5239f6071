"""The files of a folder and their numbers.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from unienc_core.errors import DataError


def numbered_files(folder: Path, suffixes: Sequence[str]) -> tuple[str, frozenset[int]]:
    """Return the suffix that most files of a folder have, and the numbers these are called by.

    Args:
        folder: It need not exist.
        suffixes: To choose from; the earlier one is taken where two are as frequent.

    Returns:
        The suffix, and the numbers of the files ``<number><suffix>``; none where there are none.
    """
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
    suffix = max(suffixes, key=lambda name: len(found[name]))
    return suffix, frozenset(found[suffix])


def number_names(names: Sequence[str]) -> dict[int, str]:
    """Number the pictures of a folder in the order of time, leaving holes where there are some.

    The last number in a name counts, in units of the step that most neighbours have: pictures
    0, 5, 10, 20 become 0, 1, 2 and 4. Where names have no numbers, or no usual step (times in
    nanoseconds), the pictures are taken to follow each other.

    Args:
        names: File names.
    """
    found = {name: re.findall(r"\d+", Path(name).stem) for name in names}
    numbers = {name: int(parts[-1]) for name, parts in found.items() if parts}
    if len(set(numbers.values())) < len(names):
        return dict(enumerate(sorted(names)))
    ordered = sorted(names, key=lambda name: numbers[name])
    if len(ordered) == 1:
        return {0: ordered[0]}
    first = numbers[ordered[0]]
    steps = Counter(numbers[b] - numbers[a] for a, b in pairwise(ordered))
    step, count = min(steps.items(), key=lambda item: (-item[1], item[0]))
    on_grid = all((numbers[name] - first) % step == 0 for name in ordered)
    if not on_grid or count * 2 < len(ordered) - 1:
        return dict(enumerate(ordered))
    return {(numbers[name] - first) // step: name for name in ordered}
