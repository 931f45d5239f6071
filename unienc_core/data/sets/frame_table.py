"""Pictures and a table that gives each of them a steering value: any CSV.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unienc_core.data.sets.listing import Listing
from unienc_core.data.sets.measured import Labels
from unienc_core.data.sets.recording import PictureFiles, Recording
from unienc_core.data.sets.recordings import RecordingsRequest, add_recordings, gather
from unienc_core.data.sets.tables import Table, read_table
from unienc_core.data.steering import COMMAND, CURVATURE, WHEEL_DEG, WHEEL_RAD, Side
from unienc_core.errors import DataError, UsageError

UNITS: Mapping[str, tuple[str, float]] = {
    "1/km": (CURVATURE, 1.0),
    "1/m": (CURVATURE, 1000.0),
    "deg": (WHEEL_DEG, 1.0),
    "rad": (WHEEL_RAD, 1.0),
    "-1..1": (COMMAND, 1.0),
}
"""Units of a column: the kind of label that it holds, and what one is in that kind's unit."""

TIME_UNITS: Mapping[str, float] = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}

_SUFFIXES = (".png", ".jpg", ".jpeg")
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
_LAST_NUMBER = re.compile(r"(\d{1,18})\D*$", re.ASCII)


@dataclass(frozen=True)
class TableRequest:
    """How a table is to be understood.

    Attributes:
        unit: Of its values, of `UNITS`.
        frame: Column of the pictures: file names, or numbers that end their names.
        value: Column of the steering values.
        time: Column of times; None where there is none.
        time_unit: Of `TIME_UNITS`.
        fps: Frames per second, where there are no times.
        positive: The side that is positive.
        pictures: Folder of the pictures; None for that of the table.
    """

    unit: str
    frame: str = "0"
    value: str = "1"
    time: str | None = None
    time_unit: str = "s"
    fps: float | None = None
    positive: Side = "left"
    pictures: Path | None = None

    def __post_init__(self) -> None:
        """Check every setting."""
        for name, value, known in (
            ("unit", self.unit, UNITS),
            ("time unit", self.time_unit, TIME_UNITS),
        ):
            if value not in known:
                raise UsageError(f"no {name} '{value}'; {name}s are {', '.join(known)}")
        if (self.time is None) == (self.fps is None):
            raise UsageError("when frames were taken: give a column of times, or else a rate")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise UsageError(f"a rate of {self.fps:g} frames a second, expected up to 1000")


def list_frame_tables(
    paths: Sequence[Path], table: TableRequest, request: RecordingsRequest
) -> Listing:
    """List what tables of frames and steering values become: a recording each.

    Raises:
        UsageError: If a column is not there.
        DataError: If no table can be read, or none of its pictures is there.
    """
    listing = Listing(paths[0] if len(paths) == 1 else paths[0].parent)
    kind, factor = UNITS[table.unit]
    labels = Labels(kind, request.labels, f"table, {table.unit}", positive=table.positive)
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        raise UsageError("two tables of one name: recordings are called by their files' names")
    loaders = [
        (path.stem, lambda path=path: _recording(path, table, factor, labels, listing))
        for path in paths
    ]
    found = gather(listing, loaders)
    listing.remarks += labels.remarks()
    add_recordings(listing, found, request, "csv", {labels.key: labels.spec})
    return listing


def _recording(
    path: Path, request: TableRequest, factor: float, labels: Labels, listing: Listing
) -> Recording:
    table = read_table(path)
    frames, values = table.text(request.frame), table.numbers(request.value)
    folder = request.pictures or path.parent
    pictures = _pictures(folder)
    chosen = [_find(frame, pictures) for frame in frames]
    times = _times(table, request, frames)
    there = np.array([name is not None for name in chosen])
    listing.drop(
        "row of a table without its picture",
        [f"{path.stem}/{frames[row]}" for row in np.flatnonzero(~there)],
    )
    if not there.any():
        raise DataError(f"{folder}: none of the {len(frames)} pictures of {path} is there")
    rows = np.flatnonzero(there)
    cleaned = labels.clean(values * factor)
    return Recording(
        name=path.stem,
        pictures=PictureFiles(folder, tuple(name for name in chosen if name is not None)),
        times=times[rows],
        columns={labels.key: labels.finish(cleaned[rows], path)},
        cuts=frozenset((np.flatnonzero(np.diff(rows) > 1) + 1).tolist()),
    )


def _times(table: Table, request: TableRequest, frames: Sequence[str]) -> np.ndarray:
    """Return when frames were taken, s."""
    if request.time is None:
        numbered = all(map(_NUMBER.fullmatch, frames))
        numbers = [int(f) for f in frames] if numbered else range(len(frames))
        return np.array(numbers) / (request.fps or 1.0)
    times = table.numbers(request.time)
    if not np.isfinite(times).all():
        raise table.fault(int((~np.isfinite(times)).argmax()), "no time")
    try:  # whole numbers first: float64 keeps nanoseconds since 1970 to 0.2 us only
        whole = [int(cell) for cell in table.text(request.time)]
        times = np.array([number - whole[0] for number in whole], np.float64)
    except ValueError:
        times = times - times[0]
    return times * TIME_UNITS[request.time_unit]


def _pictures(folder: Path) -> dict[str, str]:
    """Return the pictures of a folder by name, by name without suffix, and by number."""
    found: dict[str, str] = {}
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of pictures; give it with --pictures")
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    for name in names:
        number = _LAST_NUMBER.search(Path(name).stem)
        for key in (name, Path(name).stem, *([str(int(number[1]))] if number else [])):
            found.setdefault(key, name)
    return found


def _find(frame: str, pictures: Mapping[str, str]) -> str | None:
    """Return the picture that a cell means."""
    name = frame.replace("\\", "/").rpartition("/")[2]
    number = str(int(name)) if _NUMBER.fullmatch(name) else name
    return pictures.get(name) or pictures.get(number)
