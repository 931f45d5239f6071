"""Steering along time as a picture: what was predicted over what was driven."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unienc_core.data.folds import Span
from unienc_core.inference.overlays import (
    ACCENT,
    BACKGROUND,
    FAINT,
    TEXT,
    draw_header,
    nice_step,
    put_text,
    text_width,
)
from unienc_core.workflows.curves import GRID, draw_line, ticks
from unienc_core.workflows.depth_plots import write_plot
from unienc_core.workflows.steering_scoring import Predicted, Truth

PLOTS = ("along-time",)

WIDTH, ROW_HEIGHT = 1280, 168
ROWS = 10
"""Rows that long recordings are broken into, more or less."""

FRAME_WIDTH = 8
"""Of a frame at most, px: short recordings share a row."""

_TRUTH = (94, 190, 255)
_PANEL = (28, 30, 37)
_LINE = 20
_MARGINS = (26, 24, 76, 20)  # top, bottom, left, right, px
_DOT = 6  # px between predictions that are drawn as dots as well


@dataclass(frozen=True)
class Stretch:
    """Frames of a drive that lie together.

    Attributes:
        name: Of the drive.
        times: `n`, s since the drive began, ascending.
        truth: `n`, NaN where unknown.
        predicted: `n`, NaN where nothing was predicted.
    """

    name: str
    times: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray

    @property
    def interval(self) -> float:
        """Seconds from frame to frame."""
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else 1.0

    @property
    def seconds(self) -> float:
        """How long it is, its last frame included."""
        return float(self.times[-1] - self.times[0]) + self.interval

    def parts(self, longest: float) -> Iterator[Stretch]:
        """Yield it in as many equal parts as are needed for none to be longer, s."""
        count = min(math.ceil(self.seconds / longest * (1 - 1e-9)), len(self.times))
        for rows in np.array_split(np.arange(len(self.times)), count):
            yield Stretch(self.name, *(v[rows] for v in (self.times, self.truth, self.predicted)))


def stretches(made: Predicted, truth: Truth, spans: Sequence[Span] | None = None) -> list[Stretch]:
    """Return truth and predictions side by side, of those frames of which any was predicted.

    Args:
        made: What was predicted.
        truth: What is known.
        spans: Frames that were to be predicted; None for all from a drive's first prediction to
            its last.
    """
    if spans is None:
        numbers = np.unique(made.drives)
        ends = [made.frames[made.drives == n] for n in numbers]
        pairs = zip(numbers, ends, strict=True)
        spans = [Span(int(n), int(e.min()), int(e.max()) + 1) for n, e in pairs]
    found: list[Stretch] = []
    for span in spans:
        times, labels = (v[span.drive] for v in (truth.times, truth.labels))
        predicted = np.full(len(labels), np.nan)
        here = made.drives == span.drive
        predicted[made.frames[here]] = made.values[here]
        part = slice(span.start, span.stop)
        if np.isfinite(predicted[part]).any():
            since = times[part] - times[0]
            found.append(Stretch(truth.names[span.drive], since, labels[part], predicted[part]))
    return found


def plot_predictions(
    path: Path,
    made: Predicted,
    truth: Truth,
    spans: Sequence[Span] | None,
    title: str,
    baselines: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write the picture of what was predicted as PNG; see `stretches` and `draw_along_time`.

    Raises:
        ResourceError: If the disk is full or not writable.
    """
    found = figures(truth.errors(made), baselines, truth.unit)
    write_plot(path, draw_along_time(stretches(made, truth, spans), title, found, truth.unit))


def figures(
    errors: Mapping[str, Any], baselines: Mapping[str, Mapping[str, Any]], unit: str
) -> str:
    """Return the squared errors of what was predicted, and of those that see nothing."""
    parts = {"MSE": errors}
    parts |= {
        n: baselines[k] for k, n in (("train_mean", "mean"), ("zero", "zero")) if k in baselines
    }
    known = [(name, found["steering_mse"]) for name, found in parts.items()]
    text = ", ".join(f"{name} {value:.4g}" for name, value in known if value is not None)
    return f"{text} ({unit})^2"


def draw_along_time(shown: Sequence[Stretch], title: str, found: str, unit: str) -> np.ndarray:
    """Draw predictions over the truth along time, in rows, all on one scale.

    Short stretches share a row, long ones take several. Single values far beyond all others leave
    their row.

    Args:
        shown: What there is, at least one.
        title: What this is.
        found: What came out, see `figures`.
        unit: Of the values.

    Returns:
        `H W 3`, uint8, RGB.
    """
    rows = _rows(shown)
    gap = _gap(shown)
    longest = max(sum(s.seconds for s in row) + gap * (len(row) - 1) for row in rows)
    scale = (WIDTH - sum(_MARGINS[2:])) / longest
    low, high = _range(shown)
    step = nice_step(110 / scale)
    drawn = [_draw_row(row, (low, high), scale, gap, step) for row in rows]
    return np.concatenate([draw_header(WIDTH, title, found), _legend(shown, unit), *drawn])


def _rows(shown: Sequence[Stretch]) -> list[list[Stretch]]:
    """Lay stretches out as words of a text; those longer than a row are broken."""
    widest = (WIDTH - sum(_MARGINS[2:])) / FRAME_WIDTH
    gap = _gap(shown)
    total = sum(s.seconds + gap for s in shown)
    room = max(total / ROWS, widest * min(s.interval for s in shown))
    rows: list[list[Stretch]] = [[]]
    taken = 0.0
    for part in (part for s in shown for part in s.parts(room)):
        if rows[-1] and taken + part.seconds > room:
            rows.append([])
            taken = 0.0
        rows[-1].append(part)
        taken += part.seconds + gap
    return rows


def _gap(shown: Sequence[Stretch]) -> float:
    """Return what lies between two stretches of a row, in seconds of its axis."""
    return 0.1 * float(np.median([s.seconds for s in shown])) if len(shown) > 1 else 0.0


def _range(shown: Sequence[Stretch]) -> tuple[float, float]:
    """Choose what the y axis spans: zero and all values, but no single ones far from the others."""
    values = np.concatenate([np.append(s.truth, s.predicted) for s in shown])
    values = values[np.isfinite(values)]
    low, high = (float(v) for v in np.percentile(values, [0.1, 99.9]))
    reach = 0.5 * (high - low)
    low, high = max(float(values.min()), low - reach), min(float(values.max()), high + reach)
    low, high = min(0.0, low), max(0.0, high)
    pad = 0.08 * (high - low) or 1.0
    return low - pad, high + pad


def _legend(shown: Sequence[Stretch], unit: str) -> np.ndarray:
    strip = np.full((round(1.6 * _LINE), WIDTH, 3), BACKGROUND, np.uint8)
    middle, left = strip.shape[0] / 2, _MARGINS[2]
    count = sum(int(np.isfinite(s.predicted).sum()) for s in shown)
    for text, colour in (("truth", _TRUTH), (f"prediction ({count})", ACCENT)):
        cv2.line(strip, (left, round(middle)), (left + 24, round(middle)), colour, 2)
        left += 32 + put_text(strip, text, left + 32, middle, _LINE, TEXT) + 2 * _LINE
    text = f"{unit}, left is positive; s since a drive began"
    put_text(strip, text, WIDTH - _MARGINS[3], middle, _LINE, FAINT, align=1)
    return strip


def _draw_row(
    row: Sequence[Stretch], span: tuple[float, float], scale: float, gap: float, step: float
) -> np.ndarray:
    """Draw the stretches of a row; `scale` is in px per s, `step` the seconds between ticks."""
    canvas = np.full((ROW_HEIGHT, WIDTH, 3), BACKGROUND, np.uint8)
    top, bottom, left, _ = _MARGINS
    height = ROW_HEIGHT - top - bottom
    (low, high), x = span, float(left)
    for tick in ticks(low, high):
        y = top + (height - 1) * (high - tick) / (high - low)
        put_text(canvas, f"{tick:.4g}", left - 8, y, 0.9 * _LINE, FAINT, align=1)
    for stretch in row:
        end = x + scale * stretch.seconds
        area = canvas[top : top + height, round(x) : max(round(x) + 1, round(end))]
        _draw_stretch(area, stretch, span, scale)
        _write_name(canvas, stretch, x, end)
        free = x - 4.0
        for tick in _seconds(stretch, step):
            at = x + scale * (tick - stretch.times[0])
            cv2.line(canvas, (round(at), top + height - 4), (round(at), top + height), FAINT, 1)
            half = text_width(f"{tick:g}", 0.9 * _LINE) / 2
            if at - half >= free and at + half <= end + gap * scale:
                place = ROW_HEIGHT - 0.6 * bottom
                put_text(canvas, f"{tick:g}", at, place, 0.9 * _LINE, FAINT, align=0.5)
                free = at + half + 0.5 * _LINE
        x = end + scale * gap
    return canvas


def _draw_stretch(
    area: np.ndarray, stretch: Stretch, span: tuple[float, float], scale: float
) -> None:
    area[:] = _PANEL
    low, high = span
    height, width = area.shape[:2]

    def place(values: np.ndarray) -> np.ndarray:
        return (height - 1) * (high - values) / (high - low)

    for tick in ticks(low, high):
        y = round(float(place(np.array(tick))))
        cv2.line(area, (0, y), (width - 1, y), FAINT if tick == 0 else GRID, 1)
    x = scale * (stretch.times - stretch.times[0])
    draw_line(area, x, place(stretch.truth), _TRUTH, 2)
    made = np.flatnonzero(np.isfinite(stretch.predicted))
    if not made.size:
        return
    apart = np.diff(made)
    usual = np.median(apart) if apart.size else 1
    for run in np.split(made, np.flatnonzero(apart > 2 * usual) + 1):
        draw_line(area, x[run], place(stretch.predicted[run]), ACCENT, 2)
    if usual * scale * stretch.interval >= _DOT:
        for at, y in zip(x[made], place(stretch.predicted[made]), strict=True):
            cv2.circle(area, (round(at), round(y)), 3, ACCENT, -1, cv2.LINE_AA)


def _seconds(stretch: Stretch, step: float) -> list[float]:
    first, last = math.ceil(stretch.times[0] / step - 1e-6), stretch.times[-1] / step + 1e-6
    return [i * step for i in range(first, math.floor(last) + 1)]


def _write_name(canvas: np.ndarray, stretch: Stretch, x: float, end: float) -> None:
    """Write whose stretch it is, and its error, as far as there is room."""
    errors = np.square(stretch.predicted - stretch.truth)
    known = errors[np.isfinite(errors)]
    # Of stretches alike, short figures shall not fit where long ones do not.
    texts = [(stretch.name, stretch.name)]
    if known.size:
        name = f"{stretch.name}   MSE "
        texts.insert(0, (f"{name}{known.mean():.4g}", f"{name}0.00000"))
    for text, widest in texts:
        if text_width(widest, 0.9 * _LINE) <= end - x:
            put_text(canvas, text, x + 2, _MARGINS[0] / 2 + 2, 0.9 * _LINE, FAINT)
            return
