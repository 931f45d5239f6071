"""What shading must know of the faces in view, and samples gathered by face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unienc_core.data.synthcity.geometry import Forms, Frames
from unienc_core.data.synthcity.hits import Hits
from unienc_core.data.synthcity.parts import Material, PartTable
from unienc_core.data.synthcity.raster import Raster
from unienc_core.data.synthcity.shapes import FACES, PLANES, QUADRICS, ROUND

_WIDEST = 6.0
"""Longest pixel extent along a face, m."""


@dataclass(frozen=True)
class SurfaceTable:
    """What shading must know of the faces of P drawn parts.

    Attributes:
        flat: `P*FACES 10` float32: affine forms of camera points for both surface coordinates,
            distance of the camera from the plane, cosine to the sun.
        round: `P 18` float32: affine forms of the part's coordinates, inverse squared half
            extents, sun in the part's coordinates.
        extent: `P*FACES 2` float32, size of the face along both coordinates, m.
        rank: `P*FACES` uint16, place of each row when sorted by painter.
        row_of_rank: The inverse of it.
        key_bounds: First rank of each key (2 * material, + 1 when round), and the end.
        looks: `P 15` float32.
        seed: `P` float32.
    """

    flat: np.ndarray
    round: np.ndarray
    extent: np.ndarray
    rank: np.ndarray
    row_of_rank: np.ndarray
    key_bounds: np.ndarray
    looks: np.ndarray
    seed: np.ndarray


def make_table(
    parts: PartTable,
    numbers: np.ndarray,
    frames: Frames,
    forms: Forms,
    heading: tuple[np.ndarray, np.ndarray],
    sun: tuple[float, float, float],
) -> SurfaceTable:
    """Tabulate the faces of the drawn parts of one frame.

    Args:
        parts: All parts.
        numbers: `P`, which of them are drawn.
        frames: Their local frames in the view.
        forms: Their bounds in the view.
        heading: Sine and cosine of the heading of each.
        sun: Unit vector to the sun, world.
    """
    count = len(numbers)
    lift = np.concatenate([frames.axes, frames.eye[:, :, None]], axis=2)
    right, up, ahead = lift[:, 0].copy(), -lift[:, 1], lift[:, 2].copy()
    half = frames.half
    right[:, 3] += half[:, 0]
    up[:, 3] += half[:, 1]
    ahead[:, 3] += half[:, 2]
    width, height, length = (2.0 * half[:, k] for k in range(3))
    flat = np.empty((count, FACES, 10))
    extent = np.ones((count, FACES, 2), np.float32)
    for faces, a, b, size in (
        (slice(0, 2), ahead, up, (length, height)),
        (slice(2, 4), right, ahead, (width, length)),
        (slice(4, 7), right, up, (width, height)),
    ):
        flat[:, faces, 0:4], flat[:, faces, 4:8] = a[:, None], b[:, None]
        extent[:, faces] = np.stack(size, axis=1)[:, None]
    slope = np.sqrt((forms.planes * forms.planes).sum(axis=2))
    flat[:, :7, 8] = 1.0 / np.maximum(slope, 1e-6)
    local_sun, cosine = _sun_on(frames, heading, sun)
    flat[:, :7, 9] = cosine
    flat[:, ROUND] = 1.0
    curve = QUADRICS[frames.shape] / (half * half)
    key = np.repeat(2 * parts.material[numbers], FACES).reshape(count, FACES)
    key[:, ROUND] += 1
    order = np.argsort(key.reshape(-1), kind="stable")
    rank = np.empty(count * FACES, np.uint16)
    rank[order] = np.arange(count * FACES)
    keys = np.arange(2 * len(Material) + 1)
    return SurfaceTable(
        flat=flat.reshape(count * FACES, 10).astype(np.float32),
        round=np.concatenate([lift.reshape(count, 12), curve, local_sun], axis=1).astype(
            np.float32
        ),
        extent=extent.reshape(count * FACES, 2),
        rank=rank,
        row_of_rank=order,
        key_bounds=np.searchsorted(key.reshape(-1)[order], keys),
        looks=parts.looks[numbers],
        seed=numbers.astype(np.float32),
    )


def _sun_on(
    frames: Frames, heading: tuple[np.ndarray, np.ndarray], sun: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sun in each part's coordinates `P 3`, and its cosine on the planes `P 7`."""
    sin, cos = heading
    local = np.empty((len(sin), 3))
    local[:, 0] = cos * sun[0] - sin * sun[2]
    local[:, 1] = sun[1]
    local[:, 2] = sin * sun[0] + cos * sun[2]
    normal = PLANES[frames.shape][:, :, :3] / frames.half[:, None]
    norm = np.sqrt((normal * normal).sum(axis=2))
    cosine = (normal * local[:, None]).sum(axis=2) / np.maximum(norm, 1e-9)
    return local, np.maximum(cosine, 0.0)


def gather(
    raster: Raster,
    table: SurfaceTable,
    index: np.ndarray,
    rank: np.ndarray,
    is_round: bool,
    pixel: float,
) -> tuple[Hits, np.ndarray]:
    """Return samples ready for painting, and their cosine to the sun.

    Args:
        raster: Visibility.
        table: The faces.
        index: `N` flat positions in the raster, all of one key, sorted by rank.
        rank: `N`, the rank of the row of each.
        is_round: Whether they lie on a quadric.
        pixel: Size of a pixel at unit depth.
    """
    starts = np.concatenate([[0], np.flatnonzero(rank[1:] != rank[:-1]) + 1])
    counts = np.diff(starts, append=len(rank))
    row = table.row_of_rank[rank[starts]]
    line = index // len(raster.x)
    x, y = raster.x[index - line * len(raster.x)], raster.y[line]
    depth = np.float32(1.0) / raster.nearness.reshape(-1)[index]
    place = _round_place if is_round else _flat_place
    (a, b, c), fa, cosine = place(table, row, counts, x * depth, y * depth, depth, pixel)
    part = row // FACES
    hits = Hits(
        a=a,
        b=b,
        c=c,
        fa=fa,
        fb=depth * np.float32(pixel),
        face=(row % FACES).astype(np.uint8),
        width=table.extent[row, 0],
        height=table.extent[row, 1],
        looks=table.looks[part],
        seed=table.seed[part],
        counts=counts,
    )
    return hits, cosine


def _affine(
    form: np.ndarray, counts: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray
) -> np.ndarray:
    """Apply one affine form `U 4` per surface to camera points."""
    out = np.repeat(form[:, 0], counts)
    out *= x
    for k, value in ((1, y), (2, z)):
        term = np.repeat(form[:, k], counts)
        term *= value
        out += term
    out += np.repeat(form[:, 3], counts)
    return out


Place = tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray, np.ndarray]


def _flat_place(
    table: SurfaceTable,
    row: np.ndarray,
    counts: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    depth: np.ndarray,
    pixel: float,
) -> Place:
    """Return coordinates, pixel extent along the first one, and cosine to the sun."""
    a = _affine(table.flat[row, 0:4], counts, x, y, depth)
    b = _affine(table.flat[row, 4:8], counts, x, y, depth)
    across = depth * np.float32(pixel)
    fa = across * depth
    fa *= np.repeat(np.float32(1.0) / table.flat[row, 8], counts)
    np.maximum(fa, across, out=fa)
    np.minimum(fa, np.float32(_WIDEST), out=fa)
    return (a, b, depth), fa, np.repeat(table.flat[row, 9], counts)


def _round_place(
    table: SurfaceTable,
    row: np.ndarray,
    counts: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    depth: np.ndarray,
    pixel: float,
) -> Place:
    """Return coordinates, pixel extent over the slanting surface, and cosine to the sun."""
    form = table.round[row // FACES]
    p = [_affine(form[:, 4 * k : 4 * k + 4], counts, x, y, depth) for k in range(3)]
    normal = [p[k] * np.repeat(form[:, 12 + k], counts) for k in range(3)]
    length = np.sqrt(normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2])
    cosine = np.zeros_like(depth)
    facing = np.zeros_like(depth)
    for k in range(3):
        cosine += normal[k] * np.repeat(form[:, 15 + k], counts)
        facing += normal[k] * (np.repeat(form[:, 4 * k + 3], counts) - p[k])
    cosine /= length
    np.maximum(cosine, 0.0, out=cosine)
    slant = facing / (length * depth)
    fa = depth * np.float32(pixel) / np.maximum(slant, np.float32(0.2))
    return (p[0], -p[1], p[2]), fa, cosine
