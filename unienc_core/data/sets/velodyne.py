"""LiDAR scans as sparse depth maps.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import numpy as np

from unienc_core.data.sets.kitti_calibration import KittiCamera
from unienc_core.errors import DataError

DepthConvention = Literal["camera-z", "velodyne-x"]
DEPTH_CONVENTIONS: tuple[DepthConvention, ...] = get_args(DepthConvention)
"""`camera-z`: distance along the optical axis, each point on the pixel whose centre is nearest.
`velodyne-x`: the published ground truth of the Eigen split: distance ahead of the LiDAR, which
sits 0.27 m behind the camera, and each point one pixel further up and left."""

MAX_SCAN_BYTES = 64 << 20
_POINT = np.dtype("<f4")


def read_scan(path: Path) -> np.ndarray:
    """Read a scan of KITTI's ``.bin`` files.

    Returns:
        `n 4` float32: x forward, y left, z up, in m, and reflectance.

    Raises:
        DataError: If it is missing, cut, or no such file.
    """
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= MAX_SCAN_BYTES else b""
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if not 0 < size <= MAX_SCAN_BYTES or size % (4 * _POINT.itemsize):
        raise DataError(f"{path}: {size} bytes are no scan of 16 bytes a point; copy it again")
    return np.frombuffer(data, _POINT).reshape(-1, 4)


def project_scan(
    scan: np.ndarray,
    camera: KittiCamera,
    T_reference_velodyne: np.ndarray,
    image_size: tuple[int, int],
    convention: DepthConvention = "camera-z",
) -> np.ndarray:
    """Project a scan into a camera; where several points hit a pixel the nearest is kept.

    Args:
        scan: `n 4`, of `read_scan`.
        camera: The camera.
        T_reference_velodyne: `4 4`, m: LiDAR to camera 0, rectified.
        image_size: (h, w), px.
        convention: What depth means and which pixel a point hits, see `DEPTH_CONVENTIONS`.

    Returns:
        `H W` float32, m, 0 where no point is.
    """
    points = scan[scan[:, 0] >= 0].astype(np.float64)
    points = points[np.isfinite(points).all(1)]
    T_camera_velodyne = camera.T_camera_reference @ T_reference_velodyne
    x, y, z = T_camera_velodyne[:3, :3] @ points[:, :3].T + T_camera_velodyne[:3, 3:]
    in_front = z > 0
    x, y, z, ahead = x[in_front], y[in_front], z[in_front], points[in_front, 0]
    K = camera.K
    u = np.round((K[0, 0] * x + K[0, 1] * y) / z + K[0, 2])
    v = np.round(K[1, 1] * y / z + K[1, 2])
    depth = z
    if convention == "velodyne-x":
        # Pixels counted from 1, as the development kit of the set does.
        u, v, depth = u - 1, v - 1, ahead
    height, width = image_size
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height) & (depth > 0)
    nearest = np.full(image_size, np.inf, np.float32)
    pixels = v[inside].astype(np.intp), u[inside].astype(np.intp)
    np.minimum.at(nearest, pixels, depth[inside].astype(np.float32))
    return np.where(np.isinf(nearest), np.float32(0), nearest)
