"""A tiny world with exact ground truth: a camera driving towards a slanted, coloured wall."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.shard_build import DrivePlan
from unienc_core.data.store_writer import StoreWriter

SIZE = (32, 48)
KEYS = (
    "image",
    "K",
    "T_world_camera",
    "timestamp",
    "speed",
    "curvature",
    "depth",
    "motion_mask",
    "semantic",
    "instance",
)
K = np.array([[40.0, 0.0, 19.5], [0.0, 42.0, 14.0], [0.0, 0.0, 1.0]])
NORMAL, OFFSET = np.array([0.25, -0.1, 1.0]), 12.0


def spec(**changes: object) -> StoreSpec:
    """The spec of a store of such drives."""
    base = {
        "source": "fake",
        "split": "train",
        "image_size": SIZE,
        "fps": 17.0,
        "seed": 3,
        "keys": standard_keys(*KEYS),
    }
    return StoreSpec.model_validate({**base, **changes})


def pose(seed: int, index: int) -> np.ndarray:
    """Camera to world: forward, sideways and a slow turn."""
    angle = 0.01 * (seed + 1) * index
    c, s = np.cos(angle), np.sin(angle)
    T = np.eye(4)  # noqa: N806
    T[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    T[:3, 3] = [0.1 * index, 0.02 * index, 0.5 * index]
    return T


def frame(seed: int, index: int, size: tuple[int, int] = SIZE) -> dict[str, np.ndarray]:
    """Render one frame by intersecting rays with the wall; colour is smooth in the world."""
    T = pose(seed, index)  # noqa: N806
    v, u = np.mgrid[: size[0], : size[1]].astype(float)
    rays = np.stack(((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)))
    world = np.tensordot(T[:3, :3], rays, 1)
    depth = (OFFSET - NORMAL @ T[:3, 3]) / np.tensordot(NORMAL, world, 1)
    x, y, _ = T[:3, 3, None, None] + world * depth
    waves = [np.sin(1.1 * x + seed), np.cos(1.3 * y), np.sin(0.9 * x - 0.7 * y)]
    image = np.stack([127.5 + 110 * w for w in waves], -1).round().astype(np.uint8)
    labels = (x * 2).astype(int) % 34
    return {
        "image": image,
        "K": K.copy(),
        "T_world_camera": T,
        "timestamp": np.float64(index / 17),
        "speed": np.float32(8.5),
        "curvature": np.float32(1 + seed),
        "depth": depth.astype(np.float32),
        "motion_mask": (u > 30).astype(np.uint8),
        "semantic": labels.astype(np.uint8),
        "instance": (labels * 1000 + seed).astype(np.int32),
    }


def render(plan: DrivePlan) -> Iterator[dict[str, np.ndarray]]:
    """Frames of a drive."""
    for index in range(plan.num_frames or 0):
        yield frame(int(plan.attrs["seed"] or 0), index, plan.image_size or SIZE)


def plans(count: int = 3, num_frames: int = 5) -> list[DrivePlan]:
    """Drives of a store."""
    return [DrivePlan(f"drive-{n}", num_frames, attrs={"seed": n}) for n in range(count)]


def write_fake_store(path: Path, count: int = 3, num_frames: int = 5, **changes: object) -> Path:
    """Write a store of such drives and return its folder."""
    with StoreWriter(path, spec(**changes)) as writer:
        writer.add_shards([[plan] for plan in plans(count, num_frames)], render)
    return path


def file_bytes(folder: Path) -> dict[str, bytes]:
    """All files of a folder, hidden ones included."""
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }
