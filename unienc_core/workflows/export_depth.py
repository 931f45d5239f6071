"""The depth ground truth of Cityscapes as files, for this program's scoring and other people's."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unienc_core.contracts import Progress, Reporter
from unienc_core.data.sets.cityscapes_files import (
    TYPICAL_SIZE,
    FrameName,
    camera_of,
    disparity_to_metres,
    names_in,
    path_of,
    tree_of,
    typical_camera,
)
from unienc_core.data.sets.intrinsics import check_intrinsics
from unienc_core.data.sets.listing import missing_tree
from unienc_core.data.sets.pictures import read_codes
from unienc_core.data.sets.sequence import common_size
from unienc_core.data.store_folder import resource_error
from unienc_core.data.worker_pool import make_pool
from unienc_core.errors import DataError, Interrupted
from unienc_core.files import check_writable, require_space, write_atomic
from unienc_core.machine import available_cores
from unienc_core.workflows.export_record import check_record, start_export

_NAME = re.compile(r"([\w-]+)_([0-9]{6})_([0-9]{6})(?![0-9])")
"""Anywhere in a line: lists give bare names, paths, or a city and a name."""
_PATTERNS = ("[0-9][0-9][0-9]*_depth.npy", "*_??????_??????.npy")
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
    on where that stopped; ``export.json`` says whose they are. Without any camera file the typical
    camera is assumed, as for the store.

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
        Plain data: ``path``, ``frames``, ``made`` (now) and ``unreadable``, a line for each map
        that could not be made of its files.

    Raises:
        UsageError: If the folder holds an export of other frames, or of another root.
        DataError: If disparity or a listed frame's camera is missing, or a line names no frame of
            the split.
        ResourceError: If the folder cannot be written or the disk is full.
        Interrupted: On Ctrl-C.
    """
    reporter = reporter or Reporter()
    found = names_in(root, "disparity", split)
    if not found:
        tree = [tree_of("disparity", split), tree_of("camera", split)]
        raise missing_tree(root, f"Cityscapes disparity of split '{split}'", tree)
    height, width = size = common_size([path_of(root, "disparity", split, n) for n in found])
    has_cameras = _has_cameras(root, split, size)
    named, chosen = _targets(root, split, out, found, frames, has_cameras, reporter)
    meaning = {
        "root": str(root.resolve()),
        "split": split,
        "frames": chosen,
        "camera": "files" if has_cameras else "assumed",
    }
    todo = [(path, name) for path, name in named.items() if force or not path.exists()]
    check_writable(out)
    require_space(out, len(todo) * height * width * np.dtype(np.float32).itemsize)
    if not force:
        check_record(out, meaning, named)
    jobs = [] if dry_run else [(root, split, name, path, has_cameras) for path, name in todo]
    if not dry_run:
        start_export(out, meaning, named, _PATTERNS, force)
    lost = write_depths(out, _write_depth, jobs, workers, reporter)
    made = len(jobs) - len(lost)
    return {"path": str(out), "frames": len(named), "made": made, "unreadable": lost}


def _has_cameras(root: Path, split: str, size: tuple[int, int]) -> bool:
    """Say whether there are camera files; without any, the typical one must fit the pictures."""
    if names_in(root, "camera", split):
        return True
    if size != TYPICAL_SIZE:
        raise DataError(
            f"{root}: no {tree_of('camera', split)}, and disparity of {size[0]}x{size[1]} is not "
            "that of the camera's own 1024x2048; add the camera files"
        )
    return False


def _targets(
    root: Path,
    split: str,
    out: Path,
    found: Sequence[FrameName],
    frames: Path | None,
    has_cameras: bool,
    reporter: Reporter,
) -> tuple[dict[Path, FrameName], str]:
    """Return the files to be there in the end with their frames, and what identifies these."""
    listed = list(found) if frames is None else read_frame_list(frames, set(found))
    known = {name[:2] for name in names_in(root, "camera", split)}
    kept = [name for name in listed if not has_cameras or name[:2] in known]
    if len(kept) < len(listed):
        first = next(name.stem for name in listed if name[:2] not in known)
        line = f"{len(listed) - len(kept)} frames whose sequence has no camera file ({first}, ...)"
        if frames is not None:
            raise DataError(f"{frames}: names {line}, so that their depth is unknown")
        reporter.say(f"{root}: no depth of {line}")
    if frames is None:
        return {out / f"{name.stem}.npy": name for name in kept}, "all"
    digest = hashlib.sha256("\n".join(name.stem for name in kept).encode()).hexdigest()[:16]
    return {out / f"{number:03d}_depth.npy": name for number, name in enumerate(kept)}, digest


def write_depths(
    out: Path,
    write: Callable[..., None],
    jobs: Sequence[tuple[Any, ...]],
    workers: int | None,
    reporter: Reporter,
) -> list[str]:
    """Run `write(*job)` for each job in worker processes; each makes one file under `out`.

    Returns:
        A line for each job that could not read what it needs, sorted; there is no file of it.

    Raises:
        ResourceError: If the folder cannot be written or the disk is full.
        Interrupted: On Ctrl-C.
    """
    faults: list[str] = []
    if not jobs:
        return faults
    tries = [(write, *job) for job in jobs]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with make_pool(workers or available_cores() if len(jobs) >= _FEW_JOBS else 1) as pool:
            for done, (_, fault) in enumerate(pool.map(_try, tries), 1):
                faults += [fault] if fault else []
                reporter.progress(Progress("export depth", done, len(jobs), "frame"))
    except OSError as error:
        raise resource_error(error, out, 0) from error
    except KeyboardInterrupt:
        raise Interrupted(f"{out}: interrupted; the same command goes on from here") from None
    return sorted(faults)


def _try(write: Callable[..., None], *job: Any) -> str | None:
    """Run a job; return why it could not read its files, or None."""
    try:
        write(*job)
    except DataError as error:
        return str(error)
    return None


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


def _write_depth(root: Path, split: str, name: FrameName, target: Path, has_cameras: bool) -> None:
    path = path_of(root, "disparity", split, name)
    codes = read_codes(path, np.uint16)
    camera = camera_of(root, split, name) if has_cameras else typical_camera()
    check_intrinsics(camera.K, (codes.shape[0], codes.shape[1]), f"camera of {path}")
    write_depth(target, disparity_to_metres(codes, camera))
