"""A first look through a clip: where it may be cut into drives, and what frames its picture."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from unienc_core.data.picture_motion import apparent_motion, small_picture
from unienc_core.data.scene_cuts import CutDetector

_BAR_EVERY = 10
_DARK = 24
"""Grey value that no pixel of a black bar exceeds: black of limited range, and coding noise."""
_BRIGHT_SHARE = 0.02
_LEAST_BAR = 4
_BAR_EDGE = 2
"""Coding smears the picture into this many pixels of a bar, and the bar into the picture."""
_LEAST_PICTURE = 0.34
_LONGEST_STEP = 3.0


@dataclass(frozen=True)
class Window:
    """A part of a picture, in px: columns from `left` up to but without `right`, rows alike."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Return that part of `H W ...`."""
        return image[self.top : self.bottom, self.left : self.right]


@dataclass(frozen=True)
class ClipScan:
    """What a look through the kept frames of a clip found.

    Attributes:
        times: `n`, seconds after the first frame.
        breaks: `n`, bool: no triplet may hold this frame and the one before it.
        motion: `n`, apparent motion since the frame `gap` before, in widths of the picture; NaN
            where there is none, or a break between.
        gap: Frames between a target and each of its sources.
        picture: The picture without black bars.
        num_cuts: Breaks that are scene cuts.
        num_gaps: Breaks where frames are missing.
    """

    times: np.ndarray
    breaks: np.ndarray
    motion: np.ndarray
    gap: int
    picture: Window
    num_cuts: int
    num_gaps: int

    def runs(self, min_motion: float) -> tuple[list[range], int]:
        """List the longest rows of frames without a break, in which the camera moves.

        Args:
            min_motion: Least motion between a target and a source, in widths of the picture.

        Returns:
            The rows that hold a triplet at least, and the number of frames of a standing camera.
        """
        standing = self.standing(min_motion)
        runs: list[range] = []
        start = 0
        for i in range(len(self.times) + 1):
            if i == len(self.times) or self.breaks[i] or standing[i]:
                runs.append(range(start, i))
                start = i + (i < len(self.times) and bool(standing[i]))
        return [run for run in runs if len(run) > 2 * self.gap], int(standing.sum())

    def standing(self, min_motion: float) -> np.ndarray:
        """Tell which frames show what both their sources show, and so for more than a moment."""
        count, gap = len(self.times), self.gap
        still = self.motion < min_motion
        still_or_unknown = still | np.isnan(self.motion)
        later, later_unknown = (np.ones(count, bool) for _ in range(2))
        later[: count - gap] = still_or_unknown[gap:]
        later_unknown[: count - gap] = np.isnan(self.motion[gap:])
        known = ~(np.isnan(self.motion) & later_unknown)
        return _long_enough(still_or_unknown & later & known, 2 * gap + 1)


class ClipScanner:
    """Looks through a clip frame by frame, in constant memory but for a few numbers a frame.

    Args:
        gap: Frames between a target and each of its sources.
        step: Usual time between two kept frames, s.
    """

    def __init__(self, gap: int, step: float) -> None:
        self._gap, self._longest_step = gap, _LONGEST_STEP * step
        self._cuts = CutDetector()
        self._recent: deque[np.ndarray] = deque(maxlen=gap)
        self._times: list[float] = []
        self._breaks: list[bool] = []
        self._motion: list[float] = []
        self._num_cuts = self._num_gaps = 0
        self._bright_rows = self._bright_columns = np.zeros(0)

    def add(self, image: np.ndarray, time: float, *, after_gap: bool) -> None:
        """Take the next kept frame.

        Args:
            image: `H W 3`, uint8, RGB; all of one size.
            time: Seconds after the first frame.
            after_gap: Whether frames are missing before it.
        """
        if len(self._times) % _BAR_EVERY == 0:
            self._look_for_bars(image)
        late = bool(self._times) and time - self._times[-1] > self._longest_step
        missing = after_gap or late
        if missing:
            self._cuts.interrupt()
        cut = self._cuts.is_cut(image)
        self._num_gaps += missing
        self._num_cuts += cut and not missing
        if cut or missing:
            self._recent.clear()
        small = small_picture(image)
        full = len(self._recent) == self._gap
        self._motion.append(apparent_motion(self._recent[0], small) if full else np.nan)
        self._recent.append(small)
        self._times.append(time)
        self._breaks.append(cut or missing)

    def result(self) -> ClipScan:
        """Return what was found in the frames so far, of which there must be one."""
        height, width = len(self._bright_rows), len(self._bright_columns)
        top, bottom = _inside(self._bright_rows)
        left, right = _inside(self._bright_columns)
        return ClipScan(
            times=np.array(self._times),
            breaks=np.array(self._breaks),
            motion=np.array(self._motion),
            gap=self._gap,
            picture=Window(left, top, width - right, height - bottom),
            num_cuts=self._num_cuts,
            num_gaps=self._num_gaps,
        )

    def _look_for_bars(self, image: np.ndarray) -> None:
        bright = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) > _DARK
        rows, columns = bright.mean(1), bright.mean(0)
        if not self._times:
            self._bright_rows, self._bright_columns = rows, columns
        else:
            self._bright_rows = np.maximum(self._bright_rows, rows)
            self._bright_columns = np.maximum(self._bright_columns, columns)


def _inside(bright: np.ndarray) -> tuple[int, int]:
    """Return how many px to cut off before and after what is ever bright."""
    lit = np.flatnonzero(bright > _BRIGHT_SHARE)
    if not len(lit) or lit[-1] - lit[0] < _LEAST_PICTURE * len(bright):
        return 0, 0  # a dark clip has no bars
    ends = int(lit[0]), int(len(bright) - 1 - lit[-1])
    before, after = (n + _BAR_EDGE if n >= _LEAST_BAR else 0 for n in ends)
    return before, after


def _long_enough(flags: np.ndarray, least: int) -> np.ndarray:
    """Keep only the runs of True of `least` or more."""
    edges = np.diff(np.concatenate(([0], flags.astype(np.int8), [0])))
    kept = np.zeros_like(flags)
    for start, stop in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        kept[start:stop] = stop - start >= least
    return kept
