"""Small stores and folders for the evaluator, and a network that reads depth off the image."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import torch

from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.store_writer import StoreWriter
from unienc_core.errors import IntegrityError
from unienc_core.geometry.camera import disparity_to_depth
from unienc_core.inference.frame_output import FrameOutput
from unienc_core.presets import DepthSpec

SIZE = (32, 48)
DEPTH = DepthSpec(min=0.1, max=100.0)
K = np.array([[38.0, 0.0, 22.0], [0.0, 38.0, 14.0], [0.0, 0.0, 1.0]])


def depth_of(red: np.ndarray) -> np.ndarray:
    """Depth in m that the red channel of a toy image stands for."""
    disparity = torch.from_numpy(red.astype(np.float32) / 255)
    return disparity_to_depth(disparity, DEPTH.min, DEPTH.max, DEPTH.convention).numpy()


def toy_frame(rng: np.random.Generator, sky: int = 6) -> dict[str, np.ndarray]:
    """A frame whose red channel is its disparity; the first `sky` rows have no depth."""
    rough = rng.uniform(2, 24, (4, 6)).astype(np.float32)
    red = cv2.resize(rough, SIZE[::-1], interpolation=cv2.INTER_LINEAR).round().astype(np.uint8)
    depth = depth_of(red)
    depth[:sky] = 0
    moving = np.zeros(SIZE, np.uint8)
    moving[20:26, 10:20] = 1
    image = np.stack([red, 255 - red, np.full(SIZE, 90, np.uint8)], axis=2)
    return {"image": image, "depth": depth, "K": K, "motion_mask": moving}


def write_toy_store(
    path: Path,
    drives: dict[str, list[dict[str, np.ndarray]]] | None = None,
    keys: tuple[str, ...] = ("image", "depth", "K", "motion_mask"),
    seed: int = 0,
) -> Path:
    """Write a store of given frames, or of two drives with three random ones each."""
    rng = np.random.default_rng(seed)
    if drives is None:
        drives = {name: [toy_frame(rng) for _ in range(3)] for name in ("north", "south")}
    spec = StoreSpec(
        source="toy", split=path.name, image_size=SIZE, seed=seed, keys=standard_keys(*keys)
    )
    with StoreWriter(path, spec) as writer:
        for name, frames in drives.items():
            writer.add_drive(name, [{key: frame[key] for key in keys} for frame in frames])
    return path


class RedPredictor:
    """Predicts the disparity that the red channel holds, up to a factor and where it is wrong.

    Args:
        factor: On the disparity, so that depth is known up to scale.
        wrong: Pixels whose disparity is doubled.
    """

    def __init__(self, factor: float = 1.0, wrong: np.ndarray | None = None) -> None:
        self.preset = SimpleNamespace(depth=DEPTH, image_size=SIZE)
        self.factor, self.wrong = factor, wrong
        self.calls = 0
        self.has_pose = False

    def encode(self, image: np.ndarray) -> np.ndarray:
        self.calls += 1
        return image

    def decode(self, image: np.ndarray) -> FrameOutput:
        inverse = 1 / depth_of(image[..., 0]).astype(np.float64)
        if self.wrong is not None:
            inverse = np.where(self.wrong, 2 * inverse, inverse)
        low, high = 1 / DEPTH.max, 1 / DEPTH.min
        disparity = (self.factor * inverse - low) / (high - low)
        if not np.isfinite(disparity).all():  # as the real one does
            raise IntegrityError("the network predicts NaN or infinity; use another checkpoint")
        return FrameOutput(disparity.astype(np.float32), DEPTH, image.shape[:2], None)
