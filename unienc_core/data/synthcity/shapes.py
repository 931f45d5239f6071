"""The solids everything is built from: half-spaces, optionally cut with one quadric.

A shape lives in unit coordinates q = (right, down, forward), each in -1..1 inside the part's box.
Plane f is the set a_f . q <= b_f; the quadric is the unit sphere of the masked coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FACES = 8
"""Codes a shape has for its faces: one per plane; the quadric is the last."""

RIGHT, LEFT, BOTTOM, TOP, FRONT, BACK, SLANT, ROUND = range(FACES)

BOX, CABIN, HULL, GABLE, BALL, PILLAR, DISC, CANOPY = range(8)
"""Box; tapered cabin; car body with a sloping bonnet; gable roof; ellipsoid; vertical cylinder;
cylinder along the right axis (wheels); bus-like box with a slanted front."""

NO_PLANE = (0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Shape:
    """One shape: seven planes (a, b) by face code, and which coordinates the quadric has."""

    planes: tuple[tuple[float, float, float, float], ...]
    quadric: tuple[float, float, float] | None = None


_BOX = (
    (1.0, 0.0, 0.0, 1.0),
    (-1.0, 0.0, 0.0, 1.0),
    (0.0, 1.0, 0.0, 1.0),
    (0.0, -1.0, 0.0, 1.0),
    (0.0, 0.0, 1.0, 1.0),
    (0.0, 0.0, -1.0, 1.0),
    NO_PLANE,
)
_CABIN = (
    (1.0, -0.10, 0.0, 0.90),
    (-1.0, -0.10, 0.0, 0.90),
    *_BOX[2:4],
    (0.0, -0.28, 1.0, 0.72),
    (0.0, -0.14, -1.0, 0.86),
    NO_PLANE,
)
_HULL = (*_BOX[:4], _BOX[4], _BOX[5], (0.0, -1.0, 0.42, 1.20))
_CANOPY = (*_BOX[:4], (0.0, -0.05, 1.0, 0.95), _BOX[5], NO_PLANE)
_GABLE = (
    (1.0, -0.5, 0.0, 0.5),
    (-1.0, -0.5, 0.0, 0.5),
    _BOX[2],
    NO_PLANE,
    *_BOX[4:],
)
_NONE = (NO_PLANE,) * 7

SHAPES: tuple[Shape, ...] = (
    Shape(_BOX),
    Shape(_CABIN),
    Shape(_HULL),
    Shape(_GABLE),
    Shape(_NONE, (1.0, 1.0, 1.0)),
    Shape((NO_PLANE, NO_PLANE, *_BOX[2:4], NO_PLANE, NO_PLANE, NO_PLANE), (1.0, 0.0, 1.0)),
    Shape((*_BOX[:2], NO_PLANE, NO_PLANE, NO_PLANE, NO_PLANE, NO_PLANE), (0.0, 1.0, 1.0)),
    Shape(_CANOPY),
)

PLANES = np.array([shape.planes for shape in SHAPES])
"""`shapes 7 4` float64."""

QUADRICS = np.array([shape.quadric or (0.0, 0.0, 0.0) for shape in SHAPES])
"""`shapes 3` float64, zeros where a shape has none."""

REAL_PLANES: tuple[tuple[int, ...], ...] = tuple(
    tuple(f for f, plane in enumerate(shape.planes) if plane != NO_PLANE) for shape in SHAPES
)
"""The planes that bound each shape; the others are padding."""
