"""A grid of rays that keeps the nearest surface on each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from unienc_core.data.synthcity.geometry import Forms
from unienc_core.data.synthcity.shapes import FACES, REAL_PLANES, ROUND

Quadric = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Mean of the crossings, squared half difference, and anchor, as in `Forms`."""


@dataclass(frozen=True)
class _Solid:
    """One part, ready to be drawn: which planes bound it from which side."""

    row: int
    window: list[int]
    planes: np.ndarray
    fronts: list[int]
    backs: list[int]
    quadric: Quadric | None
    base: int


class Raster:
    """Rays on a regular grid of image positions.

    Attributes:
        x: Image position of each column, float32.
        y: Image position of each row, float32.
        nearness: `rows columns` float32; grows as parts are drawn.
        surface: `rows columns` uint16; part * FACES + face code of the nearest surface.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y = x.astype(np.float32), y.astype(np.float32)
        self.nearness = np.zeros((len(y), len(x)), np.float32)
        self.surface = np.zeros((len(y), len(x)), np.uint16)
        self._origin = (float(x[0]), float(y[0]))
        self._spacing = (float(x[-1] - x[0]) / (len(x) - 1), float(y[-1] - y[0]) / (len(y) - 1))
        self._floats = [np.empty(self.nearness.size, np.float32) for _ in range(4)]
        self._codes = [np.empty(self.nearness.size, np.uint16) for _ in range(2)]
        self._masks = [np.empty(self.nearness.size, bool) for _ in range(2)]

    def windows(self, boxes: np.ndarray) -> np.ndarray:
        """Turn image bounds `P 4` into index ranges `P 4` (x0, x1, y0, y1), ends exclusive."""
        out = np.empty((len(boxes), 4), np.int64)
        for axis, count in ((0, len(self.x)), (1, len(self.y))):
            position = (boxes[:, 2 * axis : 2 * axis + 2] - self._origin[axis]) / self._spacing[
                axis
            ]
            position = np.clip(position, -2.0, count + 2.0)
            out[:, 2 * axis] = np.maximum(np.ceil(position[:, 0] - 1e-3), 0)
            out[:, 2 * axis + 1] = np.minimum(np.floor(position[:, 1] + 1e-3) + 1, count)
        return out

    def draw(
        self,
        forms: Forms,
        boxes: np.ndarray,
        highest: np.ndarray,
        shapes: np.ndarray,
        numbers: np.ndarray,
    ) -> None:
        """Draw P parts, nearest first so that hidden ones cost little.

        Args:
            forms: Of the parts.
            boxes: `P 4` image bounds.
            highest: `P`, no point of a part has a larger nearness.
            shapes: `P`, shape codes.
            numbers: `P`, the part numbers to write into `surface`.
        """
        windows = self.windows(boxes)
        seen = (windows[:, 1] > windows[:, 0]) & (windows[:, 3] > windows[:, 2])
        seen &= forms.enters.any(axis=1) | forms.bounded
        order = np.flatnonzero(seen)
        order = order[np.argsort(-highest[order], kind="stable")]
        for solid in _solids(forms, order, windows, shapes, numbers):
            x0, x1, y0, y1 = solid.window
            if highest[solid.row] > self.nearness[y0:y1, x0:x1].min():
                self._draw_solid(solid)

    def _draw_solid(self, solid: _Solid) -> None:
        x0, x1, y0, y1 = solid.window
        shape = (y1 - y0, x1 - x0)
        size = shape[0] * shape[1]
        enter, leave, other, spare = [a[:size].reshape(shape) for a in self._floats]
        codes, change = [a[:size].reshape(shape) for a in self._codes]
        closer, hit = [a[:size].reshape(shape) for a in self._masks]
        x, y = self.x[x0:x1], self.y[y0:y1, None]
        nearness = self.nearness[y0:y1, x0:x1]
        # A plane's nearness is a row vector plus a column vector; all planes' vectors at once.
        rows = solid.planes[:, 0:1] * x + solid.planes[:, 2:3]
        columns = solid.planes[:, 1:2, None] * y
        if solid.quadric is not None:
            _crossings(solid.quadric, x, y, enter, other, spare)
            np.maximum(nearness, other, out=leave)
            codes.fill(solid.base + ROUND)
            later = solid.fronts
        else:
            first, *later = solid.fronts
            np.copyto(leave, nearness)
            np.add(rows[first], columns[first], out=enter)
            codes.fill(solid.base + first)
        for f in later:
            np.add(rows[f], columns[f], out=other)
            np.less(other, enter, out=closer)
            np.minimum(enter, other, out=enter)
            # codes = base + f where this plane is entered later, in integer arithmetic.
            np.subtract(np.uint16(solid.base + f), codes, out=change)
            np.multiply(change, closer, out=change)
            np.add(codes, change, out=codes)
        for f in solid.backs:
            np.add(rows[f], columns[f], out=other)
            np.maximum(leave, other, out=leave)
        np.greater(enter, leave, out=hit)
        if solid.quadric is not None:
            np.greater(spare, 0.0, out=closer)
            np.logical_and(hit, closer, out=hit)
        # OpenCV's masked copy is many times faster than numpy's.
        mask = hit.view(np.uint8)
        cv2.copyTo(enter, mask, nearness)
        cv2.copyTo(codes, mask, self.surface[y0:y1, x0:x1])


def _solids(
    forms: Forms, order: np.ndarray, windows: np.ndarray, shapes: np.ndarray, numbers: np.ndarray
) -> Iterator[_Solid]:
    """Yield the parts to draw, in the given order."""
    planes = forms.planes.astype(np.float32)
    middle, spread = forms.middle.astype(np.float32), forms.spread.astype(np.float32)
    anchor = forms.anchor.astype(np.float32)
    for p in order.tolist():
        real, enters = REAL_PLANES[shapes[p]], forms.enters[p].tolist()
        yield _Solid(
            row=p,
            window=windows[p].tolist(),
            planes=planes[p],
            fronts=[f for f in real if enters[f]],
            backs=[f for f in real if not enters[f]],
            quadric=(middle[p], spread[p], anchor[p]) if forms.bounded[p] else None,
            base=int(numbers[p]) * FACES,
        )


def _crossings(
    quadric: Quadric,
    x: np.ndarray,
    y: np.ndarray,
    near: np.ndarray,
    far: np.ndarray,
    discriminant: np.ndarray,
) -> None:
    """Fill the nearness of both crossings of a quadric; there are any where the last is > 0."""
    middle, spread, anchor = quadric
    constant, slope_x, slope_y, xx, xy, yy = spread
    u, v = x - anchor[0], y - anchor[1]
    np.multiply(u * xy, v, out=discriminant)
    discriminant += u * (slope_x + xx * u) + constant
    discriminant += v * (slope_y + yy * v)
    np.maximum(discriminant, 0.0, out=far)
    np.sqrt(far, out=far)
    np.add(middle[0] * x + middle[2], middle[1] * y, out=near)
    near += far
    far *= np.float32(-2.0)
    far += near
