"""What `infer-video` will do: inputs opened, outputs named and found writable."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from unienc_core.errors import DataError, UsageError, nearest
from unienc_core.files import check_writable
from unienc_core.inference.frame_output import OUTPUTS, Output, check_able
from unienc_core.inference.frames import FrameSource, SourceInfo
from unienc_core.inference.predictor import Predictor
from unienc_core.inference.sinks import DEFAULT_SINK, SINKS, sink_class
from unienc_core.inference.sinks.base import check_ours
from unienc_core.metrics.scale import Scale
from unienc_core.workflows.infer_inputs import Input, OnFailure, Reading, expand
from unienc_core.workflows.intrinsics import CameraRequest, Intrinsics, choose_intrinsics

ENDING = "_unienc"
ABOUT_DEPTH = ("png16", "ply")


@dataclass(frozen=True)
class Job:
    """One clip to annotate.

    Attributes:
        open: Opens the input.
        info: What is known of it.
        camera: Intrinsics, unless only the checkpoint can tell them.
        outputs: Name of each sink to what it writes.
    """

    open: Callable[[], FrameSource]
    info: SourceInfo
    camera: Intrinsics | None
    outputs: dict[str, Path]


def parse_sinks(text: str | None) -> list[str]:
    """Read names of sinks with commas between them, each once.

    Raises:
        UsageError: On a name that is not known.
    """
    names = [name.strip() for name in (DEFAULT_SINK if text is None else text).split(",")]
    for name in names:
        if name not in SINKS:
            hint = nearest(name, list(SINKS))
            raise UsageError(f"--sink '{name}': none of {', '.join(SINKS)}{hint}")
    return list(dict.fromkeys(names))


def parse_outputs(text: str | None) -> list[Output] | None:
    """Read names of outputs with commas between them, in their own order; None for all there are.

    Raises:
        UsageError: On a name that is not known.
    """
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in OUTPUTS:
            hint = nearest(name, list(OUTPUTS))
            raise UsageError(f"--outputs '{name}': none of {', '.join(OUTPUTS)}{hint}")
    return [output for output in OUTPUTS if output in names]


def check_max_depth(limit: float | None, sinks: Sequence[str]) -> None:
    """Check a limit of point clouds.

    Raises:
        UsageError: If no point lies within it, or no point clouds are written.
    """
    if limit is None:
        return
    if not 0 < limit < math.inf:
        raise UsageError(f"--max-depth {limit:g}: expected a depth above 0")
    if "ply" not in sinks:
        raise UsageError("--max-depth is for point clouds, that is --sink ply")


def choose_outputs(
    wanted: Sequence[Output] | None,
    predictor: Predictor,
    sinks: Sequence[str],
    scale: Scale | None,
) -> tuple[Output, ...]:
    """Return what a network shall say of each frame: what is wanted, or all that it can.

    Raises:
        UsageError: If it cannot, or a sink or a scale needs depth and there is none.
    """
    outputs = predictor.outputs if wanted is None else tuple(wanted)
    check_able(outputs, predictor.outputs, predictor.preset.name)
    if "depth" not in outputs:
        asked = [f"--sink {name}" for name in sinks if name in ABOUT_DEPTH]
        for what in [*asked, *(["--scale"] if scale is not None else [])]:
            raise UsageError(f"{what} is about depth, but the outputs are {', '.join(outputs)}")
    return outputs


def probe(
    given: Sequence[str | Path],
    reading: Reading,
    out: Path | None,
    sinks: Sequence[str],
    request: CameraRequest,
    on_failure: OnFailure,
    opened: ExitStack,
) -> list[Job]:
    """Open every input once, before anything slow.

    Args:
        given: Inputs as the user gave them.
        reading: How to read them.
        out: File or folder to write.
        sinks: What to write.
        request: What the user said of the camera.
        on_failure: Told of each input that cannot be read.
        opened: Closes what can be opened only once and so stays open.

    Raises:
        UsageError: If anything does not fit the inputs.
    """
    inputs = list(expand(given, reading, on_failure))
    if reading.fps is not None and not any(found.is_row for found in inputs):
        raise UsageError("--fps is for pictures; videos keep their own times")
    target = _target_rule(out, sinks, len(inputs))
    jobs: list[Job] = []
    for found in inputs:
        try:
            opener, info = _try(found, opened)
        except DataError as error:
            on_failure(found.path, error)
            continue
        except OSError as error:  # a name too long, a folder that may not be entered
            on_failure(found.path, DataError(f"{found.path}: cannot be read ({error.strerror})"))
            continue
        jobs.append(Job(opener, info, choose_intrinsics(info, request), target(info)))
    return jobs


def _try(found: Input, opened: ExitStack) -> tuple[Callable[[], FrameSource], SourceInfo]:
    source = found.open()
    if found.is_once:
        opened.enter_context(source)
        return lambda: source, source.info
    with source:
        return found.open, source.info


def _target_rule(
    out: Path | None, sinks: Sequence[str], num_inputs: int
) -> Callable[[SourceInfo], dict[str, Path]]:
    """Return how outputs are called."""

    def named(stem: Path, info: SourceInfo) -> dict[str, Path]:
        suffixes = {name: sink_class(name, info.is_still).suffix for name in sinks}
        return {name: stem.with_name(stem.name + end) for name, end in suffixes.items()}

    if out is None or _exists(out) and out.is_dir() or not out.suffix:
        folder = out or Path()
        return lambda info: named(folder / f"{info.name}{ENDING}", info)
    if num_inputs > 1:
        raise UsageError(f"--out {out}: {num_inputs} inputs need a folder, not one file")
    file = out

    def one(info: SourceInfo) -> dict[str, Path]:
        outputs = named(file.with_suffix(""), info)
        ends = [path.suffix for path in outputs.values() if path.suffix]
        if ends and file.suffix.lower() not in ends:
            raise UsageError(
                f"--out {file}: {info.name} is written as {' and '.join(ends)}; "
                "a folder of that name must be there first"
            )
        return {n: file if p.suffix == file.suffix.lower() else p for n, p in outputs.items()}

    return one


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise UsageError(f"--out {path}: {error.strerror}; choose another name") from None


def check_outputs(jobs: Sequence[Job], force: bool) -> None:
    """Refuse to write over anything, or where nothing can be written.

    Raises:
        UsageError: If an output exists, is an input, or is named twice.
        ResourceError: If its folder cannot be written.
    """
    writers: dict[Path, Path] = {}
    for job in jobs:
        source = job.info.path
        for output in job.outputs.values():
            if output.resolve() in writers:
                other = writers[output.resolve()]
                raise UsageError(f"{other} and {source} would both become {output}; rename one")
            writers[output.resolve()] = source
            if output.resolve() == source.resolve():
                raise UsageError(f"{output}: is the input itself; choose another --out")
            if _exists(output) and not force:
                raise UsageError(f"{output}: exists; --force replaces it, --out writes elsewhere")
            check_ours(output)
        check_writable(next(iter(job.outputs.values())).parent)
