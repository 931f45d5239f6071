"""Segments of comma2k19: a minute of video, the car's own sensors, and where it was.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.error import FFmpegError

from unienc_core.data.manifest import MAX_SIDE, KeySpec
from unienc_core.data.resample import Size
from unienc_core.data.sets.listing import Listing, missing_tree
from unienc_core.data.sets.measured import Labels, check_increasing, interpolate
from unienc_core.data.sets.recording import Recording
from unienc_core.data.sets.recordings import RecordingsRequest, add_recordings, gather
from unienc_core.data.sets.turning import STANDSTILL, ahead_specs, labels_ahead, way_of
from unienc_core.data.steering import CURVATURE, WHEEL_DEG
from unienc_core.errors import DataError, UsageError

VIDEO, ANGLE, SPEED = "video.hevc", "processed_log/CAN/steering_angle", "processed_log/CAN/speed"
TIMES, POSITIONS = "global_pose/frame_times", "global_pose/frame_positions"
ORIENTATIONS = "global_pose/frame_orientations"
_TREE = (f"<route>/<segment>/{VIDEO}", f"<route>/<segment>/{ANGLE}/t and value")

K = np.array([[910.0, 0, 582.0], [0, 910.0, 437.0], [0, 0, 1.0]])
"""Nominal intrinsics of its cameras, px, of whole pictures of 874x1164."""
WHOLE = (874, 1164)

MAX_ARRAY_BYTES = 64 << 20
_REACH = 5
"""Frames before and after one, between which its path is measured: half a second in all."""


def list_comma2k19(
    root: Path, request: RecordingsRequest, look_ahead: Sequence[float] = ()
) -> Listing:
    """List what segments become: a recording each, called by its route.

    Labels are angles of the steering wheel, in degrees, left positive, measured at about 83 Hz and
    brought to the times of the frames; or, where curvature is asked for and no car is given to
    convert it by, the curvature of the driven path, from `global_pose`.

    Args:
        root: Folder with segments somewhere below it.
        request: What is wanted.
        look_ahead: Metres ahead along the path at which its curvature is stored, too.

    Raises:
        UsageError: If a look-ahead is asked for of labels that are no path's.
        DataError: If there is no segment, or none can be read.
    """
    listing = Listing(root)
    folders = [root, *sorted(root.glob("**/processed_log"))]
    segments = [path.parent for path in folders[1:] if (path.parent / ANGLE).is_dir()]
    if not segments:
        raise missing_tree(root, "comma2k19 segment", _TREE)
    asked = request.labels
    of_path = asked.label == CURVATURE and asked.vehicle.steering_ratio is None
    if look_ahead and not of_path:
        raise UsageError(
            "--look-ahead is for labels of the driven path: give --label curvature, and no "
            "--steering-ratio"
        )
    labels = Labels(CURVATURE if of_path else WHEEL_DEG, asked, "comma2k19, " + _word(of_path))
    specs: dict[str, KeySpec] = {labels.key: labels.spec}
    if of_path:
        specs = dict(ahead_specs(look_ahead, "comma2k19, global_pose"))
    found = gather(
        listing,
        [(str(path), partial(_recording, path, labels, request, look_ahead)) for path in segments],
    )
    listing.remarks += labels.remarks()
    add_recordings(listing, found, request, "comma2k19", specs)
    return listing


def _word(of_path: bool) -> str:
    return "global_pose" if of_path else "CAN steering_angle"


def _recording(
    folder: Path, labels: Labels, request: RecordingsRequest, look_ahead: Sequence[float]
) -> Recording:
    if not (folder / VIDEO).is_file():
        raise DataError(f"{folder / VIDEO}: not there, but {ANGLE} is")
    times = _array(folder / TIMES, 1)
    check_increasing(times, folder / TIMES)
    pictures = VideoPictures(folder / VIDEO, count_pictures(folder / VIDEO))
    times = times[: pictures.count]
    max_gap = request.labels.max_gap
    if labels.found.name == CURVATURE:
        columns = _path_labels(folder, labels, len(times), look_ahead)
    else:
        moments, values = _measured(folder / ANGLE)
        at_frames = interpolate(times, moments, labels.clean(values), max_gap)
        columns = {labels.key: labels.finish(at_frames, folder / ANGLE)}
    if (folder / SPEED).is_dir():
        speeds = interpolate(times, *_measured(folder / SPEED), max_gap)
        columns["speed"] = speeds.astype(np.float32)
    return Recording(
        name=folder.parent.name,
        part=folder.name,
        pictures=pictures,
        times=times,
        columns=columns,
        K=K if pictures.size() == WHOLE else None,
    )


def _measured(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return times and values of a sensor."""
    times, values = _array(folder / "t", 1), _array(folder / "value", None).reshape(-1)
    if len(times) != len(values):
        raise DataError(f"{folder}: {len(times)} times of {len(values)} values")
    check_increasing(times, folder / "t")
    return times, values


def _path_labels(
    folder: Path, labels: Labels, count: int, look_ahead: Sequence[float]
) -> dict[str, np.ndarray]:
    centres = _array(folder / POSITIONS, 2, 3)
    turned = _array(folder / ORIENTATIONS, 2, 4)
    if min(len(centres), len(turned)) < count:
        raise DataError(f"{folder / POSITIONS}: fewer poses than the {count} frames")
    curvature = curvature_of_orientations(turned[:count], centres[:count])
    known = labels.finish(labels.clean(curvature), folder / POSITIONS)
    return labels_ahead(known, way_of(centres[:count]), look_ahead)


def curvature_of_orientations(turned: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the curvature of a path, 1/km, left positive.

    Args:
        turned: `n 4`, Hamilton quaternions from axes forward, right, down to the Earth's.
        centres: `n 3`, m, at 20 Hz.

    Returns:
        `n`; NaN where the car stands.
    """
    numbers = np.arange(len(turned))
    before, after = np.maximum(numbers - _REACH, 0), np.minimum(numbers + _REACH, len(turned) - 1)
    forward, right = _axes(turned)
    ahead = forward[after]
    to_the_right = np.arctan2((ahead * right[before]).sum(1), (ahead * forward[before]).sum(1))
    way = np.linalg.norm(centres[after] - centres[before], axis=1)
    moving = way * 20.0 >= STANDSTILL * np.maximum(after - before, 1)
    return np.where(moving, -1000.0 * to_the_right / np.where(moving, way, 1.0), np.nan)


def _axes(turned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the car's forward and right axes, `n 3` each."""
    w, x, y, z = (turned / np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-9)).T
    forward = (1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w))
    right = (2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w))
    return np.stack(forward, 1), np.stack(right, 1)


def _array(path: Path, ndim: int | None, width: int | None = None) -> np.ndarray:
    """Read an array of numpy, whose file has no suffix."""
    try:
        if path.stat().st_size > MAX_ARRAY_BYTES:
            raise DataError(f"{path}: larger than {MAX_ARRAY_BYTES} bytes, no log of a minute")
        # Mapped, so that the size is known before memory is taken.
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())[:120]})") from None
    fits = isinstance(values, np.ndarray) and values.dtype.kind in "fiu" and values.size > 0
    fits = fits and (ndim is None or values.ndim == ndim)
    fits = fits and (width is None or values.shape[1] == width)
    if not fits:
        raise DataError(f"{path}: no array of numbers as expected")
    return values.astype(np.float64)


@dataclass(frozen=True)
class VideoPictures:
    """The pictures of a video without times, in order.

    Attributes:
        path: The file.
        count: How many.
    """

    path: Path
    count: int

    @property
    def separate(self) -> bool:
        """Whether one that cannot be read says nothing of those after it."""
        return False

    def size(self) -> Size:
        """Return (h, w)."""
        with _opened(self.path) as container:
            codec = container.streams.video[0].codec_context
            size = (codec.height, codec.width)
        if not all(0 < side <= MAX_SIDE for side in size):
            raise DataError(f"{self.path}: pictures of {size[0]}x{size[1]}")
        return size

    def read(self, positions: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield pictures at these positions; those before are decoded, too."""
        wanted = iter(positions)
        following = next(wanted, None)
        with _opened(self.path) as container:
            try:
                for number, frame in enumerate(container.decode(video=0)):
                    if number == following:
                        yield frame.to_ndarray(format="rgb24")
                        following = next(wanted, None)
                    if following is None:
                        return
            except FFmpegError as error:
                raise DataError(f"{self.path}: cannot be decoded ({error.strerror})") from None
        raise DataError(f"{self.name(cast(int, following))}: the video ends before it")

    def name(self, position: int) -> str:
        """Return what a picture is called."""
        return f"{self.path}, frame {position}"


def count_pictures(path: Path) -> int:
    """Return how many pictures a video holds, without decoding them.

    Raises:
        DataError: If it cannot be read.
    """
    with _opened(path) as container:
        try:
            packets = container.demux(container.streams.video[0])
            return sum(packet.size > 0 for packet in packets)
        except FFmpegError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _opened(path: Path) -> Any:
    try:
        container: Any = av.open(str(path))
    except FFmpegError as error:
        raise DataError(f"{path}: no video can be read ({error.strerror})") from None
    if not container.streams.video:
        container.close()
        raise DataError(f"{path}: holds no video track")
    return container
