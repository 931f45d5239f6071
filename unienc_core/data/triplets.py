"""Which frames form a triplet: a target with a source before and one after it."""

from __future__ import annotations

import numpy as np


def triplet_index(
    num_frames: int, gap: int, positions: np.ndarray | None = None, min_motion: float = 0.0
) -> np.ndarray:
    """List the triplets of a drive.

    Every frame whose two neighbours at distance `gap` exist is a target, unless the camera hardly
    moves to one of them: without parallax there is nothing to learn depth from.

    Args:
        num_frames: Frames of the drive.
        gap: Frames between the target and each source.
        positions: `num_frames 3` camera centres, m, or None where they are unknown.
        min_motion: Least distance from the target to each source, m.

    Returns:
        `n 3` int32: previous, target, next.
    """
    target = np.arange(gap, max(num_frames - gap, gap), dtype=np.int32)
    if positions is not None and min_motion > 0:
        before = np.linalg.norm(positions[target] - positions[target - gap], axis=1)
        after = np.linalg.norm(positions[target + gap] - positions[target], axis=1)
        target = target[np.minimum(before, after) >= min_motion]
    return np.stack((target - gap, target, target + gap), axis=1).astype(np.int32)
