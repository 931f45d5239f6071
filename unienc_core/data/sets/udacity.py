"""Udacity's recordings: the challenge's ``interpolated.csv``, the simulator's ``driving_log.csv``.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import ntpath
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np

from unienc_core.data.sets.listing import Listing, missing_tree
from unienc_core.data.sets.measured import Labels
from unienc_core.data.sets.recording import PictureFiles, Recording
from unienc_core.data.sets.recordings import RecordingsRequest, add_recordings, gather
from unienc_core.data.sets.tables import Table, read_table
from unienc_core.data.steering import COMMAND, WHEEL_RAD
from unienc_core.errors import DataError, UsageError

ROAD, SIMULATOR = "interpolated.csv", "driving_log.csv"
_TREE = (
    f"{ROAD} with center/<ns>.jpg beside it",
    f"{SIMULATOR} with IMG/center_<date>.jpg beside it",
    "folders of these",
)
_ROAD_HEADER = ("index", "timestamp", "width", "height", "frame_id", "filename", "angle")
_ROAD_HEADER += ("torque", "speed", "lat", "long", "alt")
_SIMULATOR_HEADER = ("center", "left", "right", "steering", "throttle", "brake", "speed")
_CENTRE = "center_camera"
_PICTURES = "IMG"
_SIDES = {"left": 1.0, "right": -1.0}
"""What steers back to the middle, seen from a camera: + is right in the simulator's log."""

_MILES_AN_HOUR = 0.44704
_NOMINAL_STEP = 0.07
_NANOSECONDS = re.compile(r"\d{1,19}", re.ASCII)
_DATE = re.compile(r"_(\d{4})_(\d\d)_(\d\d)_(\d\d)_(\d\d)_(\d\d)_(\d{1,3})\.", re.ASCII)


def list_udacity(
    root: Path, request: RecordingsRequest, side_correction: float | None = None
) -> Listing:
    """List what recordings of Udacity become.

    Of the challenge's three cameras the one in the middle is kept. Its angle is that of the
    steering wheel, in rad, left positive; the simulator's is a command of -1..1, right positive,
    and stored negated.

    Args:
        root: Folder of one recording, or of folders of recordings.
        request: What is wanted.
        side_correction: Store the simulator's side cameras, too, their command corrected by this
            towards the middle.

    Raises:
        UsageError: If both kinds of recordings are there, whose labels are of different kinds.
        DataError: If there is no recording, or none can be read.
    """
    listing = Listing(root)
    tables = [path for name in (ROAD, SIMULATOR) for path in _tables(root, name)]
    if not tables:
        raise missing_tree(root, "Udacity recording", _TREE)
    if len({path.name for path in tables}) > 1:
        raise UsageError(f"{root}: holds both {ROAD} and {SIMULATOR}: prepare them one by one")
    on_road = tables[0].name == ROAD
    if side_correction is not None and not 0 <= side_correction <= 1:
        raise UsageError(f"side correction {side_correction:g}, expected 0 to 1")
    if on_road and side_correction is not None:
        raise UsageError(f"--side-correction is for the simulator's {SIMULATOR}, found {ROAD}")
    if on_road:
        labels = Labels(WHEEL_RAD, request.labels, "Udacity challenge, angle")
        loaders = [(str(path), partial(_road, path, labels, listing)) for path in tables]
    else:
        labels = Labels(COMMAND, request.labels, "Udacity simulator, steering", positive="right")
        cameras = ["center", *(_SIDES if side_correction is not None else ())]
        correction = side_correction or 0.0
        loaders = [
            (f"{path}, {camera}", partial(_simulator, path, camera, correction, labels, listing))
            for path in tables
            for camera in cameras
        ]
    found = gather(listing, loaders)
    listing.remarks += labels.remarks()
    add_recordings(listing, found, request, "udacity", {labels.key: labels.spec})
    return listing


def _tables(root: Path, name: str) -> list[Path]:
    return [root / name] if (root / name).is_file() else sorted(root.glob(f"*/{name}"))


def _road(path: Path, labels: Labels, listing: Listing) -> Recording:
    table = read_table(path, [_ROAD_HEADER])
    _require(table, ("timestamp", "frame_id", "filename", "angle"))
    frames = table.text("frame_id")
    centre = np.array([frame == _CENTRE for frame in frames])
    if not centre.any():
        known = ", ".join(sorted(set(frames))[:4])
        raise DataError(f"{path}: no row of {_CENTRE}, found {known}")
    stamps = table.text("timestamp")
    row = next((n for n, stamp in enumerate(stamps) if not _NANOSECONDS.fullmatch(stamp)), None)
    if row is not None:
        raise table.fault(row, f"timestamp '{stamps[row][:40]}', expected nanoseconds")
    first = int(stamps[0])
    times = np.array([int(stamp) - first for stamp in stamps], np.float64) * 1e-9
    names = [name.replace("\\", "/") for name in table.text("filename")]
    angles = labels.clean(np.where(centre, table.numbers("angle"), np.nan))
    rows = _with_pictures(path.parent, names, np.flatnonzero(centre), listing)
    columns = {labels.key: labels.finish(angles[rows], path)}
    if "speed" in (table.header or ()):
        columns["speed"] = table.numbers("speed")[rows].astype(np.float32)
    return Recording(
        name=path.parent.name,
        pictures=PictureFiles(path.parent, tuple(names[row] for row in rows.tolist())),
        times=times[rows],
        columns=columns,
        cuts=_cuts(rows, np.flatnonzero(centre)),
    )


def _simulator(
    path: Path, camera: str, correction: float, labels: Labels, listing: Listing
) -> Recording:
    table = read_table(path, [_SIMULATOR_HEADER])
    _require(table, ("center", camera, "steering"))
    # A recorder writes absolute paths of its own machine, often a Windows one.
    names = [f"{_PICTURES}/{ntpath.basename(name)}" for name in table.text(camera)]
    times = _dates(table.text("center"))
    if times is None:
        times = _NOMINAL_STEP * np.arange(len(names))
        listing.remarks.append(
            f"{path}: pictures carry no date in their names: their times are nominal, "
            f"{_NOMINAL_STEP:g} s a frame"
        )
    every = np.arange(len(names))
    rows = _with_pictures(path.parent, names, every, listing)
    steering = labels.clean(table.numbers("steering")) + _SIDES.get(camera, 0.0) * correction
    if camera in _SIDES:
        steering = np.clip(steering, -1.0, 1.0)
    columns = {labels.key: labels.finish(steering[rows], path)}
    if "speed" in (table.header or ()):
        speed = _MILES_AN_HOUR * table.numbers("speed")[rows]
        columns["speed"] = speed.astype(np.float32)
    return Recording(
        name=path.parent.name,
        pictures=PictureFiles(path.parent, tuple(names[row] for row in rows.tolist())),
        times=times[rows],
        columns=columns,
        cuts=_cuts(rows, every),
        camera="" if camera == "center" else camera,
    )


def _require(table: Table, columns: Sequence[str]) -> None:
    header = table.header or ()
    lacking = [name for name in columns if name not in header]
    if lacking:
        found = ", ".join(header) or f"{table.width} columns without a header"
        raise DataError(f"{table.path}: no column {lacking[0]}; found {found}")


def _with_pictures(
    folder: Path, names: Sequence[str], rows: np.ndarray, listing: Listing
) -> np.ndarray:
    """Return those of some rows whose picture is there."""
    paths = [Path(names[int(row)]) for row in rows]
    places = {path.parent for path in paths}
    if any(place.is_absolute() or ".." in place.parts for place in places):
        raise DataError(f"{folder}: names of pictures that lead out of it, like {paths[0]}")
    there = {place / file.name for place in places for file in (folder / place).glob("*")}
    has = np.array([path in there for path in paths])
    lacking = [str(path) for path in paths if path not in there]
    listing.drop("row without its picture", lacking)
    if not has.any():
        raise DataError(f"{folder / paths[0]}: not there, nor any other of {len(rows)}")
    return rows[has]


def _cuts(rows: np.ndarray, known: np.ndarray) -> frozenset[int]:
    """Return positions before which rows of the camera are missing."""
    place = np.searchsorted(known, rows)
    return frozenset((np.flatnonzero(np.diff(place) > 1) + 1).tolist())


def _dates(names: Sequence[str]) -> np.ndarray | None:
    """Return when pictures were taken, s after the first, by the dates in their names."""
    found = [_DATE.search(name) for name in names]
    dates: list[datetime] = []
    for match in found:
        if match is None:
            return None
        year, month, day, hour, minute, second, thousandths = map(int, match.groups())
        try:
            date = datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - differences
        except ValueError:
            return None
        dates.append(date + timedelta(milliseconds=thousandths))
    return np.array([(date - dates[0]).total_seconds() for date in dates])
