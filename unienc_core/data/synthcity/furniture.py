"""What stands along a kerb: lamps, signs, traffic lights and bins."""

from __future__ import annotations

from unienc_core.data.synthcity.parts import Color, Look, Material
from unienc_core.data.synthcity.shapes import BOX, DISC, PILLAR
from unienc_core.data.synthcity.site import Place, Site
from unienc_core.data.synthcity.vehicles import pick

_METAL: Color = (0.42, 0.43, 0.45)


class Furniture(Site):
    """Puts up what stands along the kerb."""

    def install(self) -> None:
        """Put lamps, signs, traffic lights and bins along the kerb."""
        rng, street = self.rng, self.street
        edge = street.half_width + 0.45
        for c in street.crossings:
            for side in (-1.0, 1.0):
                if self.begin < c < self.end and rng.random() < 0.75:
                    self._signal(c - side * 2.6, side * edge, side)
        for side in (-1.0, 1.0):
            s = self.begin + float(rng.uniform(3.0, 24.0))
            while s < self.end:
                self._lamp(s, side * edge, side)
                s += float(rng.uniform(22.0, 32.0))
            s = self.begin + float(rng.uniform(3.0, 20.0))
            while s < self.end:
                choice = rng.random()
                if choice < 0.7:
                    self._sign(s, side * edge, side)
                elif choice < 0.9:
                    self._bin(s, side * (edge + 0.1))
                s += float(rng.uniform(8.0, 22.0))

    def _mast(self, place: Place, height: float, width: float) -> None:
        grey = float(self.rng.uniform(0.25, 0.6))
        look = Look(Material.PLAIN, ((grey, grey, grey),), (0.15, 0.2))
        self.put(PILLAR, look, "pole", place, (0.0, 0.0, 0.0), (width, height, width))

    def _lamp(self, s: float, d: float, side: float) -> None:
        if not self.reserve(s, d, 0.15):
            return
        place, height = self.at(s, d), float(self.rng.uniform(5.5, 8.5))
        self._mast(place, height, 0.17)
        metal = Look(Material.PLAIN, (_METAL,), (0.1, 0.3))
        self.put(BOX, metal, "pole", place, (-side * 0.8, height, 0.0), (1.7, 0.1, 0.1))
        self.put(BOX, metal, "pole", place, (-side * 1.5, height - 0.1, 0.0), (0.7, 0.14, 0.3))

    def _sign(self, s: float, d: float, side: float) -> None:
        if not self.reserve(s, d, 0.12):
            return
        rng, (x, z, sin, cos) = self.rng, self.at(s, d)
        height = float(rng.uniform(2.1, 2.7))
        self._mast((x, z, sin, cos), height + 0.6, 0.08)
        facing = (x, z, sin * side, cos * side)
        pattern = int(rng.integers(5))
        main = ((0.78, 0.08, 0.08), (0.08, 0.25, 0.62), (0.9, 0.75, 0.1), (0.1, 0.4, 0.2))[
            pattern % 4
        ]
        look = Look(Material.SIGN, (main, (0.93, 0.93, 0.93)), (float(pattern),))
        if pattern < 3:
            # A disc's axis is its right axis: turn it to look back along the lane.
            turned = (x, z, facing[3], -facing[2])
            self.put(
                DISC, look, "traffic sign", turned, (0.09, height - 0.1, 0.0), (0.04, 0.75, 0.75)
            )
        else:
            size = (0.65 + 0.5 * (pattern - 3), 0.8, 0.04)
            self.put(BOX, look, "traffic sign", facing, (0.0, height - 0.2, -0.09), size)

    def _signal(self, s: float, d: float, side: float) -> None:
        if not self.reserve(s, d, 0.15):
            return
        x, z, sin, cos = self.at(s, d)
        self._mast((x, z, sin, cos), 3.5, 0.13)
        facing = (x, z, sin * side, cos * side)
        state = float(self.rng.integers(3))
        look = Look(Material.SIGNAL, ((0.09, 0.10, 0.09),), (state,))
        self.put(BOX, look, "traffic light", facing, (0.0, 2.4, -0.22), (0.36, 1.0, 0.3))
        if self.rng.random() < 0.5:
            metal = Look(Material.PLAIN, (_METAL,), (0.1, 0.3))
            reach = min(4.0, self.street.half_width)
            self._mast((x, z, sin, cos), 5.6, 0.15)
            self.put(BOX, metal, "pole", facing, (-reach / 2, 5.5, 0.0), (reach, 0.12, 0.12))
            self.put(
                BOX, look, "traffic light", facing, (-reach + 0.3, 4.9, -0.2), (0.36, 1.0, 0.3)
            )

    def _bin(self, s: float, d: float) -> None:
        if not self.reserve(s, d, 0.32):
            return
        green: Color = (0.16, 0.28, 0.20)
        look = Look(Material.PLAIN, (pick(self.rng, (green, _METAL)),), (0.2, 0.2))
        self.put(PILLAR, look, "static", self.at(s, d), (0.0, 0.0, 0.0), (0.5, 0.95, 0.5))
