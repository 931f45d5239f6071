"""The list of solids a world is made of, and where they are at a given frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from unienc_core.classes import INSTANCE_FACTOR, LABEL_BY_NAME
from unienc_core.data.synthcity.geometry import Frames

Color = tuple[float, float, float]

NUM_OPTIONS = 6


class Material(IntEnum):
    """How a surface is painted; see `materials`."""

    GROUND = 0
    PLAIN = 1
    FACADE = 2
    FOLIAGE = 3
    BODY = 4
    GLAZED = 5
    WHEEL = 6
    COACH = 7
    SIGN = 8
    SIGNAL = 9
    BRICK = 10
    FENCE = 11


@dataclass
class Look:
    """Colours and options of a material.

    Attributes:
        material: Which painter.
        colors: Up to three colours, 0..1.
        options: Up to six numbers; their meaning is the material's.
    """

    material: Material
    colors: tuple[Color, ...]
    options: tuple[float, ...] = ()


@dataclass
class PartList:
    """Grows while a world is furnished; `freeze` makes arrays of it.

    Attributes:
        lift: Height of the ground that new parts stand on, m.
    """

    lift: float = 0.0
    _floats: list[tuple[float, ...]] = field(default_factory=list)
    _ints: list[tuple[int, ...]] = field(default_factory=list)
    _counts: dict[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._ints)

    def instance(self, name: str) -> tuple[int, int]:
        """Return (label id, instance id) for a new object of the class, counted from 0."""
        label = LABEL_BY_NAME[name]
        if not label.has_instances:
            return label.id, label.id
        k = self._counts.get(label.id, 0)
        self._counts[label.id] = k + 1
        return label.id, label.id * INSTANCE_FACTOR + k

    def add(
        self,
        shape: int,
        look: Look,
        ids: tuple[int, int],
        actor: int,
        center: tuple[float, float, float],
        size: tuple[float, float, float],
        turn: tuple[float, float] = (1.0, 0.0),
    ) -> None:
        """Add one solid.

        Args:
            shape: Shape code.
            look: How it is painted.
            ids: Label id and instance id.
            actor: Index of the actor that carries it.
            center: Right, height of the lower edge above the actor's ground, forward; m.
            size: Width, height, length; m.
            turn: Cosine and sine of its yaw within the actor.
        """
        if look.material is Material.GROUND:
            raise ValueError("the ground is not a part")
        colors = [c for color in (*look.colors, *((0.5,) * 3,) * 3)[:3] for c in color]
        options = (*look.options, *(0.0,) * NUM_OPTIONS)[:NUM_OPTIONS]
        middle = (center[0], -(self.lift + center[1] + 0.5 * size[1]), center[2])
        half = (0.5 * size[0], 0.5 * size[1], 0.5 * size[2])
        self._floats.append((*middle, *half, *turn, *colors, *options))
        self._ints.append((shape, int(look.material), *ids, actor))

    def freeze(self) -> PartTable:
        """Return the arrays. Part 0 is the ground and the sky."""
        width = 8 + 9 + NUM_OPTIONS
        floats = np.zeros((len(self._floats) + 1, width))
        floats[0, 3:7] = (1.0, 1.0, 1.0, 1.0)
        floats[1:] = self._floats or np.zeros((0, width))
        ints = np.zeros((len(self._ints) + 1, 5), np.int32)
        ints[1:] = self._ints or np.zeros((0, 5), np.int32)
        return PartTable(
            center=floats[:, :3],
            half=floats[:, 3:6],
            turn=floats[:, 6:8],
            looks=floats[:, 8:].astype(np.float32),
            shape=ints[:, 0],
            material=ints[:, 1].astype(np.uint8),
            label=ints[:, 2].astype(np.uint8),
            instance=ints[:, 3],
            actor=ints[:, 4],
        )


@dataclass(frozen=True)
class PartTable:
    """P parts as arrays; part 0 stands for ground and sky.

    Attributes:
        center: `P 3` within the actor (right, down, forward), m.
        half: `P 3` half extents, m.
        turn: `P 2` cosine and sine of the yaw within the actor.
        looks: `P 15` float32: three colours, six options.
        shape: `P` shape codes.
        material: `P` uint8.
        label: `P` uint8 Cityscapes label ids.
        instance: `P` int32 Cityscapes instance ids.
        actor: `P` int32.
    """

    center: np.ndarray
    half: np.ndarray
    turn: np.ndarray
    looks: np.ndarray
    shape: np.ndarray
    material: np.ndarray
    label: np.ndarray
    instance: np.ndarray
    actor: np.ndarray

    def place(self, actors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Put all parts where their actors are.

        Args:
            actors: `A 4`: x, z, sine and cosine of the heading.

        Returns:
            `P 3` centres in the world, and `P` sine and cosine of the parts' headings.
        """
        x, z, sin, cos = actors[self.actor].T
        center = np.empty_like(self.center)
        center[:, 0] = x + cos * self.center[:, 0] + sin * self.center[:, 2]
        center[:, 1] = self.center[:, 1]
        center[:, 2] = z - sin * self.center[:, 0] + cos * self.center[:, 2]
        turn_cos, turn_sin = self.turn[:, 0], self.turn[:, 1]
        return center, sin * turn_cos + cos * turn_sin, cos * turn_cos - sin * turn_sin


def view_frames(
    center: np.ndarray,
    sin: np.ndarray,
    cos: np.ndarray,
    half: np.ndarray,
    shape: np.ndarray,
    rotation: np.ndarray,
    eye: np.ndarray,
) -> Frames:
    """Express P placed parts in the view of a camera.

    Args:
        center: `P 3` in the world, m.
        sin: `P`, sine of the heading.
        cos: `P`, cosine of it.
        half: `P 3` half extents, m.
        shape: `P` shape codes.
        rotation: `3 3`, columns are the camera's axes in the world.
        eye: The camera's centre in the world, m.
    """
    axes = np.empty((len(sin), 3, 3))
    axes[:, 0] = cos[:, None] * rotation[0] - sin[:, None] * rotation[2]
    axes[:, 1] = rotation[1]
    axes[:, 2] = sin[:, None] * rotation[0] + cos[:, None] * rotation[2]
    dx, dy, dz = (eye[k] - center[:, k] for k in range(3))
    local = np.stack([cos * dx - sin * dz, dy, sin * dx + cos * dz], axis=1)
    return Frames(axes=axes, eye=local, half=half, shape=shape)
