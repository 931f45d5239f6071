"""A store of a camera that moves along a textured wall: small, quick, and learnable."""

from pathlib import Path

import cv2
import numpy as np

from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.store_writer import StoreWriter


def write_tiny_store(path: Path, *, drives=2, frames=6, image_size=(64, 96), seed=0) -> Path:
    """Write the store and return its folder."""
    h, w = image_size
    rng = np.random.default_rng(seed)
    wall = cv2.GaussianBlur(
        rng.uniform(0, 255, (h, w + 8 * frames, 3)).astype(np.float32), (0, 0), 2
    )
    wall = np.clip((wall - wall.mean()) * 4 + 128, 0, 255).astype(np.uint8)
    K = np.array([[0.8 * w, 0, w / 2], [0, 0.8 * w, h / 2], [0, 0, 1]])
    spec = StoreSpec(source="test", image_size=image_size, keys=standard_keys("image", "K"))
    with StoreWriter(path, spec) as writer:
        for drive in range(drives):
            step = 2 + drive
            views = [{"image": wall[:, i * step : i * step + w], "K": K} for i in range(frames)]
            writer.add_drive(f"drive-{drive}", views)
    return path
