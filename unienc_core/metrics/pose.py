"""Metrics of relative camera poses, in float64.

Monocular translation is known up to scale, so a pair is scored by its rotation and by the direction
of its translation, and a snippet of frames after one factor of its own has been fitted.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

POSE_METRICS = (
    "rotation_deg",
    "translation_direction_deg",
    "ate_5",
    "ate_5_std",
    "swap_rotation_deg",
    "swap_translation",
)
"""Names of the figures of a pose evaluation; smaller is better in all of them."""

SNIPPET_FRAMES = 5
"""Frames of a snippet of the odometry protocol of SfMLearner."""

MIN_TRANSLATION = 0.1
"""True motions shorter than this, in m, have no direction worth scoring."""


def rotation_angle(R: np.ndarray) -> float:
    """Return the angle of a rotation matrix `3 3` in degrees, exact near 0 too."""
    sine = np.linalg.norm([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]])
    return float(np.degrees(np.arctan2(sine, np.trace(R) - 1.0)))


def rotation_error(T_gt: np.ndarray, T_found: np.ndarray) -> float:
    """Return the angle of R_gt^T R, in degrees.

    Args:
        T_gt: True motion, `4 4`.
        T_found: Predicted motion, `4 4`.
    """
    return rotation_angle(T_gt[:3, :3].T @ T_found[:3, :3])


def translation_direction_error(T_gt: np.ndarray, T_found: np.ndarray) -> float | None:
    """Return the angle between two translations, in degrees.

    Args:
        T_gt: True motion, `4 4`, m.
        T_found: Predicted motion, `4 4`, any unit; one that does not move at all has no direction
            and counts as 90 degrees, what a guess is off by on average.

    Returns:
        0 to 180, or None where the true motion is shorter than `MIN_TRANSLATION`.
    """
    truth, found = T_gt[:3, 3], T_found[:3, 3]
    if np.linalg.norm(truth) < MIN_TRANSLATION:
        return None
    if not found.any():
        return 90.0
    sine = np.linalg.norm(np.cross(truth, found))
    return float(np.degrees(np.arctan2(sine, truth @ found)))


def swap_error(T_ab: np.ndarray, T_ba: np.ndarray) -> tuple[float, float]:
    """Return how far the motions found for a pair and for the swapped pair are from inverse.

    Args:
        T_ab: Found for the images (a, b), `4 4`.
        T_ba: Found for the images (b, a), `4 4`.

    Returns:
        Of T_ab T_ba, which is the identity where they are inverse: the rotation in degrees, and
        the translation as a share of the mean length of the two. The share is 0 to 2; without
        rotation, 2 means that swapping the images changes nothing.
    """
    product = T_ab @ T_ba
    length = (np.linalg.norm(T_ab[:3, 3]) + np.linalg.norm(T_ba[:3, 3])) / 2
    rest = np.linalg.norm(product[:3, 3])
    return rotation_angle(product[:3, :3]), float(rest / length) if length > 0 else 0.0


def chain(motions: Iterable[np.ndarray]) -> np.ndarray:
    """Return the camera centres that relative motions lead through, in the first camera's frame.

    Args:
        motions: T_previous_current, `4 4`, of each step.

    Returns:
        `n 3`, one more than there are motions; the first is the origin.
    """
    T_first_camera = np.eye(4)
    centres = [T_first_camera[:3, 3]]
    for T_previous_current in motions:
        T_first_camera = T_first_camera @ T_previous_current
        centres.append(T_first_camera[:3, 3])
    return np.stack(centres)


def absolute_trajectory_error(centres_gt: np.ndarray, centres: np.ndarray) -> float:
    """Return the absolute trajectory error of a snippet, in m.

    The odometry protocol of SfMLearner: first centres laid on each other, one factor
    s = sum(g p) / sum(p p), then sqrt(sum |s p - g|^2) / n (the root of the sum, over n).

    Args:
        centres_gt: True camera centres in the first camera's frame, `n 3`, m.
        centres: Predicted ones, `n 3`, any unit.
    """
    truth, found = centres_gt - centres_gt[0], centres - centres[0]
    square = np.sum(found**2)
    scale = np.sum(truth * found) / square if square > 0 else 0.0
    return float(np.sqrt(np.sum((scale * found - truth) ** 2)) / len(truth))
