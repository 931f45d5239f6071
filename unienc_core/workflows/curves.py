"""Training curves of one run as a picture, from its ``metrics.jsonl``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from unienc_core.device import resource_errors
from unienc_core.errors import DataError
from unienc_core.files import write_atomic
from unienc_core.inference.overlays import (
    ACCENT,
    BACKGROUND,
    FAINT,
    draw_header,
    nice_step,
    put_text,
)
from unienc_core.training.history import read_log

PANEL_HEIGHT, PANEL_WIDTH = 300, 640
SMOOTHING = 0.05
"""Share of the run over which the bold line averages."""

Colour = tuple[int, int, int]
Values = dict[str, np.ndarray]

_LINE = 20
_MARGINS = (44, 34, 76, 20)  # top, bottom, left, right, px
GRID = (44, 46, 54)
_COLOURS: tuple[Colour, ...] = (ACCENT, (94, 190, 255), (126, 217, 137), (240, 128, 160))
_PANELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("loss", ("loss/total", "loss/photometric", "photometric/identity")),
    ("mean |translation|", ("mean_abs_tx", "mean_abs_ty", "mean_abs_tz")),
    ("mean disparity", ("mean_disparity",)),
    ("share the auto-mask keeps", ("photometric/automask_keep",)),
    ("gradient norm", ("grad_norm",)),
    ("learning rate", ("lr",)),
)
_EXACT = {"lr"}  # not a measurement, so never smoothed


@dataclass(frozen=True)
class Curves:
    """What a run logged.

    Attributes:
        steps: `n`, finished steps at each line of the log.
        stages: The stage of each line.
        values: Name to `n` numbers, NaN where a line does not have it.
    """

    steps: np.ndarray
    stages: Sequence[str]
    values: Values


def draw_curves(metrics: Path, out: Path) -> None:
    """Draw the curves of a run and write them as PNG, replacing an older picture.

    Args:
        metrics: Its ``metrics.jsonl``.
        out: The picture.

    Raises:
        DataError: If there is no such log or nothing in it.
        ResourceError: If the disk is full or not writable.
    """
    picture = render_curves(read_curves(metrics), metrics.absolute().parent.name)
    encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    with resource_errors(f"writing {out}"):
        write_atomic(out, encoded.tobytes())


def read_curves(metrics: Path) -> Curves:
    """Read a ``metrics.jsonl`` as columns; see `read_log`.

    Raises:
        DataError: If there is no such file, or no whole line in it.
    """
    lines = read_log(metrics)
    if not lines:
        raise DataError(f"{metrics}: holds no line yet")
    steps = np.array([float(line["step"]) for line in lines])
    stages = [line["stage"] for line in lines]
    names = dict.fromkeys(name for line in lines for name in line)
    values = {name: np.array([_number(line.get(name)) for line in lines]) for name in names}
    return Curves(steps, stages, values)


def render_curves(curves: Curves, title: str) -> np.ndarray:
    """Draw all curves of a run in panels, two side by side.

    Args:
        curves: What it logged.
        title: For the header.

    Returns:
        `H W 3`, uint8, RGB.
    """
    grouped = {key for _, keys in _PANELS for key in keys}
    rest = [key for key in curves.values if key.startswith("loss/") and key not in grouped]
    panels = [*_PANELS[:1], *((key, (key,)) for key in rest), *_PANELS[1:]]
    drawn: list[np.ndarray] = []
    for name, keys in panels:
        shown = {key: curves.values[key] for key in keys if key in curves.values}
        shown = {key: v for key, v in shown.items() if np.isfinite(v).any()}
        if shown:
            drawn.append(_panel(name, curves, shown))
    if len(drawn) % 2:
        drawn.append(np.full((PANEL_HEIGHT, PANEL_WIDTH, 3), BACKGROUND, np.uint8))
    rows = [np.concatenate(drawn[i : i + 2], axis=1) for i in range(0, len(drawn), 2)]
    header = draw_header(2 * PANEL_WIDTH, title, f"{curves.steps[-1]:.0f} steps")
    return np.concatenate([header, *rows])


def smooth(values: np.ndarray) -> np.ndarray:
    """Average over `SMOOTHING` of the run, centred, over the numbers that are there.

    Args:
        values: `n`, NaN where unknown.

    Returns:
        `n`.
    """
    reach = max(1, round(SMOOTHING * len(values) / 2))
    known = np.isfinite(values)
    kernel = np.ones(2 * reach + 1)
    sums = np.convolve(np.where(known, values, 0.0), kernel)[reach:-reach]
    counts = np.convolve(known.astype(float), kernel)[reach:-reach]
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=known & (counts > 0.5))


def _panel(name: str, curves: Curves, shown: Mapping[str, np.ndarray]) -> np.ndarray:
    canvas = np.full((PANEL_HEIGHT, PANEL_WIDTH, 3), BACKGROUND, np.uint8)
    top, bottom, left, right = _MARGINS
    area = canvas[top : PANEL_HEIGHT - bottom, left : PANEL_WIDTH - right]
    height, width = area.shape[:2]
    low, high = _range(shown)
    last = float(curves.steps[-1])
    for tick in ticks(low, high):
        y = (height - 1) * (high - tick) / (high - low)
        cv2.line(area, (0, round(y)), (width - 1, round(y)), GRID, 1)
        put_text(canvas, f"{tick:.4g}", left - 8, top + y, _LINE, FAINT, align=1)
    for tick in ticks(0.0, last):
        x = (width - 1) * tick / last
        cv2.line(area, (round(x), height - 4), (round(x), height - 1), FAINT, 1)
        put_text(canvas, f"{tick:g}", left + x, PANEL_HEIGHT - bottom / 2, _LINE, FAINT, align=0.5)
    for i in range(1, len(curves.stages)):
        if curves.stages[i] != curves.stages[i - 1]:
            x = round((width - 1) * curves.steps[i - 1] / last)
            cv2.line(area, (x, 0), (x, height - 1), FAINT, 1)
    put_text(canvas, name, 0.5 * _LINE, top / 2, 1.2 * _LINE)
    x = PANEL_WIDTH - right
    for (key, values), colour in reversed(list(zip(shown.items(), _COLOURS, strict=False))):
        faint = tuple(round(0.4 * c + 0.6 * b) for c, b in zip(colour, BACKGROUND, strict=True))
        columns = (width - 1) * curves.steps / last
        scale = (height - 1) / (high - low)
        draw_line(area, columns, (high - values) * scale, (faint[0], faint[1], faint[2]), 1)
        bold = values if key in _EXACT else smooth(values)
        draw_line(area, columns, (high - bold) * scale, colour, 2)
        if len(shown) > 1:
            x -= put_text(canvas, key, x, top / 2, _LINE, colour, align=1) + _LINE
    return canvas


def draw_line(
    area: np.ndarray, x: np.ndarray, y: np.ndarray, colour: Colour, thickness: int
) -> None:
    """Draw a line that is interrupted where `y` is NaN; single points become dots.

    Args:
        area: Written to; what lies outside is cut off.
        x: `n`, px.
        y: `n`, px, downwards.
        colour: RGB.
        thickness: px.
    """
    beyond = 4 * area.shape[0]  # far outside stays outside, and within what OpenCV can count
    points = np.stack([x, np.clip(y, -beyond, beyond)], axis=1)
    known = np.isfinite(y)
    for run in np.split(np.arange(len(y)), np.flatnonzero(np.diff(known)) + 1):
        if known[run[0]]:
            fixed = np.round(16 * points[run]).astype(np.int32)
            cv2.polylines(area, [fixed], False, colour, thickness, cv2.LINE_AA, 4)


def _range(shown: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Choose what the y axis spans: all but the outliers of each curve."""
    known = [values[np.isfinite(values)] for values in shown.values()]
    low = min(float(np.percentile(values, 1)) for values in known)
    high = max(float(np.percentile(values, 99)) for values in known)
    pad = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return low - pad, high + pad


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers within a range, about five."""
    step = nice_step((high - low) / 4)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [i * step for i in range(first, last + 1)]


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
