"""A city: its road, everything on it, and where each thing is at each frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unienc_core.data.synthcity.actors import Cast, Casting
from unienc_core.data.synthcity.config import VIEW_DISTANCE, CityConfig, stream
from unienc_core.data.synthcity.drive import Drive, make_drive
from unienc_core.data.synthcity.furniture import Furniture
from unienc_core.data.synthcity.parts import PartList, PartTable
from unienc_core.data.synthcity.path import Path, RoadMap, make_path
from unienc_core.data.synthcity.scenery import Scenery
from unienc_core.data.synthcity.street import Street, make_street


@dataclass(frozen=True)
class World:
    """Everything that a frame is drawn from.

    Attributes:
        path: The road's centreline.
        road: The same as a raster.
        street: Cross-section, borders and light.
        drive: The camera's motion.
        parts: All solids.
        cast: All actors with footprints.
        poses: `A F 4`: x, z, sine and cosine of the heading of each actor.
        moving: `A` bool.
    """

    path: Path
    road: RoadMap
    street: Street
    drive: Drive
    parts: PartTable
    cast: Cast
    poses: np.ndarray
    moving: np.ndarray


def build_world(config: CityConfig) -> World:
    """Build the world of a config; the same config gives the same world."""
    path = make_path(config)
    street = make_street(config, path)
    rng = stream(config, 6)
    lane = (int(rng.integers(street.lanes)) + 0.5) * street.lane_width
    drive = make_drive(config, path, lane + float(rng.uniform(-0.2, 0.2)))
    parts = PartList()
    casting = Casting(config, path, street, drive, parts)
    casting.traffic()
    casting.parked()
    casting.people()
    cast = casting.cast
    end = float(drive.s[-1]) + VIEW_DISTANCE
    Furniture(config, path, street, parts, cast.footprints, end, 5).install()
    scenery = Scenery(config, path, street, parts, cast.footprints, end, 9)
    scenery.greenery()
    scenery.borders()
    scenery.buildings()
    return World(
        path=path,
        road=RoadMap(path),
        street=street,
        drive=drive,
        parts=parts.freeze(),
        cast=cast,
        poses=np.stack(cast.poses),
        moving=np.array(cast.moving),
    )
