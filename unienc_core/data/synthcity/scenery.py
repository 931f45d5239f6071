"""What borders a street: buildings, greenery, walls, fences and hedges."""

from __future__ import annotations

import numpy as np

from unienc_core.data.synthcity.parts import Color, Look, Material
from unienc_core.data.synthcity.shapes import BALL, BOX, GABLE, PILLAR
from unienc_core.data.synthcity.site import Site
from unienc_core.data.synthcity.street import Zone
from unienc_core.data.synthcity.vehicles import GLASS, pick

_WALLS: tuple[Color, ...] = (
    (0.72, 0.64, 0.52),
    (0.80, 0.77, 0.70),
    (0.62, 0.36, 0.27),
    (0.55, 0.53, 0.50),
    (0.76, 0.55, 0.38),
    (0.66, 0.68, 0.70),
    (0.82, 0.72, 0.55),
    (0.50, 0.38, 0.32),
)
_TRIMS: tuple[Color, ...] = ((0.88, 0.87, 0.84), (0.35, 0.33, 0.31), (0.58, 0.50, 0.42))
_ROOFS: tuple[Color, ...] = ((0.52, 0.24, 0.17), (0.30, 0.29, 0.30), (0.40, 0.28, 0.22))
_LEAVES: tuple[Color, ...] = (
    (0.22, 0.36, 0.12),
    (0.30, 0.42, 0.14),
    (0.17, 0.30, 0.13),
    (0.42, 0.42, 0.15),
)
_BARK: Color = (0.33, 0.26, 0.20)


class Scenery(Site):
    """Puts up what borders the street."""

    def buildings(self) -> None:
        """Line the urban zones with houses and put a skyline behind the others."""
        rng = self.rng
        for index, side in enumerate((-1.0, 1.0)):
            s = self.begin - 6.0
            while s < self.end:
                width = float(rng.uniform(8.0, 19.0))
                if self.street.zone_at(index, s + width / 2) is Zone.URBAN:
                    setback = float(rng.uniform(0.0, 1.2)) if rng.random() < 0.5 else 0.0
                    self._house(s + width / 2, side, width - 0.05, setback)
                    s += width + (float(rng.uniform(1.5, 5.0)) if rng.random() < 0.2 else 0.0)
                else:
                    if rng.random() < 0.5:
                        self._house(s + width / 2, side, width, float(rng.uniform(9.0, 22.0)))
                    s += width
            s = self.begin + 20.0
            while s < self.end:
                self._house(s, side, float(rng.uniform(18.0, 30.0)), float(rng.uniform(30.0, 55.0)))
                s += float(rng.uniform(30.0, 48.0))
        for d in (-24.0, 0.0, 25.0):
            self._block(self.end + 14.0, d, (26.0, float(rng.uniform(9.0, 22.0)), 14.0))

    def _house(self, s: float, side: float, width: float, setback: float) -> None:
        """Add a house whose street front clears the pavement, or none where a bend is too tight."""
        depth = float(self.rng.uniform(8.0, 14.0))
        front = self.street.outer + 0.1 + setback
        for push in (0.0, 0.5, 1.0, 2.0, 3.0, 4.5):
            d = side * (front + push + depth / 2)
            x, z, sin, cos = self.at(s, d)
            along = np.array([-0.5, -0.25, 0.0, 0.25, 0.5, -0.5, 0.5]) * width
            across = np.array([-0.5, -0.5, -0.5, -0.5, -0.5, 0.5, 0.5]) * depth * side
            px, pz = x + cos * across + sin * along, z - sin * across + cos * along
            _, offset = self.path.locate(px, pz, s + along)
            if (side * offset).min() >= front - 0.05:
                self._block(s, d, (depth, 0.0, width))
                return

    def _block(self, s: float, d: float, size: tuple[float, float, float]) -> None:
        rng = self.rng
        floor = float(rng.uniform(2.9, 3.5))
        low = rng.random() < 0.38
        floors = int(rng.integers(2, 4)) if low else int(rng.integers(3, 7))
        height = size[1] or floor * floors + float(rng.uniform(0.8, 1.4))
        wall, trim = pick(rng, _WALLS, 0.07), pick(rng, _TRIMS)
        glass = pick(rng, (GLASS, (0.22, 0.27, 0.33), (0.10, 0.11, 0.13)), 0.03)
        options = (
            floor,
            float(rng.uniform(1.7, 3.4)),
            float(rng.uniform(0.38, 0.62)),
            float(rng.uniform(0.42, 0.6)),
            float(rng.uniform(0.0, 1.0)),
            float(rng.integers(1 << 16)),
        )
        look = Look(Material.FACADE, (wall, trim, glass), options)
        place = self.at(s, d)
        self.put(BOX, look, "building", place, (0.0, 0.0, 0.0), (size[0], height, size[2]))
        if low and not size[1]:
            roof = Look(Material.PLAIN, (pick(rng, _ROOFS),), (0.25, 0.35))
            over = (size[0] + 0.6, float(rng.uniform(2.0, 3.6)), size[2] - 0.1)
            self.put(GABLE, roof, "building", place, (0.0, height, 0.0), over)
        elif rng.random() < 0.4:
            hut = Look(Material.PLAIN, (trim,), (0.2, 0.5))
            self.put(BOX, hut, "building", place, (0.0, height, 1.0), (3.0, 2.2, 4.0))

    def greenery(self) -> None:
        """Plant trees along the kerb and behind the pavement, bushes, and far woods."""
        rng, street = self.rng, self.street
        for index, side in enumerate((-1.0, 1.0)):
            s = self.begin + float(rng.uniform(2.0, 10.0))
            while s < self.end:
                if street.trees and rng.random() < 0.8:
                    self._tree(s, side * (street.half_width + 0.75), float(rng.uniform(0.7, 1.0)))
                s += float(rng.uniform(9.0, 16.0))
            s = self.begin
            while s < self.end:
                zone = street.zone_at(index, s)
                if zone is not Zone.URBAN:
                    d = side * (street.outer + float(rng.uniform(2.0, 9.0)))
                    self._tree(s, d, float(rng.uniform(0.8, 1.35)))
                    if rng.random() < 0.5:
                        self._bush(s + 2.0, side * (street.outer + float(rng.uniform(1.0, 4.0))))
                s += (
                    float(rng.uniform(4.5, 9.0)) if zone is Zone.PARK else float(rng.uniform(8, 15))
                )
            for s in np.arange(self.begin + 10.0, self.end + 10.0, 45.0).tolist():
                d = side * float(rng.uniform(55.0, 75.0))
                look = Look(Material.FOLIAGE, (pick(rng, _LEAVES, 0.04),), (0.9,))
                size = (40.0, float(rng.uniform(18.0, 34.0)), 55.0)
                self.put(BALL, look, "vegetation", self.at(s, d), (0.0, -6.0, 0.0), size)

    def _tree(self, s: float, d: float, scale: float) -> None:
        if not self.reserve(s, d, 0.3):
            return
        rng, place = self.rng, self.at(s, d)
        trunk = float(rng.uniform(2.2, 3.2)) * scale
        bark = Look(Material.PLAIN, (_BARK,), (0.5, 0.15))
        girth = float(rng.uniform(0.24, 0.42)) * scale
        self.put(PILLAR, bark, "vegetation", place, (0.0, 0.0, 0.0), (girth, trunk + 1.0, girth))
        leaf = pick(rng, _LEAVES, 0.05)
        spread = float(rng.uniform(2.6, 4.2)) * scale
        tall = float(rng.uniform(0.9, 1.7))
        for _ in range(int(rng.integers(3, 5))):
            tone = tuple(float(np.clip(c * rng.uniform(0.85, 1.15), 0.03, 0.9)) for c in leaf)
            look = Look(Material.FOLIAGE, (tone,), (0.35,))  # type: ignore[arg-type]
            size = spread * float(rng.uniform(0.65, 0.95))
            shift = 0.24 * spread
            offset = (
                float(rng.uniform(-shift, shift)),
                trunk + float(rng.uniform(-0.2, 0.45 * spread * tall)),
                float(rng.uniform(-shift, shift)),
            )
            self.put(BALL, look, "vegetation", place, offset, (size, size * tall, size))

    def _bush(self, s: float, d: float) -> None:
        look = Look(Material.FOLIAGE, (pick(self.rng, _LEAVES, 0.05),), (0.25,))
        size = float(self.rng.uniform(1.0, 2.4))
        self.put(
            BALL, look, "vegetation", self.at(s, d), (0.0, -0.3, 0.0), (size, size * 0.9, size)
        )

    def borders(self) -> None:
        """Run walls, fences and hedges along the pavement where the zones say so."""
        rng = self.rng
        for index, side in enumerate((-1.0, 1.0)):
            s, last = self.begin, Zone.URBAN
            heights = dict.fromkeys(Zone, 1.2)
            tone = pick(rng, _WALLS)
            while s < self.end:
                zone = self.street.zone_at(index, s)
                if zone is not last:
                    tone = pick(rng, _WALLS)
                    heights = {z: float(rng.uniform(1.0, 2.0)) for z in Zone}
                if zone in (Zone.WALL, Zone.FENCE, Zone.HEDGE):
                    self._segment(s, side, zone, heights[zone], tone)
                s, last = s + 3.0, zone

    def _segment(self, s: float, side: float, zone: Zone, height: float, tone: Color) -> None:
        d = side * (self.street.outer + 0.35)
        x0, z0, _, _ = self.at(s, d)
        x1, z1, _, _ = self.at(s + 3.0, d)
        dx, dz = x1 - x0, z1 - z0
        length = float(np.sqrt(dx * dx + dz * dz))
        place = (0.5 * (x0 + x1), 0.5 * (z0 + z1), dx / length, dz / length)
        seed = float(self.rng.integers(1 << 16))
        if zone is Zone.WALL:
            look, name, thick = Look(Material.BRICK, (tone,), (0.5, 0.25)), "wall", 0.3
        elif zone is Zone.FENCE:
            rail: Color = (0.5 * tone[0], 0.5 * tone[1], 0.5 * tone[2])
            look, name, thick = (
                Look(Material.FENCE, (rail, self.street.grass), (0.14, 0.45)),
                "fence",
                0.1,
            )
        else:
            look, name, thick = (
                Look(Material.FOLIAGE, (_LEAVES[0],), (0.2, seed)),
                "vegetation",
                0.6,
            )
        self.put(BOX, look, name, place, (0.0, 0.0, 0.0), (thick, height, length))
