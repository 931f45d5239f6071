"""Drawing on frames: depth as colour, its legend, the camera's path, text. Pure functions.

Images are `H W 3`, uint8, RGB. Sizes of text and lines follow the width of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

BACKGROUND = (20, 21, 26)
TEXT = (236, 236, 240)
FAINT = (150, 153, 165)
ACCENT = (255, 184, 66)

# Inferno without its two ends: the far end stays apart from black, the near end keeps its colour.
_COLOURS = cv2.cvtColor(
    cv2.applyColorMap(
        np.linspace(24, 244, 256).round().astype(np.uint8)[:, None], cv2.COLORMAP_INFERNO
    ),
    cv2.COLOR_BGR2RGB,
)
_FONT = cv2.FONT_HERSHEY_SIMPLEX

Corner = Literal["top right", "top left", "bottom left"]


@dataclass(frozen=True)
class DepthRange:
    """The depths at the two ends of the colour scale."""

    near: float
    far: float


def choose_range(depths: Sequence[np.ndarray]) -> DepthRange:
    """Choose a colour scale that shows what some depth maps hold, outliers left out.

    Args:
        depths: Maps of any size, one unit; values that are not positive and finite are ignored.

    Returns:
        Their 2nd and 98th percentile, widened to a ratio of 1.5 where they hardly differ.
    """
    values = np.concatenate([depth[::4, ::4].ravel() for depth in depths])
    values = values[np.isfinite(values) & (values > 0)]
    if not values.size:
        return DepthRange(1.0, 100.0)
    near, far = (float(v) for v in np.percentile(values, [2, 98]))
    widen = max(1.0, math.sqrt(1.5 * near / far))
    return DepthRange(near / widen, far * widen)


def depth_to_colour(depth: np.ndarray, depth_range: DepthRange) -> np.ndarray:
    """Colour a depth map on a logarithmic scale: near is bright, far is dark.

    Args:
        depth: `H W`; not positive or not finite is drawn black.
        depth_range: Depths of the brightest and the darkest colour.
    """
    invalid = ~(np.isfinite(depth) & (depth > 0))
    clipped = np.clip(depth, depth_range.near, depth_range.far, dtype=np.float32)
    clipped[invalid] = depth_range.far
    steps = 255 / math.log(depth_range.far / depth_range.near)
    index = np.round((math.log(depth_range.far) - cv2.log(clipped)) * steps).astype(np.uint8)
    colour = cv2.applyColorMap(index, _COLOURS)
    colour[invalid] = 0
    return colour


def text_size(width: int) -> int:
    """Height of a line of text, in pixels, for a picture of this width."""
    return max(18, round(width / 32))


def put_text(
    canvas: np.ndarray,
    text: str,
    x: float,
    middle: float,
    line: float,
    colour: tuple[int, int, int] = TEXT,
    align: float = 0.0,
) -> int:
    """Write a line of ASCII text into `canvas` and return its width in pixels.

    Args:
        canvas: Written to.
        text: What to write; other characters become ``?``.
        x: Where it starts (`align` 0), is centred (0.5) or ends (1), px.
        middle: Vertical centre, px.
        line: Height of the line, px; letters take about half of it.
        colour: RGB.
        align: See `x`.
    """
    text = _printable(text)
    scale, weight = _font(line)
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, weight)
    corner = (round(x - align * width), round(middle + height / 2))
    cv2.putText(canvas, text, corner, _FONT, scale, colour, weight, cv2.LINE_AA)
    return width


def text_width(text: str, line: float) -> int:
    """Return how wide `put_text` writes a text, px."""
    return cv2.getTextSize(_printable(text), _FONT, *_font(line))[0][0]


def _printable(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def _font(line: float) -> tuple[float, int]:
    """Return scale and weight of the letters of a line."""
    return line / 45, max(1, round(line / 30))


def nice_step(span: float) -> float:
    """Return the largest of 1, 2, 5 x 10^n that is not above `span`."""
    power = 10.0 ** math.floor(math.log10(span))
    return max(step * power for step in (1, 2, 5) if step * power <= span * (1 + 1e-9))


def legend_ticks(depth_range: DepthRange, most: int = 8) -> list[float]:
    """Return round depths within a range, evenly enough spread for a logarithmic scale."""
    low, high = math.floor(math.log10(depth_range.near)), math.ceil(math.log10(depth_range.far))
    ticks: list[float] = []
    for steps in ((1, 2, 5), (1, 3), (1,)):
        candidates = [s * 10.0**n for n in range(low, high + 1) for s in steps]
        ticks = [t for t in candidates if depth_range.near <= t <= depth_range.far]
        if len(ticks) <= most:
            break
    return ticks if len(ticks) > 1 else [depth_range.near, depth_range.far]


def draw_header(width: int, left: str, right: str) -> np.ndarray:
    """Draw the strip above the pictures: what this is, and which frame."""
    line = text_size(width)
    strip = np.full((round(1.5 * line), width, 3), BACKGROUND, np.uint8)
    middle, margin = strip.shape[0] / 2, 0.5 * line
    put_text(strip, left, margin, middle, line)
    put_text(strip, right, width - margin, middle, line, FAINT, align=1)
    return strip


def draw_legend(width: int, depth_range: DepthRange, label: str) -> np.ndarray:
    """Draw the strip below: the colour scale, near on the left, with depths in numbers."""
    line = text_size(width)
    strip = np.full((round(2.2 * line), width, 3), BACKGROUND, np.uint8)
    margin = 0.5 * line
    taken = put_text(strip, label, margin, 1.1 * line, line)
    x1 = round(width - 2 * margin)
    x0 = min(round(taken + 3 * margin), x1 - 2)
    bar = np.geomspace(depth_range.near, depth_range.far, x1 - x0)[None]
    top, bottom = round(0.4 * line), round(1.0 * line)
    strip[top:bottom, x0:x1] = depth_to_colour(bar, depth_range)
    span = math.log(depth_range.far / depth_range.near)
    most = max(2, round((x1 - x0) / (2.5 * line)))
    for tick in legend_ticks(depth_range, most):
        x = x0 + (bar.shape[1] - 1) * math.log(tick / depth_range.near) / span
        cv2.line(strip, (round(x), bottom), (round(x), bottom + line // 6), FAINT, 1)
        put_text(strip, f"{tick:.3g}", x, 1.62 * line, 0.9 * line, FAINT, align=0.5)
    return strip


def draw_note(picture: np.ndarray, text: str) -> None:
    """Write a line of text into the middle of `picture`."""
    height, width = picture.shape[:2]
    put_text(picture, text, width / 2, height / 2, text_size(width), FAINT, align=0.5)


def draw_path(
    picture: np.ndarray, points: np.ndarray, T_world_camera: np.ndarray, unit: str
) -> None:
    """Draw the camera's path, seen from above with the first heading up, into a corner.

    Args:
        picture: Written to: a translucent square at the top right.
        points: `n 3`, positions in the frame of the first camera.
        T_world_camera: `4 4`, newest pose.
        unit: What to call a unit of `points`.
    """
    height, width = picture.shape[:2]
    line = text_size(width)
    side = path_inset_side(height, width)
    box = open_inset(picture, side, side) if side >= 4 * line else None
    if box is None:
        return
    ground = points[:, [0, 2]]
    low, high = ground.min(0), ground.max(0)
    # The window grows by steps, so that the path does not seem to shrink all the time.
    window = 2.0 ** (math.ceil(2 * math.log2(1.1 * max(float((high - low).max()), 1e-6))) / 2)
    inner = side - 2.6 * line  # room for the title above and the scale below
    centre = np.array([side / 2, 1.2 * line + inner / 2])
    pixels = (ground - (low + high) / 2) * [1, -1] * (inner / window) + centre
    thick = max(1, round(line / 10))
    cv2.polylines(box, [_fixed(pixels)], False, ACCENT, thick, cv2.LINE_AA, 4)
    _dot(box, pixels[0], 0.14 * line, FAINT)
    _arrow(box, pixels[-1], T_world_camera[:3, 2], 0.42 * line)
    put_text(box, "camera path", 0.4 * line, 0.65 * line, 0.8 * line)
    _scale_bar(box, inner / window, window, unit, line)


def path_inset_side(height: int, width: int) -> int:
    """Return the side of the box that `draw_path` draws into a picture of this size, px."""
    return round(min(0.66 * height, max(0.24 * width, 7.5 * text_size(width))))


def open_inset(
    picture: np.ndarray, height: int, width: int, corner: Corner = "top right"
) -> np.ndarray | None:
    """Darken a framed box in a corner of a picture and return it as a view to draw into.

    None where there is no room for it, so that nothing could be read.
    """
    margin = round(0.4 * text_size(picture.shape[1]))
    if height + 2 * margin > picture.shape[0] or width + 2 * margin > picture.shape[1]:
        return None
    left = margin if "left" in corner else picture.shape[1] - margin - width
    top = margin if "top" in corner else picture.shape[0] - margin - height
    box = picture[top : top + height, left : left + width]
    box[:] = cv2.addWeighted(box, 0.32, np.full_like(box, BACKGROUND), 0.68, 0)
    cv2.rectangle(box, (0, 0), (width - 1, height - 1), FAINT, 1)
    return box


def _scale_bar(box: np.ndarray, px_per_unit: float, window: float, unit: str, line: int) -> None:
    length = nice_step(window / 3)
    y, x0 = box.shape[0] - 0.6 * line, 0.4 * line
    x1 = x0 + length * px_per_unit
    for a, b in (((x0, y), (x1, y)), ((x0, y - 3), (x0, y + 3)), ((x1, y - 3), (x1, y + 3))):
        cv2.line(box, (round(a[0]), round(a[1])), (round(b[0]), round(b[1])), TEXT, 1)
    put_text(box, f"{length:.3g} {unit}", x1 + 0.35 * line, y, 0.85 * line, FAINT)


def _fixed(pixels: np.ndarray) -> np.ndarray:
    """Pixel coordinates as OpenCV takes fractions of a pixel: in 1/16."""
    return np.round(pixels * 16).astype(np.int32)


def _dot(box: np.ndarray, at: np.ndarray, radius: float, colour: tuple[int, int, int]) -> None:
    x, y = (int(v) for v in _fixed(at))
    cv2.circle(box, (x, y), round(16 * max(2.0, radius)), colour, -1, cv2.LINE_AA, 4)


def _arrow(box: np.ndarray, at: np.ndarray, forward: np.ndarray, length: float) -> None:
    angle = math.atan2(forward[0], forward[2])
    ahead = np.array([math.sin(angle), -math.cos(angle)])
    aside = np.array([-ahead[1], ahead[0]])
    shape = np.array([ahead, -0.7 * ahead + 0.7 * aside, -0.3 * ahead, -0.7 * ahead - 0.7 * aside])
    cv2.fillPoly(box, [_fixed(at + length * shape)], TEXT, cv2.LINE_AA, 4)


def compose(
    header: np.ndarray, pictures: Sequence[np.ndarray], legends: Sequence[np.ndarray]
) -> np.ndarray:
    """Lay out a frame: header, pictures, legends.

    The pictures are of one size and stand in rows of as many as the header is wide; the last row
    may have a gap.
    """
    columns = header.shape[1] // pictures[0].shape[1]
    gap = np.full_like(pictures[0], BACKGROUND)
    cells = [*pictures, *[gap] * (-len(pictures) % columns)]
    rows = [np.concatenate(cells[i : i + columns], 1) for i in range(0, len(cells), columns)]
    return np.concatenate([header, *rows, *legends])


def fill(strip: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """Centre a strip vertically on a picture of its width; None where it is too tall."""
    height, width = size
    if strip.shape[0] > height:
        return None
    picture = np.full((height, width, 3), BACKGROUND, np.uint8)
    top = (height - strip.shape[0]) // 2
    picture[top : top + strip.shape[0]] = strip
    return picture
