"""How sharply a vehicle turns.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

STANDSTILL = 0.5
"""Below this speed, in m/s, a path has no curvature worth the name, and 0 is written."""


def path_curvature(yaw_rate: float, speed: float) -> float:
    """Return the curvature of the path, 1/km, left positive: yaw rate / speed x 1000.

    Args:
        yaw_rate: rad/s, left positive.
        speed: m/s.
    """
    return 1000.0 * yaw_rate / speed if speed >= STANDSTILL else 0.0
