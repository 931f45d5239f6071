"""A rendered city in the layout of Cityscapes: `prepare-data synth-city --export-cityscapes`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from unienc_core.contracts import Progress, Reporter
from unienc_core.data.sets.city_layout import (
    CITY,
    KEYS,
    PACKAGES,
    annotated_frames,
    drive_files,
    make_folders,
    write_drive,
)
from unienc_core.data.store import Store
from unienc_core.data.store_folder import resource_error
from unienc_core.data.worker_pool import make_pool
from unienc_core.errors import UsageError
from unienc_core.files import check_writable, write_atomic

RECORD_NAME = "synth-city.json"
"""Says which stores an export was made of, and whether it is whole."""


def check_export(out: Path, force: bool) -> None:
    """Fail where `export_city` would, so far as that does not depend on the stores.

    Raises:
        UsageError: If the folder holds anything but an export.
        ResourceError: If it cannot be written.
    """
    check_writable(out)
    if not (out / RECORD_NAME).is_file():
        strangers = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
        if strangers:
            raise UsageError(
                f"{out}: folder is not empty and no export (it holds {strangers[0]}); "
                "choose another folder"
            )
    elif not force:
        _read_record(out)


def export_city(
    stores: Sequence[Path],
    out: Path,
    *,
    workers: int = 1,
    force: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Write the drives of finished stores in the layout of Cityscapes.

    Images, labels and intrinsics are those of the stores, depth is rounded to the 16-bit codes of
    disparity. An export that was interrupted, or has lost files, is made again by the next call, a
    whole one left alone.

    Args:
        stores: Stores of a synthetic city, each a split.
        out: Top folder, made if absent.
        workers: Processes.
        force: Replace an export of other stores.
        reporter: Progress in frames, and remarks.

    Returns:
        Plain data: ``path``, ``frames``, ``annotated``, and ``written`` (frames written now).

    Raises:
        UsageError: If the folder holds an export of other stores, or anything else.
        ResourceError: If the disk is full or the folder cannot be written.
    """
    reporter = reporter or Reporter()
    check_export(out, force)
    record: dict[str, Any] = {"complete": True, "stores": {}}
    jobs: list[tuple[Path, int, Path, str]] = []
    counts: list[int] = []
    missing = 0
    for folder in stores:
        with closing(Store(folder)) as store:
            store.require(KEYS)
            split = store.manifest["split"]
            record["stores"][split] = store.digest
            jobs += [(folder, number, out, split) for number in range(len(store.drives))]
            counts += [drive.num_frames for drive in store.drives]
            for number, drive in enumerate(store.drives):
                files = drive_files(out, split, number, drive.num_frames)
                missing += sum(not path.is_file() for path in files)
    annotated = sum(len(annotated_frames(count)) for count in counts)
    report = {"path": str(out), "frames": sum(counts), "annotated": annotated, "written": 0}
    if _is_there(out, record, force):
        if not missing:
            reporter.say(f"{out} is complete already: nothing to do")
            return report
        reporter.say(f"{out}: {missing} files are missing; the export is made again")
    try:
        _clear(out)
        _write_record(out, {**record, "complete": False})
        for split in record["stores"]:
            make_folders(out, split)
        done = 0
        with make_pool(min(workers, len(jobs))) as pool:
            for number, _ in pool.map(write_drive, jobs):
                done += counts[number]
                reporter.progress(Progress("export", done, sum(counts), "frame"))
        _write_record(out, record)
    except OSError as error:
        raise resource_error(error, out, 0) from error
    return {**report, "written": done}


def _is_there(out: Path, record: dict[str, Any], force: bool) -> bool:
    """Say whether just these stores were exported to the end; refuse an export of others."""
    if not (out / RECORD_NAME).is_file():
        return False
    found = None if force else _read_record(out)
    if found is not None and found["stores"] != record["stores"]:
        raise UsageError(
            f"{out}: holds an export of other stores; choose another folder, or --force to "
            "replace it"
        )
    return found == record


def _read_record(out: Path) -> dict[str, Any]:
    path = out / RECORD_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if set(record) == {"complete", "stores"}:
            return record
    except (OSError, ValueError, TypeError, RecursionError):
        pass
    raise UsageError(f"{path}: no record of an export; --force makes it again")


def _write_record(out: Path, record: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    content = json.dumps(record, sort_keys=True, indent=1) + "\n"
    write_atomic(out / RECORD_NAME, content.encode())


def _clear(out: Path) -> None:
    """Remove the city's own folders, and nothing else."""
    for package in PACKAGES:
        for folder in (out / package).glob(f"*/{CITY}"):
            shutil.rmtree(folder)
