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


def targets_at_gap(
    gap: int,
    stored: np.ndarray,
    stored_gap: int,
    num_frames: int,
    positions: np.ndarray | None = None,
    min_motion: float = 0.0,
) -> np.ndarray:
    """List the targets of a drive at another gap than its index was stored for.

    A frame that the stored index lacks, though its camera moved enough, was found standing by
    something else than its pose, or is not on a list: it is no target at any gap. (Of a frame
    whose pose alone leaves it out at the stored gap nothing else is known.)

    Args:
        gap: Frames between the target and each source.
        stored: `n` targets of the stored index.
        stored_gap: Gap of the stored index.
        num_frames: Frames of the drive.
        positions: `num_frames 3` camera centres, m, or None where they are unknown.
        min_motion: Least distance from the target to each source, m.

    Returns:
        `n` int32.
    """
    moved = triplet_index(num_frames, stored_gap, positions, min_motion)[:, 1]
    targets = triplet_index(num_frames, gap, positions, min_motion)[:, 1]
    return targets[~np.isin(targets, np.setdiff1d(moved, stored))]
