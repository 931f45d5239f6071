"""How points move between two frames, for the world and for each actor."""

from __future__ import annotations

import numpy as np

from unienc_core.data.synthcity.world import World


def displacements(world: World, target: int, source: int) -> np.ndarray:
    """Return for each actor the map from a point to its complete flow.

    With ``M = displacements(...)[actor]`` the flow of the point X of that actor, given in the
    target camera's frame, is ``M[:, :3] @ X + M[:, 3]``: X in the source camera's frame minus X.

    Args:
        world: The city.
        target: Frame in whose camera points are given.
        source: Frame they move to.

    Returns:
        `A 3 4` float64.
    """
    now_camera = world.drive.T_world_camera[target]
    then_camera = world.drive.T_world_camera[source]
    now, then = world.poses[:, target], world.poses[:, source]
    count = len(now)
    # Every actor turns about the vertical, from its heading now to the one then.
    sin = then[:, 2] * now[:, 3] - then[:, 3] * now[:, 2]
    cos = then[:, 3] * now[:, 3] + then[:, 2] * now[:, 2]
    turn = np.zeros((count, 3, 3))
    turn[:, 0, 0], turn[:, 0, 2] = cos, sin
    turn[:, 1, 1] = 1.0
    turn[:, 2, 0], turn[:, 2, 2] = -sin, cos
    before, after = np.zeros((count, 3)), np.zeros((count, 3))
    before[:, 0], before[:, 2] = now[:, 0], now[:, 1]
    after[:, 0], after[:, 2] = then[:, 0], then[:, 1]
    shift = _apply(turn, now_camera[:3, 3] - before) + after - then_camera[:3, 3]
    out = np.empty((count, 3, 4))
    back = np.broadcast_to(then_camera[:3, :3].T, (count, 3, 3))
    for j in range(3):
        out[:, :, j] = _apply(back, _apply(turn, np.tile(now_camera[:3, j], (count, 1))))
        out[:, j, j] -= 1.0
    out[:, :, 3] = _apply(back, shift)
    return out


def _apply(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Multiply `A 3 3` by `A 3` with plain sums, rounded the same on every machine (no BLAS)."""
    return (
        matrices[:, :, 0] * vectors[:, None, 0]
        + matrices[:, :, 1] * vectors[:, None, 1]
        + matrices[:, :, 2] * vectors[:, None, 2]
    )
