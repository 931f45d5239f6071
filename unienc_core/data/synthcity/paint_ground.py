"""Painter of the ground: asphalt with its markings, pavement slabs, grass."""

from __future__ import annotations

import numpy as np

from unienc_core.data.synthcity.ground import KERB, PAVEMENT, ROAD, TERRAIN, Eye, GroundHits
from unienc_core.data.synthcity.hits import CHUNK
from unienc_core.data.synthcity.noise import band, hash01, noise, pulses, stretched_noise
from unienc_core.data.synthcity.street import PARKING_WIDTH
from unienc_core.data.synthcity.world import World

_WHITE = (0.80, 0.80, 0.78)


def paint_ground(
    hits: GroundHits, eye: Eye, world: World, contrast: float, albedo: np.ndarray
) -> None:
    """Fill the albedo `3 M` where the ground is seen."""
    reach = np.minimum(hits.depth * hits.depth * np.float32(eye.pixel / -eye.position[1]), 40.0)
    major = (hits.ray_x * reach, hits.ray_z * reach)
    minor = hits.depth * np.float32(eye.pixel)
    patch = _Patch(hits, world, major, minor, contrast)
    painters = {ROAD: patch.road, KERB: patch.paving, PAVEMENT: patch.paving, TERRAIN: patch.grass}
    for code, paint in painters.items():
        chosen = np.flatnonzero(hits.code == code)
        for begin in range(0, len(chosen), CHUNK):
            index = chosen[begin : begin + CHUNK]
            painted = paint(index)
            for c in range(3):
                albedo[c][hits.index[index]] = painted[c]


class _Patch:
    """The painters of the ground; each takes the positions it is to paint."""

    def __init__(
        self,
        hits: GroundHits,
        world: World,
        major: tuple[np.ndarray, np.ndarray],
        minor: np.ndarray,
        contrast: float,
    ) -> None:
        self._hits, self._world, self._street = hits, world, world.street
        self._major, self._minor = major, minor
        self._contrast = np.float32(contrast)
        path = world.path
        self._sin, self._cos = path.sin.astype(np.float32), path.cos.astype(np.float32)
        metres = np.arange(int(path.end - path.start) + 2) + path.start
        crossings = np.array(world.street.crossings or (path.start - 1e3,))
        nearest = crossings[np.abs(metres[:, None] - crossings).argmin(axis=1)]
        self._crossing = nearest.astype(np.float32)

    def _footprint(self, index: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return s, d, and the extent of a pixel along and across the road, m."""
        path, s = self._world.path, self._hits.s[index]
        sample = np.clip((s - np.float32(path.start)) * np.float32(10.0), 0, len(path.x) - 1)
        sample = sample.astype(np.intp)
        sin, cos = self._sin[sample], self._cos[sample]
        u, v, minor = self._major[0][index], self._major[1][index], self._minor[index]
        along, across = np.abs(u * sin + v * cos), np.abs(u * cos - v * sin)
        length = np.float32(1e-6) + along + across
        return (
            s,
            self._hits.d[index],
            along + minor * across / length,
            across + minor * along / length,
        )

    def _grain(self, index: np.ndarray, texel: float) -> np.ndarray:
        hits, major = self._hits, self._major
        axis = (major[0][index], major[1][index])
        third = (np.abs(axis[0]) + np.abs(axis[1])) * np.float32(0.3)
        footprint = np.maximum(self._minor[index], third)
        return stretched_noise(hits.x[index], hits.z[index], axis, footprint, texel)

    def _blotches(self, index: np.ndarray, texel: float) -> np.ndarray:
        hits, major = self._hits, self._major
        # Turned and shifted, so that its repeats never line up with those of the grain.
        u = hits.x[index] * np.float32(0.8) + hits.z[index] * np.float32(0.6)
        v = hits.z[index] * np.float32(0.8) - hits.x[index] * np.float32(0.6)
        size = (np.abs(major[0][index]) + np.abs(major[1][index])) * np.float32(0.7)
        return noise(u, v, np.maximum(size, self._minor[index]), texel)

    def road(self, index: np.ndarray) -> np.ndarray:
        """Asphalt with repairs, manholes and markings."""
        street = self._street
        s, d, fs, fd = self._footprint(index)
        fine, coarse = self._grain(index, 0.02), self._blotches(index, 0.11)
        tone = fine * np.float32(0.34)
        tone += coarse * np.float32(0.20)
        tone += self._repairs(s, d, fs, fd)
        tone *= self._contrast
        tone += np.float32(1.0)
        paint = self._markings(s, d, fs, fd)
        paint *= np.float32(0.85) + np.float32(0.12) * fine
        np.clip(paint, 0.0, 1.0, out=paint)
        rgb = np.empty((3, len(index)), np.float32)
        for c in range(3):
            np.multiply(tone, np.float32(street.asphalt[c]), out=rgb[c])
            rgb[c] += paint * (np.float32(_WHITE[c]) - rgb[c])
        return rgb

    def _repairs(self, s: np.ndarray, d: np.ndarray, fs: np.ndarray, fd: np.ndarray) -> np.ndarray:
        """Return the tone of rectangular patches and manholes, one of each at most per cell."""
        cell = np.float32(7.0)
        lane = np.float32(self._street.lane_width)
        i, j = np.floor(s / cell), np.floor(d / lane)
        along, across = s - i * cell, d - j * lane
        a, b, c = (hash01(i, j, salt) for salt in (1, 2, 3))
        tone = band(along - a * np.float32(3.0), fs, 0.3, 3.6)
        tone *= band(across - b, fd, 0.2, 1.9)
        tone *= np.where(c < 0.5, (c - np.float32(0.33)) * np.float32(1.3), 0.0)
        du, dv = (
            along - (a + b) * np.float32(3.0) - np.float32(0.5),
            across - lane * np.float32(0.55),
        )
        radius = np.sqrt(du * du + dv * dv)
        lid = np.clip((np.float32(0.36) - radius) / np.maximum(fs, fd) + np.float32(0.5), 0.0, 1.0)
        tone -= lid * np.where(c > 0.72, np.float32(0.4), np.float32(0.0))
        return tone

    def _markings(self, s: np.ndarray, d: np.ndarray, fs: np.ndarray, fd: np.ndarray) -> np.ndarray:
        """Return the share of white paint."""
        street = self._street
        side = np.abs(d)
        drive = street.lanes * street.lane_width
        if street.solid_line:
            paint = band(side, fd, 0.07, 0.2)
        else:
            paint = band(d, fd, -0.075, 0.075)
            paint *= pulses(s / np.float32(9.0), fs / np.float32(9.0), 0.4)
        if street.lanes == 2:
            lane = band(side - np.float32(street.lane_width), fd, -0.06, 0.06)
            lane *= pulses(s / np.float32(12.0), fs / np.float32(12.0), 0.3)
            paint += lane
        paint += band(side - np.float32(drive), fd, -0.06, 0.06)
        if street.parking:
            tick = pulses(s / np.float32(6.0), fs / np.float32(6.0), 0.02)
            tick *= band(side, fd, drive, drive + PARKING_WIDTH - 0.3)
            paint += tick
        ahead = s - self._nearest_crossing(s)
        zebra = band(ahead, fs, -1.7, 1.7)
        clear = np.float32(1.0) - zebra
        paint *= clear
        zebra *= pulses(d + np.float32(0.25), fd, 0.5)
        zebra *= band(d, fd, -street.half_width + 0.15, street.half_width - 0.15)
        paint += zebra
        stop = band(-ahead * np.sign(d), fs, 2.7, 3.1)
        stop *= band(side, fd, 0.25, drive)
        paint += stop
        return np.minimum(paint, 1.0, out=paint)

    def _nearest_crossing(self, s: np.ndarray) -> np.ndarray:
        metre = np.clip(s - np.float32(self._world.path.start), 0, len(self._crossing) - 1)
        return self._crossing[metre.astype(np.intp)]

    def paving(self, index: np.ndarray) -> np.ndarray:
        """Slabs with joints, and the kerb stones."""
        street = self._street
        s, d, fs, fd = self._footprint(index)
        slab = np.float32(1.0 / 0.75)
        u, v, fu, fv = s * slab, d * slab, fs * slab, fd * slab
        joint = np.maximum(pulses(u, fu, 0.035), pulses(v, fv, 0.035))
        fade = np.clip(np.float32(1.0) - np.maximum(fu, fv), 0.0, 1.0)
        tone = (hash01(np.floor(u), np.floor(v), 7) - np.float32(0.5)) * fade * np.float32(0.22)
        tone -= joint * np.float32(0.35)
        tone += self._grain(index, 0.02) * np.float32(0.20)
        tone += self._blotches(index, 0.11) * np.float32(0.18)
        side = np.abs(d) - np.float32(street.half_width)
        stone = band(side, fd, -0.5, 0.17)
        edge = np.float32(0.22) - np.float32(0.35) * pulses(s, fs, 0.03)
        tone += stone * (edge - tone)
        tone *= self._contrast
        tone += np.float32(1.0)
        kerb = self._hits.code[index] == KERB
        tone *= np.where(kerb, np.float32(0.72), np.float32(1.0))
        return np.stack([tone * np.float32(c) for c in street.paving])

    def grass(self, index: np.ndarray) -> np.ndarray:
        """Tufts over patches of soil."""
        tone = self._grain(index, 0.03) * np.float32(0.40)
        patches = self._blotches(index, 0.16)
        tone += patches * np.float32(0.18)
        tone *= self._contrast
        tone += np.float32(1.0)
        np.maximum(tone, np.float32(0.2), out=tone)
        dry = np.clip(patches * np.float32(0.25), 0.0, 0.5)
        soil = (0.45, 0.37, 0.24)
        grass = self._street.grass
        return np.stack(
            [tone * (np.float32(grass[c]) + dry * np.float32(soil[c] - grass[c])) for c in range(3)]
        )
