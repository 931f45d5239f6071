"""What `infer-video` will do: inputs opened, outputs named and found writable."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unienc_core.data.store import resolve_store
from unienc_core.errors import DataError, ResourceError, UsageError
from unienc_core.inference.frames import DriveSource, FrameSource, SourceInfo
from unienc_core.inference.video import VideoReader
from unienc_core.workflows.intrinsics import CameraRequest, Intrinsics, choose_intrinsics

SUFFIX = "_unienc.mp4"


OnFailure = Callable[[Path, DataError], None]
"""Told of an input that cannot be read; returns when the others shall go on."""


@dataclass(frozen=True)
class Job:
    """One video to annotate.

    Attributes:
        open: Opens the input anew.
        info: What is known of it.
        camera: Intrinsics, unless only the checkpoint can tell them.
        output: The file to write.
    """

    open: Callable[[], FrameSource]
    info: SourceInfo
    camera: Intrinsics | None
    output: Path


def probe(
    inputs: Sequence[Path],
    out: Path | None,
    drive: str | None,
    request: CameraRequest,
    on_failure: OnFailure,
) -> list[Job]:
    """Open every input once, before anything slow.

    Args:
        inputs: Videos and stores.
        out: File or folder to write.
        drive: Drive of a store.
        request: What the user said of the camera.
        on_failure: Told of each input that cannot be read.

    Raises:
        UsageError: If `out`, `drive` or `request` do not fit the inputs.
    """
    target = _target_rule(out, len(inputs))
    jobs: list[Job] = []
    for path in inputs:
        try:
            opener = _opener(path, drive)
            with opener() as source:
                info = source.info
        except DataError as error:
            on_failure(path, error)
            continue
        except OSError as error:  # a name too long, a folder that may not be entered
            on_failure(path, DataError(f"{path}: cannot be read ({error.strerror})"))
            continue
        jobs.append(Job(opener, info, choose_intrinsics(info, request), target(info)))
    return jobs


def _opener(path: Path, drive: str | None) -> Callable[[], FrameSource]:
    if path.is_dir():
        return lambda: DriveSource(resolve_store(path, "test"), drive)
    if drive is not None:
        raise UsageError(f"{path}: --drive is for stores, this is a file")
    return lambda: VideoReader(path)


def _target_rule(out: Path | None, num_inputs: int) -> Callable[[SourceInfo], Path]:
    """Return how outputs are called."""
    if num_inputs == 0:
        raise UsageError("infer-video needs at least one video")
    if out is None or out.is_dir() or not out.suffix:
        folder = out or Path()
        return lambda info: folder / f"{info.name}{SUFFIX}"
    if out.suffix.lower() != ".mp4":
        raise UsageError(f"--out {out}: videos are written as .mp4")
    if num_inputs > 1:
        raise UsageError(f"--out {out}: {num_inputs} videos need a folder, not one file")
    file = out
    return lambda info: file


def check_outputs(jobs: Sequence[Job], force: bool) -> None:
    """Refuse to write over anything, or where nothing can be written.

    Raises:
        UsageError: If an output exists, is an input, or is named twice.
        ResourceError: If its folder cannot be written.
    """
    writers: dict[Path, Path] = {}
    for job in jobs:
        source, output = job.info.path, job.output
        if output.resolve() in writers:
            other = writers[output.resolve()]
            raise UsageError(f"{other} and {source} would both become {output}; rename one")
        writers[output.resolve()] = source
        if output.resolve() == source.resolve():
            raise UsageError(f"{output}: is the input itself; choose another --out")
        if output.exists() and not force:
            raise UsageError(f"{output}: exists; --force replaces it, --out writes elsewhere")
        _check_writable(output)


def _check_writable(output: Path) -> None:
    folder = next(p for p in output.absolute().parents if p.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        why = error.strerror or str(error)
        raise ResourceError(f"{output}: {folder} cannot be written ({why}); use --out") from None
