"""What a folder of exported depth holds, so that no two exports get mixed up in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unienc_core.data.store_folder import resource_error
from unienc_core.errors import UsageError
from unienc_core.files import write_atomic

RECORD_NAME = "export.json"


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return what a folder is recorded to hold, or None where nothing readable says so."""
    try:
        found = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def check_record(folder: Path, meaning: Mapping[str, Any], files: Iterable[Path]) -> None:
    """Refuse to go on with files that are, or may be, those of another export.

    Args:
        folder: Of the export; it need not exist.
        meaning: What the files are to hold, as plain data.
        files: All that the export writes.

    Raises:
        UsageError: If the folder holds another export, or some of the files without a record.
    """
    found = read_record(folder)
    if found == meaning:
        return
    if (folder / RECORD_NAME).exists():
        held = f"depth of another meaning: {found}"
    else:
        kept = next((path for path in files if path.exists()), None)
        if kept is None:
            return
        held = f"{kept.relative_to(folder)}, of which no {RECORD_NAME} says what it is"
    raise UsageError(
        f"{folder}: holds {held}, asked {dict(meaning)}; choose another folder, or --force to "
        "write it anew"
    )


def start_export(
    folder: Path,
    meaning: Mapping[str, Any],
    files: Iterable[Path],
    patterns: Sequence[str],
    force: bool,
) -> None:
    """Record what a folder is to hold, and remove what must not be taken for it.

    Args:
        folder: Of the export, made if absent.
        meaning: What the files are to hold, as plain data.
        files: All that the export writes; with `force` these are removed.
        patterns: Of the names that files of an export have: where `force` replaces an export of
            another meaning, all of them go.
        force: Write everything anew.

    Raises:
        ResourceError: If the folder cannot be written.
    """
    stale: list[Path] = []
    if force:
        stale += files
        if read_record(folder) != meaning:
            stale += [path for pattern in patterns for path in folder.glob(pattern)]
    stale += [path for path in folder.rglob(".tmp-*.npy-*") if _is_left_over(path)]
    try:
        for path in stale:
            path.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / RECORD_NAME, json.dumps(dict(meaning)).encode())
    except OSError as error:
        raise resource_error(error, folder, 0) from error


def _is_left_over(aside: Path) -> bool:
    """Say whether the process that writes a file (see `write_atomic`) is gone."""
    number = aside.name.rpartition("-")[2]
    if not (number.isascii() and number.isdigit()):
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False
