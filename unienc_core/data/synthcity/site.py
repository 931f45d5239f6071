"""A stretch of street where things can be put down."""

from __future__ import annotations

import numpy as np

from unienc_core.data.synthcity.actors import Footprints
from unienc_core.data.synthcity.config import CityConfig, stream
from unienc_core.data.synthcity.parts import Look, PartList
from unienc_core.data.synthcity.path import Path
from unienc_core.data.synthcity.street import KERB_HEIGHT, Street

WORLD = 0
"""The actor that never moves."""

Place = tuple[float, float, float, float]
"""World x and z in m, sine and cosine of the heading."""


class Site:
    """Base of what furnishes a street.

    Args:
        config: The city.
        path: Its centreline.
        street: Its cross-section.
        parts: Where parts are added.
        footprints: What occupies the ground.
        end: Arc length up to which to furnish, m.
        purpose: Number of the random stream.
    """

    def __init__(
        self,
        config: CityConfig,
        path: Path,
        street: Street,
        parts: PartList,
        footprints: Footprints,
        end: float,
        purpose: int,
    ) -> None:
        self.rng = stream(config, purpose)
        self.path, self.street, self._parts = path, street, parts
        self._footprints = footprints
        self._frames = config.num_frames
        self.begin, self.end = -4.0, end

    def at(self, s: float, d: float) -> Place:
        """Return the place at (s, d), heading along the road."""
        x, z, sin, cos = self.path.pose(np.array([s]), np.array([d]))
        return float(x[0]), float(z[0]), float(sin[0]), float(cos[0])

    def reserve(self, s: float, d: float, radius: float) -> bool:
        """Claim a spot of ground for furniture; false where something stands or passes."""
        pose = np.tile(np.array(self.at(s, d)), (self._frames, 1))
        if not self._footprints.is_free(pose, (radius, radius)):
            return False
        self._footprints.add(pose, (radius, radius))
        return True

    def put(
        self,
        shape: int,
        look: Look,
        name: str,
        place: Place,
        offset: tuple[float, float, float],
        size: tuple[float, float, float],
    ) -> None:
        """Add a part at an offset (right, height, forward) from a place with a heading."""
        x, z, sin, cos = place
        center = (
            x + cos * offset[0] + sin * offset[2],
            offset[1],
            z - sin * offset[0] + cos * offset[2],
        )
        self._parts.lift = KERB_HEIGHT
        self._parts.add(shape, look, self._parts.instance(name), WORLD, center, size, (cos, sin))
        self._parts.lift = 0.0
