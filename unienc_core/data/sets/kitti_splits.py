"""Lists of KITTI frames: files that the user names, and the drives that the Eigen split tests on.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from unienc_core.errors import DataError
from unienc_core.tables import read_table

MAX_LIST_BYTES = 64 << 20
SIDES = {"l": 2, "r": 3}
"""Letter of a split file to colour camera."""

_WORDS = re.compile(r"(?:\d{4}_\d\d_\d\d/)?(\d{4}_\d\d_\d\d_drive_\d{4})(?:_sync)?")
_PATH = re.compile(
    r"(?:.*/)?(\d{4}_\d\d_\d\d_drive_\d{4})(?:_sync|_extract)?/(?:.*/)?image_0([23])/"
    r"(?:data/)?(\d{1,10})\.(?:png|jpe?g)"
)


@dataclass(frozen=True, order=True)
class ListedFrame:
    """A frame that a split file names.

    Attributes:
        drive: ``2011_09_26_drive_0001``, without ``_sync``.
        camera: 2 (left) or 3 (right).
        frame: Number in its drive.
    """

    drive: str
    camera: int
    frame: int


def read_split(path: Path) -> list[ListedFrame]:
    """Read a split file, sorted and without repetitions.

    A line is ``DATE/DRIVE_sync FRAME l|r`` (without a side: left), as the splits of the
    self-supervised depth papers have it, or the path of an image, of which what follows is
    ignored.

    Raises:
        DataError: If it is missing, empty, or a line is neither.
    """
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise DataError(f"{path}: larger than {MAX_LIST_BYTES} bytes, no split file")
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: no such split file") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    found = {
        _parse(line, f"{path}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.startswith("#")
    }
    if not found:
        raise DataError(f"{path}: names no frame; expected lines like {_EXAMPLE}")
    return sorted(found)


_EXAMPLE = "'2011_09_26/2011_09_26_drive_0001_sync 0000000005 l'"


def _parse(line: str, where: str) -> ListedFrame:
    words = line.split()
    image = _PATH.fullmatch(words[0])
    if image:
        return ListedFrame(image[1], int(image[2]), int(image[3]))
    drive = _WORDS.fullmatch(words[0])
    side = words[2] if len(words) > 2 else "l"
    # KITTI's frames have ten digits at most; more would not be a number to count with.
    if not (drive and len(words) > 1 and re.fullmatch(r"[0-9]{1,10}", words[1]) and side in SIDES):
        raise DataError(f"{where}: found '{line.strip()[:80]}', expected a line like {_EXAMPLE}")
    return ListedFrame(drive[1], SIDES[side], int(words[1]))


@cache
def eigen_test_drives() -> frozenset[str]:
    """Return the 28 drives that the Eigen split tests on; the table names its source."""
    table = read_table("unienc_core.data.sets", "kitti_eigen_test_drives.csv")
    return frozenset(row["drive"] for row in table)
