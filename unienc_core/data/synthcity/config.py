"""What a synthetic city is asked to be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unienc_core.errors import UsageError

VIEW_DISTANCE = 170.0
"""Metres of road that are furnished ahead of the last camera."""

MAX_FRAMES = 1200
"""Longest drive; world size grows with it."""


@dataclass(frozen=True)
class CityConfig:
    """Everything that a city is made from; equal configs give equal bytes.

    Attributes:
        seed: Seed of the world. The drive, the parts and their colours follow from it.
        image_size: Height and width in pixels.
        num_frames: Frames of the drive.
        fps: Frames a second.
        supersample: Samples along each side of a pixel.
        noise: Standard deviation of the sensor noise, image values being 0..1.
        shadows: Whether the sun casts shadows.
        min_speed: Slowest ego speed, m/s.
        max_speed: Fastest ego speed, m/s.
        traffic: Factor on the number of moving actors; 0 for a static world.
        texture_contrast: Factor on the contrast of every texture.
    """

    seed: int
    image_size: tuple[int, int] = (96, 320)
    num_frames: int = 30
    fps: float = 17.0
    supersample: int = 2
    noise: float = 0.0075
    shadows: bool = False
    min_speed: float = 6.0
    max_speed: float = 13.0
    traffic: float = 1.0
    texture_contrast: float = 1.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        height, width = self.image_size
        limits = {
            "seed": 0 <= self.seed < 2**63,
            "image_size": 16 <= height <= 2048 and 16 <= width <= 4096,
            "num_frames": 1 <= self.num_frames <= MAX_FRAMES,
            "fps": 1.0 <= self.fps <= 240.0,
            "supersample": 1 <= self.supersample <= 4,
            "noise": 0.0 <= self.noise <= 0.2,
            "min_speed": 0.0 <= self.min_speed <= self.max_speed,
            "max_speed": self.max_speed <= 20.0,
            "traffic": 0.0 <= self.traffic <= 3.0,
            "texture_contrast": 0.0 <= self.texture_contrast <= 2.0,
        }
        for name, ok in limits.items():
            if not ok:
                found = getattr(self, name)
                raise UsageError(f"city: {name} = {found} is out of range (see CityConfig)")


def stream(config: CityConfig, *keys: int) -> np.random.Generator:
    """Return the random stream of one purpose of one city.

    Args:
        config: The city.
        *keys: Small integers that name the purpose.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([config.seed, *keys])))
