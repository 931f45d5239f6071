"""Drawing of steering: a gauge, and the path that it means on the road.

Images are `H W 3`, uint8, RGB. Sizes of text and lines follow the width of the picture.
"""

from __future__ import annotations

import cv2
import numpy as np

from unienc_core.inference.overlays import (
    ACCENT,
    FAINT,
    TEXT,
    open_inset,
    path_inset_side,
    put_text,
    text_size,
)
from unienc_core.inference.road_path import Ribbon
from unienc_core.inference.steering import Steering, SteeringHead

_HEIGHT, _WIDTH = 4.4, 10.5  # of the gauge, in lines of text
_TRACK = (70, 73, 84)
_OPACITY, _EDGE_OPACITY = 0.42, 0.85
_ABSURD = 1e4
_FIXED_POINT = 4  # OpenCV takes 1/16 px
STRAIGHT = 0.1
"""Share of the first tick of the gauge below which neither left nor right is written."""


def draw_gauge(
    picture: np.ndarray, steering: Steering, head: SteeringHead, *, beside_path: bool = False
) -> None:
    """Draw which way and how strongly a car steers into a corner of a picture.

    The bar goes to the side that is steered to. Its scale is that of the histograms of the label,
    the same for all clips: as far to its first tick as from there to the next.

    Args:
        picture: Written to: a translucent box at the top left.
        steering: What is predicted.
        head: Of what.
        beside_path: Whether `draw_path` draws, too: where both do not fit side by side, the gauge
            goes to the bottom.
    """
    height, width = picture.shape[:2]
    line = text_size(width)
    margin, box_width = round(0.4 * line), round(_WIDTH * line)
    taken = path_inset_side(height, width) + margin if beside_path else 0
    is_narrow = box_width + taken + 2 * margin > width
    box = open_inset(
        picture, round(_HEIGHT * line), box_width, "bottom left" if is_narrow else "top left"
    )
    if box is None:
        return
    left, right = 0.5 * line, box_width - 0.5 * line
    put_text(box, head.title, left, 0.7 * line, 0.8 * line, FAINT)
    _draw_scale(box, steering.value, head.kind.edges, line)
    if steering.value is None:
        seen = head.num_frames - steering.num_missing
        put_text(box, "warming up", left, 1.75 * line, line)
        put_text(
            box, f"{seen} of {head.num_frames}", right, 1.75 * line, 0.9 * line, FAINT, align=1
        )
        return
    edge = head.kind.edges[0]
    number = f"{steering.value:+.{1 if edge >= 1 else 2}f}"
    if abs(steering.value) >= _ABSURD:  # it must fit; an untrained network says anything
        number = f"{steering.value:+.1e}"
    after = left + put_text(box, number, left, 1.75 * line, 1.15 * line) + 0.35 * line
    unit = head.kind.unit.replace("..", " to ")
    put_text(box, unit, after, 1.75 * line, 0.9 * line, FAINT)
    if abs(steering.value) >= STRAIGHT * edge:
        side = "left" if steering.value > 0 else "right"
        put_text(box, side, right, 1.75 * line, line, ACCENT, align=1)


def gauge_position(value: float, edges: tuple[float, float, float]) -> float:
    """Return where a value lies on the gauge: -1 (right end) to 1 (left end), 0 in the middle.

    Args:
        value: In the unit of the label, left positive.
        edges: Values of the ticks on each side, evenly spaced; beyond the last the bar is full.
    """
    share = np.interp(abs(value), (0.0, *edges), np.linspace(0.0, 1.0, len(edges) + 1))
    return float(np.copysign(share, value))


def _draw_scale(
    box: np.ndarray, value: float | None, edges: tuple[float, float, float], line: int
) -> None:
    """Draw bar and ticks; no bar without a value."""
    middle, half = box.shape[1] / 2, box.shape[1] / 2 - 1.1 * line
    top, bottom = round(2.6 * line), round(3.1 * line)
    x0, x1 = round(middle - half), round(middle + half)
    cv2.rectangle(box, (x0, top), (x1, bottom), _TRACK, -1)
    if value is not None:
        end = round(middle - half * gauge_position(value, edges))
        cv2.rectangle(
            box, (min(end, round(middle)), top), (max(end, round(middle)), bottom), ACCENT, -1
        )
    for side in (-1, 1):
        for place, edge in enumerate(edges, start=1):
            x = middle + side * half * place / len(edges)
            cv2.line(box, (round(x), bottom), (round(x), bottom + line // 6), FAINT, 1)
            short = f"{edge:g}".removeprefix("0")
            put_text(box, short, x, 3.75 * line, 0.75 * line, FAINT, align=0.5)
    reach = round(0.2 * line)
    thick = max(1, round(line / 12))
    cv2.line(box, (round(middle), top - reach), (round(middle), bottom + reach), TEXT, thick)
    put_text(box, "0", middle, 3.75 * line, 0.75 * line, FAINT, align=0.5)


def draw_road_path(picture: np.ndarray, ribbon: Ribbon, mark: float = 0.0) -> None:
    """Lay a path over the road, the fainter the farther, with its edges.

    Args:
        picture: Written to.
        ribbon: The path, in px of the picture.
        mark: Metres along the path at which a line crosses it; 0 for none.
    """
    height, width = picture.shape[:2]
    opacity = np.zeros((height, width), np.uint8)
    left, right = (np.round(edge * 2**_FIXED_POINT).astype(np.int32) for edge in ribbon[:2])
    shades = 255 * ribbon.fade
    for i in range(len(left) - 1):
        patch = np.array([left[i], left[i + 1], right[i + 1], right[i]])
        shade = (_OPACITY * float(shades[i]),)
        cv2.fillConvexPoly(opacity, patch, shade, shift=_FIXED_POINT)
    thick = max(1, round(width / 480))
    edge_shades = _EDGE_OPACITY * shades
    for edge in (left, right):
        for i in range(len(edge) - 1):
            _line(opacity, edge[i], edge[i + 1], float(edge_shades[i]), thick)
    if ribbon.length[0] < mark < ribbon.length[-1]:
        start, end = (
            np.array([np.interp(mark, ribbon.length, axis) for axis in edge.T])
            for edge in (left, right)
        )
        _line(opacity, start, end, 255.0, thick)
    rows = np.flatnonzero(opacity.any(1))
    if rows.size:
        part = slice(rows[0], rows[-1] + 1)
        share = (opacity[part].astype(np.float32) / 255)[..., None]
        mixed = (1 - share) * picture[part] + share * np.array(ACCENT, np.float32)
        picture[part] = mixed.round().astype(np.uint8)


def _line(
    opacity: np.ndarray, start: np.ndarray, end: np.ndarray, value: float, thick: int
) -> None:
    first, last = ((round(float(x)), round(float(y))) for x, y in (start, end))
    cv2.line(opacity, first, last, (value,), thick, cv2.LINE_AA, _FIXED_POINT)
