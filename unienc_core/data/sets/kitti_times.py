"""When KITTI's frames were taken: the files of times beside the pictures.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from unienc_core.data.sets.kitti_calibration import FPS
from unienc_core.errors import DataError

TIMES_FILE = "times.txt"
"""Of an odometry sequence: seconds, a line a frame."""

MAX_TIMES_BYTES = 16 << 20
_KEPT_FILES = 16
_DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,9})?", re.ASCII)


def timestamps_file(camera: int) -> str:
    """Return where a raw drive keeps the dates of a camera's pictures, a line a frame."""
    return f"image_{camera:02d}/timestamps.txt"


def frame_times(path: Path | None, frames: Sequence[int]) -> np.ndarray:
    """Return when frames were taken, float64, s after the first of them.

    Args:
        path: File of times, line n (from 0) being that of frame n; None where there is none, and
            the rate of the cameras must do.
        frames: Numbers, ascending.

    Raises:
        DataError: If the file cannot be read, or has no time of a frame.
    """
    if path is None:
        return (np.array(frames) - frames[0]) / FPS
    times = _read(path)
    if frames[-1] >= len(times):
        raise DataError(
            f"{path}: {len(times)} times, but the drive has frame {frames[-1]}; copy it again, or "
            "remove it for times at the nominal rate"
        )
    chosen = times[list(frames)]
    if np.isnan(chosen).any():
        number = frames[int(np.isnan(chosen).argmax())]
        raise DataError(f"{path}, line {number + 1}: empty, expected the time of frame {number}")
    return chosen - chosen[0]


@lru_cache(_KEPT_FILES)
def _read(path: Path) -> np.ndarray:
    """Read a file of dates or of seconds; NaN where a line is empty."""
    try:
        if path.stat().st_size > MAX_TIMES_BYTES:
            raise DataError(f"{path}: larger than {MAX_TIMES_BYTES} bytes, no file of times")
        lines = path.read_text(encoding="utf-8").rstrip().splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    times = np.full(len(lines), np.nan)
    first: np.datetime64 | None = None
    for number, line in enumerate(lines):
        text = line.strip()
        try:
            if _DATE.fullmatch(text):
                # The difference first: float64 keeps seconds since 1970 to 0.2 us only.
                date = np.datetime64(text, "ns")
                first = date if first is None else first
                times[number] = (date - first) / np.timedelta64(10**9, "ns")
            elif text:
                times[number] = float(text)
        except ValueError:
            times[number] = np.inf
        if np.isinf(times[number]):
            raise DataError(
                f"{path}, line {number + 1}: found '{text[:40]}', expected a time like "
                "'2011-09-26 13:02:25.964389445' or seconds"
            )
    return times
