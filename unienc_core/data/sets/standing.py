"""Which frames of a run teach nothing since the camera stands, told by the pictures alone.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import numpy as np

from unienc_core.data.picture_motion import apparent_motion, small_picture


class StandingWatch:
    """Takes the pictures of a run in order and tells which targets hardly differ from a source.

    Args:
        min_motion: Least apparent motion from a target to each of its sources, in widths of the
            picture; 0 counts none as standing.
    """

    def __init__(self, min_motion: float) -> None:
        self._min_motion = min_motion
        self._before: np.ndarray | None = None
        self._count = 0
        self._standing: set[int] = set()

    @property
    def standing(self) -> frozenset[int]:
        """Numbers, from 0, of the pictures so far that show what a neighbour shows."""
        return frozenset(self._standing)

    def add(self, image: np.ndarray) -> None:
        """Take the next picture, `H W 3` uint8 RGB."""
        if self._min_motion <= 0:
            return
        small = small_picture(image)
        if self._before is not None and apparent_motion(self._before, small) < self._min_motion:
            self._standing |= {self._count - 1, self._count}
        self._before, self._count = small, self._count + 1
