"""Deferred shading: every sample is painted and lit once, after visibility is settled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unienc_core.data.synthcity import paint_town, paint_traffic
from unienc_core.data.synthcity.ground import Eye
from unienc_core.data.synthcity.hits import CHUNK, Channels, Hits
from unienc_core.data.synthcity.noise import noise
from unienc_core.data.synthcity.parts import Material
from unienc_core.data.synthcity.raster import Raster
from unienc_core.data.synthcity.shapes import FACES
from unienc_core.data.synthcity.street import Street
from unienc_core.data.synthcity.surfaces import SurfaceTable, gather

_HAZE_LENGTH = 550.0

PAINTERS: dict[Material, Callable[[Hits, float], Channels]] = {
    Material.PLAIN: paint_town.plain,
    Material.FACADE: paint_town.facade,
    Material.FOLIAGE: paint_town.foliage,
    Material.BRICK: paint_town.brick,
    Material.FENCE: paint_town.fence,
    Material.BODY: paint_traffic.body,
    Material.GLAZED: paint_traffic.glazed,
    Material.WHEEL: paint_traffic.wheel,
    Material.COACH: paint_traffic.coach,
    Material.SIGN: paint_traffic.sign,
    Material.SIGNAL: paint_traffic.signal,
}


def shade_parts(
    raster: Raster,
    table: SurfaceTable,
    eye: Eye,
    contrast: float,
    albedo: np.ndarray,
    light: np.ndarray,
) -> None:
    """Paint every sample that shows a part.

    Args:
        raster: Visibility; its surface numbers count the table's rows from `FACES` on.
        table: The faces.
        eye: The camera.
        contrast: Factor on texture contrast.
        albedo: `3 M`, filled.
        light: `M`, filled with the cosine to the sun, clipped at 0.
    """
    surface = raster.surface.reshape(-1)
    covered = np.flatnonzero(surface >= FACES)
    # Sorted by painter and face: what belongs to a face is then repeated, not looked up.
    rank = table.rank[surface[covered] - np.uint16(FACES)]
    order = np.argsort(rank, kind="stable")
    covered, rank = covered[order], rank[order]
    bounds = np.searchsorted(rank, table.key_bounds)
    for key, (start, stop) in enumerate(
        zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
    ):
        for begin in range(start, stop, CHUNK):
            end = min(begin + CHUNK, stop)
            index = covered[begin:end]
            hits, cosine = gather(raster, table, index, rank[begin:end], key % 2 == 1, eye.pixel)
            painted = PAINTERS[Material(key // 2)](hits, contrast)
            for c in range(3):
                albedo[c][index] = painted[c]
            light[index] = cosine


def light_up(
    albedo: np.ndarray, light: np.ndarray, nearness: np.ndarray, street: Street
) -> np.ndarray:
    """Apply sun, sky light and haze in place and return the radiance `3 M`.

    Args:
        albedo: `3 M`.
        light: `M`, cosine to the sun times its visibility.
        nearness: `M`, 1 / depth in 1/m; 0 for the sky.
        street: Holds the light.
    """
    # Rational instead of exponential haze: exactly rounded everywhere.
    clear = nearness * np.float32(_HAZE_LENGTH)
    clear /= clear + np.float32(1.0)
    for c in range(3):
        shine = light * np.float32(street.sun_color[c])
        shine += np.float32(street.sky_color[c])
        haze = np.float32(street.horizon[c])
        albedo[c] *= shine
        albedo[c] -= haze
        albedo[c] *= clear
        albedo[c] += haze
    return albedo


def paint_sky(raster: Raster, eye: Eye, street: Street, out: np.ndarray) -> None:
    """Paint the samples that nothing stopped: a gradient and clouds on a high plane."""
    index = np.flatnonzero(raster.nearness.reshape(-1) == 0.0)
    row = index // len(raster.x)
    x, y = raster.x[index - row * len(raster.x)], raster.y[row]
    r = eye.rotation.astype(np.float32)
    dx, dy, dz = (r[k, 0] * x + r[k, 1] * y + r[k, 2] for k in range(3))
    rise = np.maximum(-dy, 0.0)
    scale = np.float32(1.0) / (rise + np.float32(0.12))
    footprint = scale * scale * np.float32(eye.pixel)
    clouds = noise(dx * scale + np.float32(street.cloud * 50.0), dz * scale, footprint, 0.012)
    clouds *= np.float32(0.45)
    clouds += np.float32(street.cloud - 0.35)
    np.clip(clouds, 0.0, 0.9, out=clouds)
    fade = np.minimum(rise * np.float32(6.0), np.float32(1.0))
    clouds *= fade
    height = rise / (rise + np.float32(0.35))
    for c in range(3):
        tone = np.float32(street.horizon[c]) + height * np.float32(
            street.zenith[c] - street.horizon[c]
        )
        tone += clouds * (np.float32(0.93) - tone)
        out[c][index] = tone
