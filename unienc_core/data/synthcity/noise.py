"""Texture that keeps still under motion: mip-mapped noise, box-filtered pulses, hashes.

Only operations that IEEE 754 rounds exactly touch a coordinate (no exp, log or sine), so a pixel
comes out the same with any vector instructions.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

TILE = 512
"""Side of the noise tile in texels; the noise repeats after it."""

_LEVELS = 9
ROW = 4096
"""OpenCV's remap takes at most 32767 columns: flat samples travel in rows of this many."""


def remap_flat(table: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Read `table` bilinearly at flat float32 positions, edges replicated.

    Args:
        table: `h w` float32.
        x: Column of each of N samples.
        y: Row of each.

    Returns:
        N float32 values.
    """
    count = len(x)
    if count == 0:
        return np.empty(0, np.float32)
    if count < ROW:
        out = cv2.remap(table, x[None], y[None], cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)
        return out.reshape(-1)[:count]
    whole = count - count % ROW
    shape = (whole // ROW, ROW)
    out = np.empty(count, np.float32)
    cv2.remap(
        table,
        x[:whole].reshape(shape),
        y[:whole].reshape(shape),
        cv2.INTER_LINEAR,
        out[:whole].reshape(shape),
        cv2.BORDER_REPLICATE,
    )
    if whole < count:
        out[whole:] = remap_flat(table, x[whole:], y[whole:])
    return out


def _make_tile(seed: int) -> np.ndarray:
    """Return a periodic `TILE TILE` tile with equal energy in every octave, deviation 1."""
    rng = np.random.Generator(np.random.Philox(seed))
    tile = np.zeros((TILE, TILE), np.float32)
    size = 4
    while size <= TILE:
        grid = rng.standard_normal((size, size), dtype=np.float32)
        grid = np.pad(grid, 4, mode="wrap")
        factor = TILE // size
        grown = cv2.resize(grid, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        grown = grown[4 * factor : 4 * factor + TILE, 4 * factor : 4 * factor + TILE]
        tile += grown / np.float32(grown.std())
        size *= 2
    tile -= tile.mean()
    tile /= tile.std()
    # Speckles rather than fog: soft-limit the tails.
    return tile / np.sqrt(1.0 + (0.35 * tile) ** 2)


@lru_cache(maxsize=4)
def noise_atlas(seed: int = 0) -> np.ndarray:
    """Return all mip levels of a noise tile side by side, each with a one-texel wrapped rim."""
    level = _make_tile(seed)
    blocks = []
    for _ in range(_LEVELS):
        block = np.pad(level, 1, mode="wrap")
        blocks.append(np.pad(block, ((0, TILE + 2 - len(block)), (0, 0))))
        level = 0.25 * (level[::2, ::2] + level[1::2, ::2] + level[::2, 1::2] + level[1::2, 1::2])
    return np.ascontiguousarray(np.hstack(blocks), np.float32)


def noise(u: np.ndarray, v: np.ndarray, footprint: np.ndarray, texel: float) -> np.ndarray:
    """Return noise of deviation about 1, smoothed over `footprint` (trilinear).

    Args:
        u: First surface coordinate of N samples, m.
        v: Second one.
        footprint: Side of the area to average over, m.
        texel: Size of the finest detail, m.
    """
    atlas = noise_atlas()
    inverse = np.float32(1.0 / (texel * TILE))
    u = u * inverse
    u -= np.floor(u)
    v = v * inverse
    v -= np.floor(v)
    # The exponent bits of the footprint are its mip level, the mantissa the way to the next.
    bits = np.clip(footprint * np.float32(1.0 / texel), 1.0, 127.0).view(np.int32)
    level = (bits >> 23) - 127
    fraction = (bits & 0x7FFFFF).astype(np.float32)
    fraction *= np.float32(2.0**-23)
    scale = ((127 - level) << 23).view(np.float32)
    low = _read_level(atlas, u, v, level, scale)
    high = _read_level(atlas, u, v, level + 1, scale * np.float32(0.5))
    high -= low
    high *= fraction
    high += low
    return high


def _read_level(
    atlas: np.ndarray, u: np.ndarray, v: np.ndarray, level: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """Read one mip level per sample; `u`, `v` in tiles, `scale` = 2**-level."""
    size = scale * np.float32(TILE)
    y = v * size
    y += np.float32(0.5)
    # Level l starts at column 2 TILE (1 - 2**-l) + 2 l.
    x = (u - np.float32(2.0)) * size
    x += np.float32(2 * TILE + 0.5)
    x += 2 * level
    return remap_flat(atlas, x.astype(np.float32, copy=False), y)


def stretched_noise(
    u: np.ndarray,
    v: np.ndarray,
    major: tuple[np.ndarray, np.ndarray],
    footprint: np.ndarray,
    texel: float,
) -> np.ndarray:
    """Return noise averaged over a long footprint by three look-ups along its long axis.

    Args:
        u: First surface coordinate of N samples, m.
        v: Second one.
        major: The long axis, (u, v) vector, its length that of the footprint, m.
        footprint: Width across it, m.
        texel: Size of the finest detail, m.
    """
    third = np.float32(1.0 / 3.0)
    du, dv = major[0] * third, major[1] * third
    out = noise(u, v, footprint, texel)
    out += noise(u + du, v + dv, footprint, texel)
    out += noise(u - du, v - dv, footprint, texel)
    out *= third
    return out


def pulses(x: np.ndarray, width: np.ndarray, duty: np.ndarray | float) -> np.ndarray:
    """Return the share of [x - width/2, x + width/2] that lies in [k, k + duty] for integer k.

    This is the exact box filter of a periodic on-off pattern of period 1.
    """
    half = np.maximum(width, np.float32(1e-4)) * np.float32(0.5)
    return (_pulse_integral(x + half, duty) - _pulse_integral(x - half, duty)) / (half + half)


def _pulse_integral(x: np.ndarray, duty: np.ndarray | float) -> np.ndarray:
    whole = np.floor(x)
    part = np.minimum(x - whole, duty, dtype=np.float32)
    whole *= duty
    whole += part
    return whole


def band(x: np.ndarray, width: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the share of [x - width/2, x + width/2] that lies in [low, high]."""
    half = np.maximum(width, np.float32(1e-4)) * np.float32(0.5)
    inside = np.minimum(x + half, np.float32(high)) - np.maximum(x - half, np.float32(low))
    np.maximum(inside, 0.0, out=inside)
    inside /= half + half
    return inside


def hash01(i: np.ndarray, j: np.ndarray, salt: np.ndarray | int) -> np.ndarray:
    """Return a number in 0..1 for each cell (i, j) of N samples; `i`, `j` whole float32."""
    h = i.astype(np.int32).view(np.uint32) * np.uint32(0x9E3779B1)
    h += j.astype(np.int32).view(np.uint32) * np.uint32(0x85EBCA77)
    h += np.asarray(salt).astype(np.uint32) * np.uint32(0xC2B2AE3D)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0x2C1B3C6D)
    h ^= h >> np.uint32(13)
    return (h >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
