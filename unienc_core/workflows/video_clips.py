"""The clips of `prepare-data video`: opened, looked through, and planned as drives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

from unienc_core.contracts import Progress, Reporter, Say
from unienc_core.data.clip_scan import ClipScan, ClipScanner, Window
from unienc_core.data.manifest import Attribute
from unienc_core.data.shard_build import DrivePlan
from unienc_core.data.video_source import (
    MIN_SIDE,
    ClipView,
    KeptFrame,
    frames_per_drive,
    make_view,
    split_runs,
    stride_to,
    usual_gap,
)
from unienc_core.errors import DataError, UsageError
from unienc_core.files import sha256_file
from unienc_core.geometry.camera import K_from_fov, crop_K
from unienc_core.inference.frames import SourceInfo
from unienc_core.inference.span import Span
from unienc_core.inference.video import VideoReader
from unienc_core.workflows.intrinsics import ASSUMED_FOV, Intrinsics, given_K
from unienc_core.workflows.video_request import VideoRequest

_RATE_FRAMES = 64


@dataclass(frozen=True)
class Clip:
    """A clip that opens.

    Attributes:
        path: The file.
        name: Its stem, unique among the clips.
        sha256: Of the file's bytes.
        info: What is known of it.
        fps: Its usual rate, from the times of its first frames.
        stride: Every which frame is kept.
    """

    path: Path
    name: str
    sha256: str
    info: SourceInfo
    fps: float
    stride: int = 1

    def record(self) -> dict[str, Any]:
        """Return what makes the clip this clip, as plain data."""
        return {"file": self.path.name, "sha256": self.sha256}


@dataclass(frozen=True)
class PlannedClip:
    """A clip that was looked through.

    Attributes:
        clip: The clip.
        scan: What was found.
        camera: Its intrinsics, px of the clip's whole picture.
        view: How its picture is stored.
        drives: Split, frame numbers and plan of each drive, in the order of time.
        num_standing: Frames of a standing camera, left out.
        num_lost: Frames that could not be read.
    """

    clip: Clip
    scan: ClipScan
    camera: Intrinsics
    view: ClipView
    drives: list[tuple[str, range, DrivePlan]]
    num_standing: int
    num_lost: int

    @property
    def bars(self) -> list[int] | None:
        """Left, top, right and bottom black bar, px, if there is one."""
        info, seen = self.clip.info, self.scan.picture
        bars = [seen.left, seen.top, info.width - seen.right, info.height - seen.bottom]
        return bars if any(bars) else None

    @property
    def num_stored(self) -> int:
        """Frames of all drives."""
        return sum(len(run) for _, run, _ in self.drives)


class Failures:
    """Clips that cannot be used, said as they are met."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.found: list[dict[str, str]] = []

    def add(self, path: Path, error: DataError) -> None:
        """Take one."""
        self._say(f"left out: {error}")
        self.found.append({"path": str(path), "error": str(error)})

    def as_error(self) -> DataError:
        """Return the error to raise when nothing else is left."""
        first, count = self.found[0]["error"], len(self.found)
        return DataError(first if count == 1 else f"none of {count} clips can be used: {first}")


def open_clips(paths: Sequence[Path], failures: Failures) -> list[Clip]:
    """Open every clip, measure its rate, and thin the faster ones to that of the slowest.

    Raises:
        UsageError: If a clip is given twice.
        DataError: If none can be opened.
    """
    clips: list[Clip] = []
    for path in paths:
        try:
            clips.append(_open(path, clips))
        except DataError as error:
            failures.add(path, error)
        except OSError as error:  # a name too long, a folder that may not be entered
            failures.add(path, DataError(f"{path}: cannot be read ({error.strerror})"))
    if not clips:
        raise failures.as_error()
    slowest = min(clip.fps for clip in clips)
    return [replace(clip, stride=stride_to(clip.fps, slowest)) for clip in clips]


def store_rate(clips: Sequence[Clip], gap: int | None) -> tuple[float, int]:
    """Return frames per second and the gap of stores made of these clips."""
    fps = min(clip.fps / clip.stride for clip in clips)
    return fps, gap or usual_gap(fps)


def thinned(reader: VideoReader, stride: int) -> Iterator[KeptFrame]:
    """Yield every `stride`-th frame of an opened clip."""
    was_damaged = False
    for number, frame in enumerate(reader.frames(Span(stride=stride))):
        after_gap = frame.num_lost > 0 or frame.is_damaged or was_damaged
        was_damaged = frame.is_damaged
        yield KeptFrame(number, frame.image, frame.time, after_gap)


def plan_clip(clip: Clip, gap: int, request: VideoRequest, reporter: Reporter) -> PlannedClip:
    """Look through a clip and plan its drives.

    Raises:
        DataError: If it holds no triplet.
        UsageError: If the request does not fit it.
    """
    scanner = ClipScanner(gap, clip.stride / clip.fps)
    expected = None if clip.info.num_frames is None else clip.info.num_frames // clip.stride
    with VideoReader(clip.path) as reader:
        for kept in thinned(reader, clip.stride):
            scanner.add(kept.image, kept.time, after_gap=kept.after_gap)
            reporter.progress(
                Progress(f"look through {clip.name}", kept.number + 1, expected, "frame")
            )
        losses = reader.losses
    scan = scanner.result()
    runs, num_standing = scan.runs(request.min_motion)
    if not runs:
        raise DataError(
            f"{clip.path}: holds no {2 * gap + 1} frames on end in which the camera moves "
            f"({len(scan.times)} frames, {num_standing} of them standing, {scan.num_cuts} cuts, "
            f"{scan.num_gaps} gaps); give a longer clip, or a smaller --gap or --min-motion"
        )
    camera, view = look(clip, scan.picture, request)
    return PlannedClip(
        clip,
        scan,
        camera,
        view,
        _drives(clip, runs, gap, view, camera.origin, request.shares),
        num_standing,
        losses.num_lost,
    )


def look(clip: Clip, picture: Window | None, request: VideoRequest) -> tuple[Intrinsics, ClipView]:
    """Return the camera of a clip and how its picture is stored.

    Args:
        clip: The clip.
        picture: Its picture without black bars; None while that is not known.
        request: Gives camera, crop and size.
    """
    info = clip.info
    picture = picture or Window(0, 0, info.width, info.height)
    size, fov = (info.height, info.width), request.camera.fov
    K, origin = given_K(request.camera, clip.path, size), "given"
    if K is None:
        # An angle is that of the camera's picture: bars were added to it later.
        centred = K_from_fov(fov or ASSUMED_FOV, *picture.size).double()
        K = crop_K(centred, -picture.left, -picture.top).numpy()
        origin = "assumed" if fov is None else "fov"
    camera = Intrinsics(K, origin)
    try:
        return camera, make_view(camera.K, size, picture, request.crop, request.image_size)
    except UsageError as error:
        raise UsageError(f"{clip.path}: {error}") from None


def _drives(
    clip: Clip,
    runs: Sequence[range],
    gap: int,
    view: ClipView,
    origin: str,
    shares: Mapping[str, float],
) -> list[tuple[str, range, DrivePlan]]:
    by_split = split_runs(runs, shares, gap, frames_per_drive(view.image_size))
    parts = sorted((run.start, run, split) for split, runs in by_split.items() for run in runs)
    attrs: dict[str, Attribute] = {
        "clip": clip.path.name,
        "clip_sha256": clip.sha256,
        "clip_stride": clip.stride,
        "camera": origin,
    }
    return [
        (
            split,
            run,
            DrivePlan(
                f"{clip.name}-{n:04d}", len(run), view.image_size, {**attrs, "first_frame": start}
            ),
        )
        for n, (start, run, split) in enumerate(parts)
    ]


def _open(path: Path, before: Sequence[Clip]) -> Clip:
    with VideoReader(path) as reader:
        info = reader.info
        times = [frame.time for frame in islice(reader.frames(), _RATE_FRAMES)]
    if len(times) < 2:
        raise DataError(f"{path}: holds a single frame; a triplet needs three")
    if min(info.height, info.width) < MIN_SIDE:
        size = f"{info.height}x{info.width} px"
        raise DataError(f"{path}: is {size}, at least {MIN_SIDE} are needed each way")
    digest = sha256_file(path)
    for other in before:
        if other.sha256 == digest:
            raise UsageError(f"{path} and {other.path} are the same video; give it once")
    names = {clip.name for clip in before}
    name = next(n for n in _names(path.stem) if n not in names)
    fps = round(1 / float(np.median(np.diff(times))), 3)
    return Clip(path, name, digest, info, fps)


def _names(stem: str) -> Iterator[str]:
    yield stem
    for n in count(2):
        yield f"{stem}-{n}"
