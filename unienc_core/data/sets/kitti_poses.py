"""The poses of KITTI's odometry sequences.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unienc_core.errors import DataError

MAX_POSES_BYTES = 64 << 20


def poses_file(root: Path, name: str) -> Path:
    """Return where the poses of a sequence lie."""
    return root / "poses" / f"{name}.txt"


def read_poses(path: Path) -> np.ndarray:
    """Read a file of rows of 12 numbers.

    Returns:
        T_world_camera of camera 0, `n 4 4`, m.

    Raises:
        DataError: If it is missing, or a row is no motion.
    """
    try:
        if path.stat().st_size > MAX_POSES_BYTES:
            raise DataError(f"{path}: larger than {MAX_POSES_BYTES} bytes, no file of poses")
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        values = np.array([[float(word) for word in row] for row in rows if row])
    except (OSError, ValueError) as error:
        line = " ".join(str(error).split())
        raise DataError(f"{path}: no poses can be read ({line})") from None
    if values.ndim != 2 or values.shape[1] != 12 or not np.isfinite(values).all():
        raise DataError(f"{path}: found {values.shape} numbers, expected rows of 12 (3x4)")
    T_world_camera = np.tile(np.eye(4), (len(values), 1, 1))
    T_world_camera[:, :3] = values.reshape(-1, 3, 4)
    R = T_world_camera[:, :3, :3]
    off = np.abs(R @ R.transpose(0, 2, 1) - np.eye(3)).max((1, 2))
    wrong = (off > 1e-3) | (np.linalg.det(R) < 0)
    if wrong.any():
        row = int(wrong.argmax())
        what = "no rotation" if off[row] > 1e-3 else "a mirrored picture of a rotation"
        raise DataError(
            f"{path}, row {row + 1}: {what}; expected T_world_camera of x right, y down, z forward"
        )
    return T_world_camera
