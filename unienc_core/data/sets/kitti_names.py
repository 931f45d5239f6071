"""How KITTI calls the files of a folder: by their numbers, written in a fixed number of digits."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from unienc_core.errors import DataError

RAW_DIGITS, ODOMETRY_DIGITS = 10, 6


def check_names(folder: Path, suffix: str, numbers: Collection[int], digits: int) -> None:
    """Refuse files whose numbers are written in another number of digits than KITTI's.

    Args:
        folder: That holds them.
        suffix: Of the files.
        numbers: Those to be read.
        digits: Of a name.

    Raises:
        DataError: If one has another name, with what it was found to be.
    """
    if not numbers:
        return
    names = {path.name for path in folder.iterdir()}
    for number in sorted(numbers):
        expected = f"{number:0{digits}d}{suffix}"
        if expected not in names:
            stems = {name: name.removesuffix(suffix) for name in sorted(names)}
            alike = (n for n, stem in stems.items() if stem.isdecimal() and int(stem) == number)
            raise DataError(
                f"{folder}: found {next(alike, f'no {expected}')}, expected names of {digits} "
                f"digits, as {expected}; rename the files as the set has them"
            )
