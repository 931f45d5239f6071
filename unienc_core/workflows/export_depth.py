"""The depth ground truth of Cityscapes as files, for this program's scoring and other people's."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unienc_core.contracts import Progress, Reporter
from unienc_core.data.sets.cityscapes_files import (
    FrameName,
    camera_of,
    disparity_to_metres,
    names_in,
    path_of,
    tree_of,
)
from unienc_core.data.sets.listing import missing_tree
from unienc_core.data.sets.pictures import picture_size, read_codes
from unienc_core.data.store_folder import resource_error
from unienc_core.data.worker_pool import make_pool
from unienc_core.errors import DataError, Interrupted
from unienc_core.files import check_writable, require_space, write_atomic
from unienc_core.machine import available_cores

_NAME = re.compile(r"([A-Za-z0-9-]+(?:_[0-9]{2})?)_([0-9]{6})_([0-9]{6})")
"""Anywhere in a line: lists give bare names, paths, or a city and a name."""
_MAX_LIST_BYTES = 1 << 26
_FEW_JOBS = 4
"""With fewer jobs than this, starting processes takes longer than they save."""


def export_cityscapes_depth(
    root: Path,
    split: str,
    out: Path,
    frames: Path | None = None,
    *,
    workers: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Write depth in metres, one float32 `.npy` a frame, of the size of the whole picture.

    Unknown pixels are 0. Files that are there already are kept, so that a call after a kill goes
    on where that stopped.

    Args:
        root: Of the data set, with ``disparity`` and ``camera``.
        split: "train", "val" or "test".
        out: Folder to write to, made if absent.
        frames: Text file that names a frame in each line: just these are written, as
            ``000_depth.npy`` and so on in its order, which is what published scripts expect. None
            for all frames of the split, as ``<city>_<sequence>_<frame>.npy``.
        workers: Processes; None for one per core.
        force: Write files anew that are there.
        dry_run: Check everything, write nothing.
        reporter: Progress in frames.

    Returns:
        Plain data: ``path``, ``frames``, ``made`` (now).

    Raises:
        DataError: If disparity or a camera is missing, or a line names no frame of the split.
        ResourceError: If the folder cannot be written or the disk is full.
        Interrupted: On Ctrl-C.
    """
    reporter = reporter or Reporter()
    found = names_in(root, "disparity", split)
    if not found:
        tree = [tree_of("disparity", split), tree_of("camera", split)]
        raise missing_tree(root, f"Cityscapes disparity of split '{split}'", tree)
    named = {f"{name.stem}.npy": name for name in found}
    if frames is not None:
        listed = read_frame_list(frames, set(found))
        named = {f"{number:03d}_depth.npy": name for number, name in enumerate(listed)}
    todo = [(file, name) for file, name in named.items() if force or not (out / file).exists()]
    check_writable(out)
    height, width = picture_size(path_of(root, "disparity", split, found[0]))
    require_space(out, len(todo) * height * width * np.dtype(np.float32).itemsize)
    report = {"path": str(out), "frames": len(named), "made": 0 if dry_run else len(todo)}
    if dry_run:
        return report
    jobs = [(root, split, name, out / file) for file, name in todo]
    write_depths(out, _write_depth, jobs, workers, reporter)
    return report


def write_depths(
    out: Path,
    write: Callable[..., None],
    jobs: Sequence[tuple[Any, ...]],
    workers: int | None,
    reporter: Reporter,
) -> None:
    """Run `write(*job)` for each job in worker processes; each makes one file under `out`.

    Raises:
        ResourceError: If the folder cannot be written or the disk is full.
        Interrupted: On Ctrl-C.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with make_pool(workers or available_cores() if len(jobs) >= _FEW_JOBS else 1) as pool:
            for done, _ in enumerate(pool.map(write, jobs), 1):
                reporter.progress(Progress("export depth", done, len(jobs), "frame"))
    except OSError as error:
        raise resource_error(error, out, 0) from error
    except KeyboardInterrupt:
        raise Interrupted(f"{out}: interrupted; the same command goes on from here") from None


def write_depth(target: Path, depth: np.ndarray) -> None:
    """Write a depth map as `.npy`, at once."""
    content = io.BytesIO()
    np.save(content, depth, allow_pickle=False)
    write_atomic(target, content.getvalue())


def read_frame_list(path: Path, known: set[FrameName]) -> list[FrameName]:
    """Read a list of frames: each line holds ``<city>_<sequence>_<frame>`` somewhere.

    Args:
        path: Text file.
        known: Frames that there are.

    Raises:
        DataError: If it cannot be read, or a line names no frame, or one that there is not.
    """
    try:
        with path.open("rb") as file:
            lines = file.read(_MAX_LIST_BYTES).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    names = [_name_in(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]
    if not names:
        raise DataError(f"{path}: names no frame; expected <city>_<sequence>_<frame> in each line")
    missing = [name.stem for name in names if name not in known]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of {len(names)} frames have no disparity in this split, the "
            f"first is {missing[0]}"
        )
    return names


def _name_in(line: str, path: Path, number: int) -> FrameName:
    found = _NAME.findall(line)
    if not found:
        raise DataError(f"{path}: line {number} names no frame like aachen_000000_000019")
    city, sequence, frame = found[-1]
    return FrameName(city, int(sequence), int(frame))


def _write_depth(root: Path, split: str, name: FrameName, target: Path) -> None:
    codes = read_codes(path_of(root, "disparity", split, name), np.uint16)
    write_depth(target, disparity_to_metres(codes, camera_of(root, split, name)))
