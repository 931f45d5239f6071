"""Sully Chen's driving set: numbered pictures, and the angle of the steering wheel in degrees.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from unienc_core.data.sets.folder_frames import numbered_files
from unienc_core.data.sets.listing import Listing, missing_tree
from unienc_core.data.sets.measured import Labels
from unienc_core.data.sets.recording import PictureFiles, Recording
from unienc_core.data.sets.recordings import RecordingsRequest, add_recordings
from unienc_core.data.sets.tables import read_lines
from unienc_core.data.steering import WHEEL_DEG
from unienc_core.errors import DataError, UsageError

LABELS = "data.txt"
FPS = 30.0
"""Nominal rate of the first edition, which has no times."""

_TREE = (f"{LABELS} with <number>.jpg beside it or in data/", f"or driving_dataset/{LABELS}")
_LINE = re.compile(
    r"(\d{1,9})\.jpg[\s,]+([-+.\deE]+)(?:[\s,]+(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d):(\d{1,3}))?",
    re.ASCII,
)


def list_sullychen(root: Path, request: RecordingsRequest, fps: float | None = None) -> Listing:
    """List what the set becomes: a drive for each row of pictures without a gap.

    Both editions are read: ``0.jpg 0.000000``, and ``0.jpg 0.000000,2018-07-01 17:09:44:912``,
    whose last number is of milliseconds, not padded. Positive angles turn right, as the
    programs of the set draw them, and are stored negated.

    Args:
        root: Folder of the set, or its file of labels.
        request: What is wanted.
        fps: Frames a second of an edition without times; None for `FPS`.

    Raises:
        DataError: If there is no such file, or it is damaged.
    """
    listing = Listing(root)
    places = (root, root / LABELS, root / "driving_dataset" / LABELS)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise missing_tree(root, "Sully Chen's driving set", _TREE)
    if fps is not None and not 0 < fps <= 1000:
        raise UsageError(f"a rate of {fps:g} frames a second, expected up to 1000")
    labels = Labels(WHEEL_DEG, request.labels, "Sully Chen's set", positive="right")
    listing_of = _entries(path)
    numbers = np.array(sorted(listing_of))
    folder, present = _pictures(path.parent)
    there = np.array([number in present for number in numbers])
    listing.drop("label without its picture", [f"{number}.jpg" for number in numbers[~there]])
    unlabelled = sorted(present - set(numbers.tolist()))
    listing.drop("picture without a label", [f"{number}.jpg" for number in unlabelled])
    if not there.any():
        raise DataError(f"{folder}: none of the {len(numbers)} pictures of {path} is there")
    angles = labels.clean(np.array([listing_of[number][0] for number in numbers.tolist()]))
    if any(time is None for _, time in listing_of.values()):
        times = numbers / (fps or FPS)
        nominal = f"their times are nominal, {fps or FPS:g} frames a second"
        listing.remarks.append(f"{path}: labels carry no date: {nominal}")
    else:
        dates = [listing_of[number][1] for number in numbers.tolist()]
        times = np.array([(date - dates[0]).total_seconds() for date in dates])  # type: ignore[operator]
    kept = numbers[there]
    recording = Recording(
        name=path.parent.name or "driving",
        pictures=PictureFiles(folder, tuple(f"{number}.jpg" for number in kept)),
        times=times[there],
        columns={labels.key: labels.finish(angles[there], path)},
        cuts=frozenset((np.flatnonzero(np.diff(kept) > 1) + 1).tolist()),
    )
    listing.remarks += labels.remarks()
    add_recordings(listing, [recording], request, "sullychen", {labels.key: labels.spec})
    return listing


def _pictures(folder: Path) -> tuple[Path, frozenset[int]]:
    """Return the folder of the pictures, and their numbers."""
    for place in (folder, folder / "data"):
        _, numbers = numbered_files(place, (".jpg",))
        if numbers:
            return place, numbers
    return folder, frozenset()


def _entries(path: Path) -> dict[int, tuple[float, datetime | None]]:
    """Return angle and date, if there is one, by the number of the picture."""
    found: dict[int, tuple[float, datetime | None]] = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        try:
            if match is None:
                raise ValueError
            angle, date = float(match[2]), None
            if match[3]:
                date = datetime.fromisoformat(f"{match[3]} {match[4]}")
                date += timedelta(milliseconds=int(match[5]))
        except ValueError:
            raise DataError(
                f"{path}, line {number}: found '{line.strip()[:40]}', expected a line like '12.jpg "
                "-3.530000' or '12.jpg -3.530000,2018-07-01 17:09:44:912'"
            ) from None
        if int(match[1]) in found:
            raise DataError(f"{path}, line {number}: {match[1]}.jpg has a label already")
        found[int(match[1])] = (angle, date)
    if not found:
        raise DataError(f"{path}: no label in it")
    return found
