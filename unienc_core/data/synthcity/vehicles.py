"""Recipes for what moves: cars, trucks, buses, trams, two-wheelers and people.

An object's own frame is right, height above ground, forward; its origin lies on the ground below
its middle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unienc_core.data.synthcity.parts import Color, Look, Material, PartList
from unienc_core.data.synthcity.shapes import BALL, BOX, CABIN, CANOPY, DISC, HULL, PILLAR

TIRE: Color = (0.07, 0.07, 0.075)
GLASS: Color = (0.13, 0.16, 0.20)
_PAINTS: tuple[Color, ...] = (
    (0.82, 0.83, 0.85),
    (0.55, 0.57, 0.60),
    (0.10, 0.10, 0.12),
    (0.70, 0.10, 0.09),
    (0.10, 0.20, 0.50),
    (0.90, 0.90, 0.88),
    (0.13, 0.35, 0.22),
    (0.80, 0.62, 0.15),
    (0.35, 0.42, 0.52),
    (0.45, 0.30, 0.22),
)
_CLOTHES: tuple[Color, ...] = (
    (0.15, 0.17, 0.28),
    (0.62, 0.16, 0.15),
    (0.75, 0.72, 0.65),
    (0.12, 0.12, 0.12),
    (0.20, 0.42, 0.30),
    (0.85, 0.60, 0.15),
    (0.30, 0.45, 0.68),
    (0.45, 0.33, 0.25),
    (0.88, 0.88, 0.86),
)
_SKIN: tuple[Color, ...] = ((0.78, 0.60, 0.49), (0.56, 0.40, 0.30), (0.36, 0.25, 0.18))


@dataclass(frozen=True)
class Kind:
    """What placement must know of a movable object.

    Attributes:
        name: Recipe name.
        half_length: Half extent along its heading, m.
        half_width: Half extent across, m.
    """

    name: str
    half_length: float
    half_width: float


def pick(rng: np.random.Generator, colors: tuple[Color, ...], spread: float = 0.06) -> Color:
    """Draw a colour near one of `colors`."""
    base = colors[int(rng.integers(len(colors)))]
    shift = rng.uniform(-spread, spread)
    return tuple(float(np.clip(c + shift, 0.03, 0.95)) for c in base)  # type: ignore[return-value]


def draw_kind(rng: np.random.Generator, name: str) -> Kind:
    """Draw the size of an object of the named recipe."""
    sizes = {
        "car": (2.0, 2.4, 0.87, 0.95),
        "van": (2.4, 2.9, 0.95, 1.02),
        "truck": (3.4, 4.6, 1.15, 1.25),
        "bus": (5.2, 6.0, 1.25, 1.27),
        "train": (6.5, 7.5, 1.25, 1.3),
        "motorcycle": (1.0, 1.1, 0.36, 0.4),
        "bicycle": (0.88, 0.95, 0.33, 0.36),
        "person": (0.28, 0.34, 0.33, 0.36),
    }
    l0, l1, w0, w1 = sizes[name]
    return Kind(name, float(rng.uniform(l0, l1)), float(rng.uniform(w0, w1)))


def build(parts: PartList, rng: np.random.Generator, kind: Kind, actor: int, ridden: bool) -> None:
    """Add the parts of one object.

    Args:
        parts: Where to add them.
        rng: Source of colours and proportions.
        kind: Its recipe and size.
        actor: The actor that carries it.
        ridden: Whether a two-wheeler carries a rider.
    """
    if kind.name in ("car", "van"):
        _car(parts, rng, kind, actor)
    elif kind.name == "truck":
        _truck(parts, rng, kind, actor)
    elif kind.name in ("bus", "train"):
        _coach(parts, rng, kind, actor)
    elif kind.name in ("motorcycle", "bicycle"):
        _two_wheeler(parts, rng, kind, actor, ridden)
    else:
        _person(parts, rng, actor, parts.instance("person"), 0.0)


def _wheels(
    parts: PartList, kind: Kind, ids: tuple[int, int], actor: int, radius: float, at: list[float]
) -> None:
    look = Look(Material.WHEEL, (TIRE, (0.55, 0.56, 0.58)), (radius,))
    for z in at:
        for side in (-1.0, 1.0):
            center = (side * (kind.half_width - 0.13), 0.0, z)
            parts.add(DISC, look, ids, actor, center, (0.24, 2 * radius, 2 * radius))


def _car(parts: PartList, rng: np.random.Generator, kind: Kind, actor: int) -> None:
    ids = parts.instance("car")
    length, width = 2 * kind.half_length, 2 * kind.half_width
    van = kind.name == "van"
    paint = pick(rng, _PAINTS)
    radius = 0.31 if not van else 0.34
    belt = 0.92 + float(rng.uniform(-0.04, 0.1)) + (0.15 if van else 0.0)
    roof = 0.95 if van else float(rng.uniform(0.48, 0.68))
    body = Look(Material.BODY, (paint, GLASS, (0.75, 0.75, 0.72)), (length, belt - 0.2, radius))
    parts.add(HULL, body, ids, actor, (0.0, 0.2, 0.0), (width - 0.08, belt - 0.2, length))
    cabin = Look(Material.GLAZED, (paint, GLASS), (0.72, roof))
    span = length * (0.74 if van else float(rng.uniform(0.50, 0.62)))
    shift = -length * (0.10 if van else float(rng.uniform(0.03, 0.09)))
    parts.add(CABIN, cabin, ids, actor, (0.0, belt, shift), (width - 0.12, roof, span))
    _wheels(parts, kind, ids, actor, radius, [-0.31 * length, 0.31 * length])


def _truck(parts: PartList, rng: np.random.Generator, kind: Kind, actor: int) -> None:
    ids = parts.instance("truck")
    length, width = 2 * kind.half_length, 2 * kind.half_width
    paint, load = pick(rng, _PAINTS), pick(rng, _PAINTS, 0.1)
    cab = 2.0
    body = Look(Material.COACH, (paint, GLASS, paint), (1.1, 0.55, 0.75, 0.9))
    top = float(rng.uniform(2.4, 2.7))
    front = kind.half_length - cab / 2
    parts.add(CANOPY, body, ids, actor, (0.0, 0.45, front), (width - 0.1, top - 0.45, cab))
    box = Look(Material.PLAIN, (load,), (0.12, 0.9))
    size = (width, float(rng.uniform(2.1, 2.6)), length - cab - 0.2)
    parts.add(BOX, box, ids, actor, (0.0, 0.95, -cab / 2 - 0.1), size)
    frame = Look(Material.PLAIN, ((0.12, 0.12, 0.13),), (0.2, 0.4))
    parts.add(BOX, frame, ids, actor, (0.0, 0.5, 0.0), (width - 0.5, 0.5, length - 0.3))
    axles = [front - 0.2, -0.28 * length, -0.28 * length - 1.05]
    _wheels(parts, kind, ids, actor, 0.48, axles)


def _coach(parts: PartList, rng: np.random.Generator, kind: Kind, actor: int) -> None:
    tram = kind.name == "train"
    ids = parts.instance(kind.name)
    length, width = 2 * kind.half_length, 2 * kind.half_width
    palette: tuple[Color, ...] = ((0.75, 0.12, 0.10), (0.85, 0.75, 0.2), (0.15, 0.35, 0.6))
    paint = pick(rng, palette)
    stripe = pick(rng, ((0.9, 0.9, 0.88), (0.2, 0.2, 0.22)))
    floor = 0.25 if tram else 0.35
    top = float(rng.uniform(3.1, 3.4))
    look = Look(Material.COACH, (paint, GLASS, stripe), (1.5, 0.86, 0.42, 0.85))
    parts.add(CANOPY, look, ids, actor, (0.0, floor, 0.0), (width, top - floor, length))
    roof = Look(Material.PLAIN, ((0.6, 0.6, 0.6),), (0.15, 0.5))
    parts.add(BOX, roof, ids, actor, (0.0, top, -0.5), (width * 0.6, 0.3, length * 0.5))
    _wheels(parts, kind, ids, actor, 0.46, [0.32 * length, -0.28 * length])


def _two_wheeler(
    parts: PartList, rng: np.random.Generator, kind: Kind, actor: int, ridden: bool
) -> None:
    ids = parts.instance(kind.name)
    motor = kind.name == "motorcycle"
    paint = pick(rng, _PAINTS)
    radius = 0.31 if motor else 0.34
    thick = 0.15 if motor else 0.05
    reach = kind.half_length - radius
    tire = Look(Material.WHEEL, (TIRE, (0.3, 0.3, 0.32)), (radius,))
    for z in (-reach, reach):
        parts.add(DISC, tire, ids, actor, (0.0, 0.0, z), (thick, 2 * radius, 2 * radius))
    metal = Look(Material.PLAIN, (paint,), (0.1, 0.3))
    dark = Look(Material.PLAIN, ((0.1, 0.1, 0.1),), (0.1, 0.3))
    if motor:
        parts.add(BALL, metal, ids, actor, (0.0, 0.40, 0.12), (0.36, 0.55, 1.1))
        parts.add(BOX, dark, ids, actor, (0.0, 0.72, -0.35), (0.28, 0.12, 0.7))
    else:
        parts.add(BOX, metal, ids, actor, (0.0, 0.42, 0.0), (0.05, 0.07, 2 * reach))
        parts.add(BOX, metal, ids, actor, (0.0, 0.75, 0.05), (0.05, 0.06, 0.62))
        parts.add(BOX, metal, ids, actor, (0.0, 0.42, -0.18), (0.05, 0.42, 0.06))
        parts.add(BOX, dark, ids, actor, (0.0, 0.86, -0.2), (0.16, 0.07, 0.26))
    parts.add(BOX, dark, ids, actor, (0.0, 0.96, 0.42), (0.56, 0.06, 0.06))
    parts.add(BOX, metal, ids, actor, (0.0, 0.4, reach - 0.08), (0.06, 0.58, 0.08))
    if ridden:
        _person(parts, rng, actor, parts.instance("rider"), 0.35 if motor else 0.42)


def _person(
    parts: PartList, rng: np.random.Generator, actor: int, ids: tuple[int, int], seat: float
) -> None:
    """Add a person walking or standing, or sitting with the hips at `seat` above standing."""
    top, trousers = pick(rng, _CLOTHES), pick(rng, _CLOTHES)
    skin, hair = pick(rng, _SKIN, 0.03), pick(rng, ((0.1, 0.08, 0.06), (0.4, 0.28, 0.15)), 0.05)
    scale = float(rng.uniform(0.92, 1.06)) * (0.85 if seat else 1.0)
    stride = 0.14 if not seat else 0.1
    leg = 0.84 * scale
    cloth = Look(Material.PLAIN, (top,), (0.25, 0.25))
    legs = Look(Material.PLAIN, (trousers,), (0.25, 0.25))
    for side in (-1.0, 1.0):
        at = (0.10 * side, 0.6 * seat, stride * side + (0.1 if seat else 0.0))
        parts.add(PILLAR, legs, ids, actor, at, (0.17, leg - 0.3 * seat + 0.06, 0.19))
        arm = (0.25 * side, seat + 0.72 * scale, -0.8 * stride * side + (0.2 if seat else 0.0))
        parts.add(BALL, cloth, ids, actor, arm, (0.13, 0.68 * scale, 0.15))
    parts.add(BALL, cloth, ids, actor, (0.0, seat + 0.74 * scale, 0.0), (0.46, 0.76 * scale, 0.30))
    head = Look(Material.PLAIN, (skin,), (0.1, 0.15))
    parts.add(BALL, head, ids, actor, (0.0, seat + 1.44 * scale, 0.02), (0.20, 0.27, 0.23))
    cap = Look(Material.PLAIN, (hair,), (0.15, 0.1))
    parts.add(BALL, cap, ids, actor, (0.0, seat + 1.57 * scale, -0.02), (0.22, 0.17, 0.25))
