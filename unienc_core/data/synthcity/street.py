"""The cross-section of a street and what borders it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from unienc_core.data.synthcity.config import CityConfig, stream
from unienc_core.data.synthcity.parts import Color
from unienc_core.data.synthcity.path import Path

KERB_HEIGHT = 0.12
PARKING_WIDTH = 2.2


class Zone(IntEnum):
    """What stands behind a pavement."""

    URBAN = 0
    PARK = 1
    WALL = 2
    FENCE = 3
    HEDGE = 4


@dataclass(frozen=True)
class Street:
    """Widths in metres, from the centreline outwards, alike on both sides.

    Attributes:
        lanes: Lanes in each direction.
        lane_width: Width of a lane.
        parking: Whether there is a parking strip.
        half_width: From the centreline to the kerb.
        outer: From the centreline to the pavement's outer edge.
        crossings: Arc lengths of zebra crossings.
        zones: `2 N` uint8 zone codes, left and right side, one per metre from `zone_start`.
        zone_start: Arc length of the first zone entry.
        trees: Whether trees stand along the kerb.
        asphalt: Colour of the road.
        paving: Colour of the pavement.
        grass: Colour of the terrain.
        solid_line: Whether the centre line is unbroken.
        sun: Unit vector to the sun, world.
        sun_color: Its light.
        sky_color: Light from everywhere else.
        zenith: Sky colour overhead.
        horizon: Sky colour at the horizon.
        cloud: Share of clouds.
    """

    lanes: int
    lane_width: float
    parking: bool
    half_width: float
    outer: float
    crossings: tuple[float, ...]
    zones: np.ndarray
    zone_start: float
    trees: bool
    asphalt: Color
    paving: Color
    grass: Color
    solid_line: bool
    sun: tuple[float, float, float]
    sun_color: Color
    sky_color: Color
    zenith: Color
    horizon: Color
    cloud: float

    def zone_at(self, side: int, s: float) -> Zone:
        """Return the zone behind the pavement; side 0 is left, 1 right."""
        index = int(np.clip(s - self.zone_start, 0, self.zones.shape[1] - 1))
        return Zone(int(self.zones[side, index]))


def make_street(config: CityConfig, path: Path) -> Street:
    """Draw the cross-section, the borders, the surface colours and the light."""
    rng = stream(config, 3)
    lanes = 2 if rng.random() < 0.25 else 1
    lane_width = float(rng.uniform(3.2, 3.6))
    parking = bool(rng.random() < 0.75)
    half_width = lanes * lane_width + (PARKING_WIDTH if parking else 0.5)
    sun, sun_color, sky_color = _draw_light(rng)
    grey, warm = float(rng.uniform(0.30, 0.44)), float(rng.uniform(-0.01, 0.02))
    stone = float(rng.uniform(0.46, 0.62))
    haze = float(rng.uniform(0.0, 1.0))
    return Street(
        lanes=lanes,
        lane_width=lane_width,
        parking=parking,
        half_width=half_width,
        outer=half_width + float(rng.uniform(2.6, 4.0)),
        crossings=_draw_crossings(rng, path),
        zones=np.stack([_draw_zones(rng, path) for _ in range(2)]),
        zone_start=path.start,
        trees=bool(rng.random() < 0.45),
        asphalt=(grey + warm, grey, grey - warm),
        paving=(stone + 0.03, stone, stone - float(rng.uniform(0.0, 0.06))),
        grass=(
            float(rng.uniform(0.24, 0.38)),
            float(rng.uniform(0.36, 0.46)),
            float(rng.uniform(0.13, 0.2)),
        ),
        solid_line=bool(rng.random() < 0.25),
        sun=sun,
        sun_color=sun_color,
        sky_color=sky_color,
        zenith=(0.28 + 0.3 * haze, 0.47 + 0.2 * haze, 0.78 + 0.05 * haze),
        horizon=(0.74 + 0.1 * haze, 0.82 + 0.04 * haze, 0.90),
        cloud=float(rng.uniform(0.1, 0.8)),
    )


def _draw_light(rng: np.random.Generator) -> tuple[tuple[float, float, float], Color, Color]:
    """Draw the sun's direction by rejection (no trigonometry), its light and the sky's."""
    while True:
        x, z = rng.uniform(-1.0, 1.0, 2)
        radius = x * x + z * z
        if 0.3 < radius < 0.75:
            break
    sun = (float(x), -float(np.sqrt(1.0 - radius)), float(z))
    power = float(rng.uniform(0.62, 0.85))
    warm = float(rng.uniform(0.0, 0.08))
    light: Color = (power + warm, power, power - 1.2 * warm)
    ambient = 0.98 - 0.62 * power
    return sun, light, (ambient - 0.02, ambient, ambient + 0.04)


def _draw_crossings(rng: np.random.Generator, path: Path) -> tuple[float, ...]:
    found, s = [], path.start + float(rng.uniform(20.0, 75.0))
    while s < path.end:
        found.append(s)
        s += float(rng.uniform(38.0, 95.0))
    return tuple(found)


def _draw_zones(rng: np.random.Generator, path: Path) -> np.ndarray:
    count = int(path.end - path.start) + 1
    codes = np.zeros(count, np.uint8)
    shares = np.array([0.54, 0.23, 0.08, 0.08, 0.07])
    at = 0
    while at < count:
        length = int(rng.integers(14, 46))
        codes[at : at + length] = rng.choice(len(shares), p=shares)
        at += length
    return codes
