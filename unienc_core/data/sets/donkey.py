"""Recordings of a Donkey car: tubs of version 4, as its program leaves them.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unienc_core.data.sets.listing import Listing, missing_tree
from unienc_core.data.sets.measured import Labels
from unienc_core.data.sets.recording import PictureFiles, Recording
from unienc_core.data.sets.recordings import RecordingsRequest, add_recordings
from unienc_core.data.sets.tables import read_lines
from unienc_core.data.steering import COMMAND
from unienc_core.data.unreadable import Loss
from unienc_core.errors import DataError

MANIFEST, PICTURES = "manifest.json", "images"
_PICTURE, _ANGLE, _MODE = "cam/image_array", "user/angle", "user/mode"
_TREE = ("manifest.json, catalog_<n>.catalog and images/ (or folders of these)",)


@dataclass(frozen=True)
class _Record:
    """What a tub keeps of a frame."""

    index: int
    session: str
    time: float
    picture: str
    angle: float
    mode: str


def list_donkey(root: Path, request: RecordingsRequest) -> Listing:
    """List what a tub, or a folder of tubs, becomes: a drive for each uninterrupted session.

    Deleted records are left out, and so are those that the car drove itself: their steering is
    nobody's. A positive angle of the recorder steers to the right, and is stored negated.

    Raises:
        DataError: If there is no tub, or none can be read.
    """
    listing = Listing(root)
    tubs = [root] if (root / MANIFEST).is_file() else sorted(root.glob(f"*/{MANIFEST}"))
    tubs = [tub.parent if tub.name == MANIFEST else tub for tub in tubs]
    if not tubs:
        raise missing_tree(root, "Donkey car tub", _TREE)
    labels = Labels(COMMAND, request.labels, "donkey tub, user/angle", positive="right")
    found: list[Recording] = []
    first: DataError | None = None
    for tub in tubs:
        try:
            found += _recordings(tub, labels, listing)
        except DataError as error:
            first = first or error
            listing.lost.append(Loss(tub.name, 0, str(error)))
    if not found:
        raise first or DataError(f"{root}: no record is left ({listing.dropped_in_words()})")
    listing.remarks += labels.remarks()
    add_recordings(listing, found, request, "donkey", {labels.key: labels.spec})
    return listing


def _recordings(tub: Path, labels: Labels, listing: Listing) -> Iterator[Recording]:
    """Yield the sessions of a tub."""
    catalogs, deleted = _manifest(tub / MANIFEST)
    records = sorted(
        (record for name in catalogs for record in _catalog(tub / name)), key=lambda r: r.index
    )
    if not records:
        raise DataError(f"{tub}: no record in it")
    present = {path.name for path in (tub / PICTURES).glob("*")}
    gone = [r for r in records if r.index in deleted]
    auto = [r for r in records if r.index not in deleted and r.mode != "user"]
    lacking = [r for r in records if r.picture not in present]
    for reason, which in (
        ("deleted from its tub", gone),
        ("driven by the car itself", auto),
        ("record without its picture", lacking),
    ):
        listing.drop(reason, [f"{tub.name}/{r.index}" for r in which])
    left_out = {r.index for r in (*gone, *auto, *lacking)}
    sessions: dict[str, list[_Record]] = {}
    for record in records:
        if record.index not in left_out:
            sessions.setdefault(record.session, []).append(record)
    for session, kept in sessions.items():
        angles = labels.clean(np.array([record.angle for record in kept]))
        indices = np.array([record.index for record in kept])
        yield Recording(
            name=f"{tub.name}_{session}",
            pictures=PictureFiles(tub / PICTURES, tuple(record.picture for record in kept)),
            times=np.array([record.time for record in kept]),
            columns={labels.key: labels.finish(angles, tub)},
            cuts=frozenset((np.flatnonzero(np.diff(indices) > 1) + 1).tolist()),
        )


def _manifest(path: Path) -> tuple[list[str], set[int]]:
    """Return the names of a tub's catalogs and the numbers of its deleted records."""
    lines = [line for line in read_lines(path) if line.strip()]
    last = _parse(path, len(lines), lines[-1]) if lines else None
    names = last.get("paths") if isinstance(last, dict) else None
    deleted = last.get("deleted_indexes", []) if isinstance(last, dict) else None
    if not isinstance(names, list) or not isinstance(deleted, list):
        raise DataError(
            f"{path}: no manifest of a tub of version 4: expected 'paths' and 'deleted_indexes' in "
            "its last line"
        )
    if not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise DataError(f"{path}: paths {names[:3]}, expected names of catalogs beside it")
    if not all(isinstance(number, int) for number in deleted):
        raise DataError(f"{path}: deleted_indexes {deleted[:3]}, expected numbers of records")
    return names, set(deleted)


def _catalog(path: Path) -> Iterator[_Record]:
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            yield _record(path, number, _parse(path, number, line))


def _parse(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise DataError(f"{path}, line {number}: no JSON, found '{line[:40]}'") from None


def _record(path: Path, number: int, values: Any) -> _Record:
    try:
        record = _Record(
            index=int(values["_index"]),
            session=str(values.get("_session_id", "")),
            time=float(values["_timestamp_ms"]) / 1000.0,
            picture=str(values[_PICTURE]),
            angle=float(values[_ANGLE]),
            mode=str(values.get(_MODE, "user")),
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DataError(
            f"{path}, line {number}: no record of a tub: {error} is missing or no number"
        ) from None
    if Path(record.picture).name != record.picture or not np.isfinite(record.time):
        raise DataError(
            f"{path}, line {number}: picture '{record.picture[:40]}', time {record.time}"
        )
    return record
