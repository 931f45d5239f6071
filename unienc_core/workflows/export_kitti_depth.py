"""The depth of KITTI's labelled images as files, for this program's scoring and other people's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unienc_core.contracts import Reporter
from unienc_core.data.sets.kitti_raw_source import RawDrive, RawLabelled
from unienc_core.data.sets.listing import Listing
from unienc_core.errors import DataError
from unienc_core.files import check_writable, require_space
from unienc_core.workflows.export_depth import write_depth, write_depths
from unienc_core.workflows.export_record import check_record, start_export

_PATTERNS = ("*/*/image_0?/*.npy",)


def export_kitti_depth(
    listing: Listing,
    out: Path,
    *,
    workers: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Write depth in metres, one float32 `.npy` a frame, of the size of the picture.

    Unknown pixels are 0. The files are called ``<date>/<drive>_sync/image_02/<frame>.npy``, and
    ``export.json`` says what depth means in them. Those that are there already are kept, so that a
    call after a kill goes on where that stopped.

    Args:
        listing: Of KITTI raw, with a store of labelled images.
        out: Folder to write to, made if absent.
        workers: Processes; None for one per core.
        force: Write files anew that are there.
        dry_run: Check everything, write nothing.
        reporter: Progress in frames.

    Returns:
        Plain data: ``path``, ``frames``, ``made`` (now) and ``unreadable``, a line for each map
        that could not be made of its files.

    Raises:
        UsageError: If the folder holds an export of depth of another meaning.
        DataError: If the listing has no labelled images.
        ResourceError: If the folder cannot be written or the disk is full.
        Interrupted: On Ctrl-C.
    """
    plans = [(p, p.source) for p in listing.stores if isinstance(p.source, RawLabelled)]
    if not plans:
        raise DataError(f"{listing.root}: no labelled image, so there is no depth to export")
    jobs: list[tuple[RawLabelled, RawDrive, int, Path]] = []
    files: list[Path] = []
    needed = 0
    for plan, source in plans:
        for planned in plan.drives:
            drive = RawDrive.of(planned)
            folder = out / drive.folder / f"image_{drive.camera:02d}"
            height, width = planned.image_size or plan.spec.image_size
            targets = [(frame, folder / f"{frame:010d}.npy") for frame in drive.frames]
            new = [
                (source, drive, frame, path)
                for frame, path in targets
                if force or not path.exists()
            ]
            needed += len(new) * height * width * np.dtype(np.float32).itemsize
            files += [path for _, path in targets]
            jobs += new
    check_writable(out)
    require_space(out, needed)
    meaning = {"depth": plans[0][1].kind, "convention": plans[0][1].convention}
    if not force:
        check_record(out, meaning, files)
    report = {"path": str(out), "frames": len(files), "made": 0, "unreadable": list[str]()}
    if not dry_run:
        start_export(out, meaning, files, _PATTERNS, force)
        lost = write_depths(out, _write, jobs, workers, reporter or Reporter())
        report |= {"made": len(jobs) - len(lost), "unreadable": lost}
    return report


def _write(source: RawLabelled, drive: RawDrive, frame: int, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    write_depth(target, source.depth(drive, frame))
