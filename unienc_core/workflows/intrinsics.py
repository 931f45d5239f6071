"""Which camera took a video: given, known from the data, remembered by the checkpoint, assumed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from unienc_core.checkpoint import Checkpoint
from unienc_core.errors import CheckpointError, UsageError
from unienc_core.geometry.camera import K_from_fov, resize_K
from unienc_core.inference.frames import SourceInfo

ASSUMED_FOV = 60.0

SAME_SHAPE = 0.05
"""Pictures whose sides' ratios differ by less are taken to be of one shape."""


@dataclass(frozen=True)
class Intrinsics:
    """Intrinsics of a video and how we came by them.

    Attributes:
        K: `3 3`, pixels of the video.
        origin: ``given``, ``fov``, ``store``, ``checkpoint`` or ``assumed``.
    """

    K: np.ndarray
    origin: str


@dataclass(frozen=True)
class CameraRequest:
    """What the user said of the camera: `K` as (fx, fy, cx, cy) in pixels, or `fov` in degrees."""

    K: tuple[float, float, float, float] | None = None
    fov: float | None = None


def parse_camera(intrinsics: str | None, fov: float | None) -> CameraRequest:
    """Read ``FX,FY,CX,CY`` or a horizontal field of view.

    Raises:
        UsageError: If both are given, or either makes no sense.
    """
    if fov is not None and not 0 < fov < 180:
        raise UsageError(f"--fov {fov:g}: expected degrees between 0 and 180")
    if intrinsics is None:
        return CameraRequest(None, fov)
    if fov is not None:
        raise UsageError("give --K or --fov, not both")
    try:
        fx, fy, cx, cy = (float(part) for part in intrinsics.split(","))
    except ValueError:
        raise UsageError(f"--K {intrinsics}: expected four numbers FX,FY,CX,CY") from None
    if not (fx > 0 and fy > 0 and np.isfinite([fx, fy, cx, cy]).all()):
        raise UsageError(f"--K {intrinsics}: expected finite numbers, focal lengths above 0")
    return CameraRequest((fx, fy, cx, cy))


def choose_intrinsics(info: SourceInfo, request: CameraRequest) -> Intrinsics | None:
    """Return the intrinsics that the user or the data give, if they do.

    Raises:
        UsageError: If a given principal point lies outside the image.
    """
    K = given_K(request, info.path, (info.height, info.width))
    if K is not None:
        return Intrinsics(K, "given")
    if request.fov is not None:
        return Intrinsics(_from_fov(request.fov, info), "fov")
    if info.K is not None:
        return Intrinsics(np.asarray(info.K, np.float64), "store")
    return None


def given_K(request: CameraRequest, path: Path, size: tuple[int, int]) -> np.ndarray | None:
    """Return the intrinsics `3 3` that the user gave, if any, for images of `size` (h, w).

    Raises:
        UsageError: If the principal point lies outside the image.
    """
    if request.K is None:
        return None
    fx, fy, cx, cy = request.K
    height, width = size
    if not (0 <= cx < width and 0 <= cy < height):
        raise UsageError(
            f"{path}: principal point ({cx:g}, {cy:g}) lies outside the {width}x{height} image; "
            "give --K in pixels of this image"
        )
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])


def remembered_intrinsics(info: SourceInfo, checkpoint: Checkpoint) -> Intrinsics:
    """Return the intrinsics the checkpoint was trained with, else those of 60 degrees.

    ``state["K"]`` of a checkpoint (`3 3`, at the preset's size) is what the network takes every
    image to be; here it is brought to the size of the video. A video of another shape was not seen
    through a stretched lens: it keeps the horizontal field of view and the shape of the pixels.
    """
    stored = checkpoint.state.get("K")
    if stored is None:
        return Intrinsics(_from_fov(ASSUMED_FOV, info), "assumed")
    K = torch.tensor(stored, dtype=torch.float64)
    if K.shape != (3, 3):
        raise CheckpointError(f"{checkpoint.path}: K has shape {list(K.shape)}, expected [3, 3]")
    resized = resize_K(K, checkpoint.preset.image_size, (info.height, info.width)).numpy()
    pixel_shape = float(K[1, 1] / K[0, 0])
    if not math.isclose(resized[1, 1], resized[0, 0] * pixel_shape, rel_tol=SAME_SHAPE):
        resized[1, 1] = resized[0, 0] * pixel_shape
    return Intrinsics(resized, "checkpoint")


def _from_fov(fov: float, info: SourceInfo) -> np.ndarray:
    return K_from_fov(fov, info.height, info.width).double().numpy()
