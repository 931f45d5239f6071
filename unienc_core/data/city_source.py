"""The synthetic city as a source of drives.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import Attribute, StoreSpec
from unienc_core.data.shard_build import DrivePlan, Frame
from unienc_core.data.steering import ahead_key, steering_spec
from unienc_core.data.synthcity import City, CityConfig
from unienc_core.data.synthcity.drive import curvature_ahead
from unienc_core.errors import UsageError

SPLITS = ("train", "val", "test")
FPS = 17.0
MIN_MOTION = 0.25
"""Triplets that move less than this, in m, teach nothing."""

WORLDS_PER_SPLIT = 1_000_000

CITY_KEYS = (
    "image",
    "K",
    "T_world_camera",
    "timestamp",
    "speed",
    "curvature",
    "depth",
    "semantic",
    "instance",
    "motion_mask",
    "independent_flow_prev",
    "independent_flow_next",
)


def world_seed(seed: int, split: str, index: int) -> int:
    """Return the seed of a world: no two (seed, split, index) share one.

    Raises:
        UsageError: If the split is unknown or the index beyond what a split may hold.
    """
    if split not in SPLITS:
        raise UsageError(f"no split '{split}'; splits are {', '.join(SPLITS)}")
    if not 0 <= index < WORLDS_PER_SPLIT:
        raise UsageError(f"world {index} of split {split}: at most {WORLDS_PER_SPLIT} a split")
    return (seed * len(SPLITS) + SPLITS.index(split)) * WORLDS_PER_SPLIT + index


@dataclass(frozen=True)
class CitySource:
    """Renders the drive of a plan; equal settings and seeds give equal frames.

    Attributes:
        image_size: (h, w), px.
        supersample: Samples along each side of a pixel.
        noise: Standard deviation of the sensor noise, image values being 0..1.
        shadows: Whether the sun casts shadows.
        look_ahead: Metres ahead along the path at which its curvature is a label, too.
    """

    image_size: tuple[int, int]
    supersample: int
    noise: float
    shadows: bool
    look_ahead: tuple[float, ...] = ()

    def __call__(self, plan: DrivePlan) -> CityDrive:
        """Build the world of a plan."""
        seed, num_frames = plan.attrs["world_seed"], plan.num_frames
        if not isinstance(seed, int) or num_frames is None:
            raise UsageError(f"drive {plan.name}: a city needs a world_seed and its frame count")
        return CityDrive(City(self.config(seed, num_frames)), self.look_ahead)

    def config(self, seed: int, num_frames: int) -> CityConfig:
        """Return the config of one world.

        Raises:
            UsageError: If a setting is out of range.
        """
        return CityConfig(
            seed=seed,
            image_size=self.image_size,
            num_frames=num_frames,
            fps=FPS,
            supersample=self.supersample,
            noise=self.noise,
            shadows=self.shadows,
        )

    def spec(self, split: str, seed: int, drives: int, frames: int) -> StoreSpec:
        """Return the spec of a split's store."""
        settings = {
            "drives": drives,
            "frames": frames,
            "supersample": self.supersample,
            "noise": self.noise,
            "shadows": self.shadows,
        }
        ahead = {key: steering_spec(key) for key in map(ahead_key, self.look_ahead)}
        return StoreSpec(
            source="synth-city",
            split=split,
            image_size=self.image_size,
            keys={**standard_keys(*CITY_KEYS), **ahead},
            fps=FPS,
            seed=seed,
            min_motion=MIN_MOTION,
            config=settings,
        )


def city_plans(split: str, seed: int, drives: int, frames: int) -> list[DrivePlan]:
    """Plan the drives of a split, each in a world of its own."""
    return [
        DrivePlan(
            f"{split}-{index:04d}",
            frames,
            attrs={"world_seed": world_seed(seed, split, index)},
        )
        for index in range(drives)
    ]


class CityDrive:
    """The frames of a city in the keys of a store.

    Attributes:
        attrs: Height of the camera above the ground, m.
    """

    def __init__(self, city: City, look_ahead: Sequence[float] = ()) -> None:
        self._city = city
        world = city.world
        self._ahead = {
            ahead_key(metres): curvature_ahead(world.path, world.drive, metres)
            for metres in look_ahead
        }
        height = -float(city.world.drive.T_world_camera[0, 1, 3])
        self.attrs: dict[str, Attribute] = {"camera_height": height}

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self._city.num_frames):
            yield self._frame(index)

    def _frame(self, index: int) -> Frame:
        neighbours = {"prev": -1, "next": 1}
        inside = {
            name: step
            for name, step in neighbours.items()
            if 0 <= index + step < self._city.num_frames
        }
        rendered = self._city.render(index, flow_to=tuple(inside.values()))
        frame: dict[str, np.ndarray] = {
            key: rendered[key]
            for key in ("image", "K", "T_world_camera", "depth", "semantic", "motion_mask")
        }
        frame["instance"] = rendered["instance_ids"]
        frame["timestamp"] = np.asarray(rendered["timestamp"], np.float64)
        for key in ("speed", "curvature"):
            frame[key] = np.asarray(rendered[key], np.float32)
        for key, values in self._ahead.items():
            frame[key] = np.asarray(values[index], np.float32)
        for name in neighbours:
            flow = np.zeros((3, *rendered["depth"].shape), np.float32)
            if name in inside:
                pose = self._city.world.drive.T_world_camera[index + inside[name]]
                _own_motion(flow, rendered, rendered[f"complete_flow_{name}"], pose)
            frame[f"independent_flow_{name}"] = flow
        return frame


def _own_motion(
    out: np.ndarray, frame: Frame, complete_flow: np.ndarray, T_world_source: np.ndarray
) -> None:
    """Fill in F_I = F_C - F_R on moving pixels; everything else does not move by itself."""
    v, u = np.nonzero(frame["motion_mask"])
    K, depth = frame["K"], frame["depth"][v, u].astype(np.float64)
    rays = np.stack(((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones(len(u))))
    T_source_target = np.linalg.inv(T_world_source) @ frame["T_world_camera"]
    points = rays * depth
    rigid = T_source_target[:3, :3] @ points + T_source_target[:3, 3:] - points
    out[:, v, u] = complete_flow[v, u].T - rigid
