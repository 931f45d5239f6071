"""The ground: road, kerb, pavement and terrain, which no part stands for.

The road is the plane y = 0; beyond the kerb the ground is a kerb's height above it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unienc_core.classes import LABEL_BY_NAME
from unienc_core.data.synthcity.raster import Raster
from unienc_core.data.synthcity.shapes import FACES
from unienc_core.data.synthcity.street import KERB_HEIGHT, Zone
from unienc_core.data.synthcity.world import World

SKY, ROAD, KERB, PAVEMENT, TERRAIN = range(5)
"""Surface codes of part 0."""

GROUND_LABELS = np.array(
    [LABEL_BY_NAME[n].id for n in ("sky", "road", "sidewalk", "sidewalk", "terrain")], np.uint8
)

_FARTHEST = 500.0


@dataclass(frozen=True)
class Eye:
    """A camera in the world, in float32 for the rays.

    Attributes:
        rotation: `3 3`, columns are the camera's axes.
        position: `3`, m.
        pixel: Size of a pixel at unit depth, 1 / focal length.
    """

    rotation: np.ndarray
    position: np.ndarray
    pixel: float


@dataclass
class GroundHits:
    """Where N rays of a raster meet the ground.

    Attributes:
        index: Flat position in the raster.
        depth: z-depth, m.
        ray_x: World x of the ray per unit of depth.
        ray_z: World z of it.
        x: World x, m.
        z: World z, m.
        s: Arc length, m.
        d: Offset, m.
        code: uint8 surface code.
    """

    index: np.ndarray
    depth: np.ndarray
    ray_x: np.ndarray
    ray_z: np.ndarray
    x: np.ndarray
    z: np.ndarray
    s: np.ndarray
    d: np.ndarray
    code: np.ndarray


def lay_ground(raster: Raster, eye: Eye) -> None:
    """Start a raster with the road's plane, so that what is buried in it stays hidden."""
    np.maximum(_fall(raster, eye) * np.float32(-1.0 / eye.position[1]), 0.0, out=raster.nearness)


def _fall(raster: Raster, eye: Eye) -> np.ndarray:
    """Return how far each ray goes down per unit of depth."""
    down = eye.rotation[1].astype(np.float32)
    return (down[0] * raster.x + down[2]) + down[1] * raster.y[:, None]


def fill_ground(raster: Raster, eye: Eye, world: World) -> GroundHits:
    """Find the ground on every ray that no part stopped, and enter it into the raster.

    Rays that meet it farther than 500 m away are given to the sky, with nearness 0.
    """
    rotation = eye.rotation.astype(np.float32)
    height = np.float32(-eye.position[1])
    x, fall = raster.x, _fall(raster, eye)
    free, near = raster.surface < FACES, fall > height / np.float32(_FARTHEST)
    raster.nearness *= ~free | near
    free &= near
    index = np.flatnonzero(free)
    rows = free.sum(axis=1)
    column = x[index - np.repeat(np.arange(len(rows)) * len(x), rows)]
    line = np.repeat(raster.y, rows)
    fall = fall.reshape(-1)[index]
    ray_x = rotation[0, 0] * column + rotation[0, 1] * line + rotation[0, 2]
    ray_z = rotation[2, 0] * column + rotation[2, 1] * line + rotation[2, 2]
    eye_x, eye_z = np.float32(eye.position[0]), np.float32(eye.position[2])
    high = (height - np.float32(KERB_HEIGHT)) / fall
    low = height / fall
    high_d = world.road.offset(eye_x + high * ray_x, eye_z + high * ray_z)
    low_d = world.road.offset(eye_x + low * ray_x, eye_z + low * ray_z)
    edge = np.float32(world.street.half_width)
    high_out, low_out = np.abs(high_d) - edge, np.abs(low_d) - edge
    # A ray that is over the road at the kerb's height and beyond it at the road's meets the kerb.
    share = np.clip(-high_out / np.maximum(low_out - high_out, np.float32(1e-6)), 0.0, 1.0)
    depth = high + share * (low - high)
    on_top, on_road = high_out >= 0.0, low_out < 0.0
    depth = np.where(on_top, high, np.where(on_road, low, depth))
    px, pz = eye_x + depth * ray_x, eye_z + depth * ray_z
    d = np.where(on_top, high_d, np.where(on_road, low_d, np.copysign(edge, low_d)))
    s = world.road.arc_length(px, pz)
    code = np.where(on_top, np.uint8(PAVEMENT), np.where(on_road, np.uint8(ROAD), np.uint8(KERB)))
    _mark_terrain(code, s, d, world)
    raster.nearness.reshape(-1)[index] = np.float32(1.0) / depth
    raster.surface.reshape(-1)[index] = code
    return GroundHits(index, depth, ray_x, ray_z, px, pz, s, d, code)


def _mark_terrain(code: np.ndarray, s: np.ndarray, d: np.ndarray, world: World) -> None:
    street = world.street
    far = np.flatnonzero(np.abs(d) > np.float32(street.outer))
    metre = np.clip(s[far] - np.float32(street.zone_start), 0, street.zones.shape[1] - 1)
    zone = street.zones[(d[far] > 0).astype(np.intp), metre.astype(np.intp)]
    code[far[zone != Zone.URBAN]] = TERRAIN
