"""Cast shadows: the parts drawn once more as the sun sees them, then one look-up a sample.

Two maps cover the view, a sharp one near the camera and a coarse one beyond. Their texels lie on
a grid fixed to the world, so a shadow that does not move looks the same from frame to frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from unienc_core.data.synthcity.geometry import parallel_boxes, parallel_forms
from unienc_core.data.synthcity.ground import Eye
from unienc_core.data.synthcity.noise import ROW
from unienc_core.data.synthcity.parts import view_frames
from unienc_core.data.synthcity.raster import Raster
from unienc_core.data.synthcity.world import World

_CASCADES = ((0.0, 32.0, 0.05, 7.0), (32.0, 150.0, 0.2, 16.0))
"""Nearest and farthest depth, texel, height of the highest receiver; m."""

_NOTHING = -1e6


@dataclass(frozen=True)
class _Map:
    begin: float
    end: float
    texel: float
    raster: Raster


class Shadows:
    """What blocks the sun at one frame.

    Args:
        world: The city.
        index: The frame.
        eye: The camera.
    """

    def __init__(self, world: World, index: int, eye: Eye) -> None:
        sun = np.array(world.street.sun)
        side = np.array([-sun[2], 0.0, sun[0]])
        side /= np.sqrt((side * side).sum())
        down = np.array(
            [
                -sun[1] * side[2],
                sun[0] * side[2] - sun[2] * side[0],
                sun[1] * side[0],
            ]
        )
        self._rotation = np.stack([side, down, -sun], axis=1)
        self._eye = eye
        parts = world.parts
        center, sin, cos = parts.place(world.poses[:, index])
        some = slice(1, None)
        frames = view_frames(
            center[some],
            sin[some],
            cos[some],
            parts.half[some],
            parts.shape[some],
            self._rotation,
            np.zeros(3),
        )
        boxes, highest = parallel_boxes(frames)
        forms = parallel_forms(frames)
        self._maps = []
        for begin, end, texel, height in _CASCADES:
            raster = self._grid(begin, end, texel, height)
            raster.nearness.fill(_NOTHING)
            # What is no larger than a few texels casts nothing worth its time.
            large = np.flatnonzero(frames.half.max(axis=1) > 2.0 * texel)
            shapes, nameless = frames.shape[large], np.zeros_like(large)
            raster.draw(forms.take(large), boxes[large], highest[large], shapes, nameless)
            self._maps.append(_Map(begin, end, texel, raster))

    def _grid(self, begin: float, end: float, texel: float, height: float) -> Raster:
        """Cover what the camera sees between two depths and below a height."""
        r, eye = self._eye.rotation, self._eye.position
        corners = []
        for depth in (begin, end):
            for aside in (-0.7 * depth, 0.7 * depth):
                x = eye[0] + r[0, 2] * depth + r[0, 0] * aside
                z = eye[2] + r[2, 2] * depth + r[2, 0] * aside
                corners += [(x, 0.0, z), (x, -height, z)]
        points = np.array(corners)
        axes = []
        for axis in self._rotation.T[:2]:
            along = points[:, 0] * axis[0] + points[:, 1] * axis[1] + points[:, 2] * axis[2]
            first, last = int(np.floor(along.min() / texel)), int(np.ceil(along.max() / texel))
            axes.append((np.arange(first, last + 1) + 0.5) * texel)
        return Raster(axes[0], axes[1])

    def cast_on(self, raster: Raster, light: np.ndarray) -> np.ndarray:
        """Return `M` bool: which samples of a view something keeps the sun from.

        Args:
            raster: The view.
            light: `M`, cosine to the sun of each sample; where it is 0 nothing is cast.
        """
        out = np.zeros(raster.nearness.size, bool)
        nearness = raster.nearness.reshape(-1)
        r, rotation = self._eye.rotation, self._rotation
        # Rows take (x, y, 1) of the camera to the light's axes.
        turn = [
            [sum(rotation[k, i] * r[k, j] for k in range(3)) for j in range(3)] for i in range(3)
        ]
        offset = [sum(rotation[k, i] * self._eye.position[k] for k in range(3)) for i in range(3)]
        for part in self._maps:
            near = np.float32(1.0 / max(part.begin, 1e-3))
            chosen = (light > 0.0) & (nearness <= near) & (nearness > np.float32(1.0 / part.end))
            index = np.flatnonzero(chosen)
            line = index // len(raster.x)
            x, y = raster.x[index - line * len(raster.x)], raster.y[line]
            depth = np.float32(1.0) / nearness[index]
            place = []
            for row, start in zip(turn, offset, strict=True):
                a, b, c = (np.float32(v) for v in row)
                place.append(depth * (a * x + b * y + c) + np.float32(start))
            grid = part.raster
            scale = np.float32(1.0 / part.texel)
            column = (place[0] - grid.x[0]) * scale
            line = (place[1] - grid.y[0]) * scale
            cosine = light[index]
            slope = np.sqrt(np.maximum(np.float32(1.0) - cosine * cosine, 0.0))
            slope /= np.maximum(cosine, np.float32(0.1))
            bias = np.float32(0.03) + np.float32(0.8 * part.texel) * slope
            out[index] = _read(grid.nearness, column, line) > bias - place[2]
        return out


def _read(table: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Read the nearest entry of `table` at N flat positions; far below everything outside."""
    count = len(x)
    padded = -count % ROW
    shape = ((count + padded) // ROW, ROW)
    x, y = (np.pad(v, (0, padded)).reshape(shape) for v in (x, y))
    if not count:
        return np.empty(0, np.float32)
    out = cv2.remap(table, x, y, cv2.INTER_NEAREST, None, cv2.BORDER_CONSTANT, _NOTHING)
    return out.reshape(-1)[:count]
