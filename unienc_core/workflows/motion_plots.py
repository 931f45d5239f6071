"""Pictures of a motion evaluation as PNG: precision over recall, and what was found of triplets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from unienc_core.inference.motion_overlays import choose_full_speed, draw_mask, draw_own_flow
from unienc_core.inference.overlays import (
    ACCENT,
    BACKGROUND,
    FAINT,
    TEXT,
    draw_header,
    put_text,
    text_size,
)
from unienc_core.metrics.motion import ThresholdCounts
from unienc_core.workflows.depth_plots import PANEL_WIDTH, captioned, plot_paths, write_plot
from unienc_core.workflows.motion_flows import THRESHOLDED
from unienc_core.workflows.motion_scoring import MotionScores
from unienc_core.workflows.motion_sources import MotionSample, MotionSource

CURVE = "precision-recall"
PLOTS = (CURVE, "worst", "median", "best")

_NEXT = 1
"""The source that is drawn: towards the next frame, motion points forwards in time."""

_LEAST = 0.2
"""Motion of the strongest colour, m, where nothing moves farther."""

_GRID_OF_PANELS = (
    ("image", "own motion found"),
    ("true motion mask", "motion mask found"),
    ("true own motion", "own motion found x mask"),
)

_SIDE, _LEFT, _TOP, _LINE = 440, 70, 30, 20
_RASTER = (44, 46, 54)
_COLOURS = (ACCENT, (94, 190, 255), (126, 217, 137), (240, 128, 160))


def draw_plots(source: MotionSource, scores: MotionScores, folder: Path) -> list[Path]:
    """Draw what was found, and return the files written.

    Args:
        source: What was scored; the triplets drawn are read and predicted again.
        scores: What came out.
        folder: Where to write; made if absent.

    Raises:
        ResourceError: If the disk is full or not writable.
    """
    paths, written = plot_paths(folder, PLOTS), []
    curves = {"motion mask": scores.mask}
    curves |= {name.replace("_", " "): scores.thresholded[name] for name in THRESHOLDED}
    known = {name: counts for name, counts in curves.items() if counts.moving.any()}
    if known:
        write_plot(paths[CURVE], draw_curves(known, scores.num_moving / scores.num_known))
        written.append(paths[CURVE])
    ious = dict(scores.ranked)
    for name, index in scores.extremes().items():
        sample = source.sample(index)
        title = f"{name} of {len(ious)} in which something moves: {sample.name}"
        factor = scores.factors.get(index, 1.0)
        write_plot(paths[name], draw_sample(sample, factor, title, f"IoU {ious[index]:.3f}"))
        written.append(paths[name])
    return written


def draw_sample(sample: MotionSample, factor: float, title: str, figures: str) -> np.ndarray:
    """Draw image, mask and own motion of one triplet, the truth on the left.

    Args:
        sample: The triplet.
        factor: From the network's unit to m.
        title: For the header.
        figures: What else it says.

    Returns:
        `H W 3`, uint8, RGB.
    """
    height, width = sample.image.shape[:2]
    size = (PANEL_WIDTH, max(1, round(height * PANEL_WIDTH / width)))
    image = cv2.resize(sample.image, size)
    truth, found = sample.truth, sample.found
    own, mask = found.independent_flow, found.motion_mask
    motions = {
        "true own motion": _over_ground(truth.independent_flow, 1.0),
        "own motion found": _over_ground(own, factor),
        "own motion found x mask": None
        if own is None or mask is None
        else _over_ground(mask[:, None] * own, factor),
    }
    masks = {
        "true motion mask": None if truth.labels is None else 1.0 * truth.labels["moving"],
        "motion mask found": None if mask is None else mask[_NEXT].numpy(),
    }
    lengths = [np.hypot(*motion) for motion in motions.values() if motion is not None]
    full = choose_full_speed([*lengths, np.zeros(1)], _LEAST)
    panels = {"image": image}
    for name, motion in motions.items():
        if motion is not None:
            larger = np.stack([_enlarged(axis, size) for axis in motion])
            panels[name] = draw_own_flow(image, larger, full, "m", legend=False)
    for name, values in masks.items():
        if values is not None:
            panels[name] = draw_mask(image, _enlarged(values, size), legend=False)
    rows = [[_panel(name, panels, image.shape) for name in row] for row in _GRID_OF_PANELS]
    blank = np.full((round(8.6 * text_size(PANEL_WIDTH)), PANEL_WIDTH, 3), BACKGROUND, np.uint8)
    nothing = np.zeros((2, *blank.shape[:2]))
    legends = [draw_mask(blank, nothing[0]), draw_own_flow(blank, nothing, full, "m")]
    rows.append([np.maximum(legend, blank) for legend in legends])  # undo what is dimmed
    header = draw_header(2 * PANEL_WIDTH, title, figures)
    return np.concatenate([header, *(np.concatenate(row, axis=1) for row in rows)])


def _panel(name: str, panels: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    if name in panels:
        return captioned(name, panels[name])
    return captioned(f"{name}: unknown", np.full(shape, BACKGROUND, np.uint8))


def draw_curves(curves: Mapping[str, ThresholdCounts], share_moving: float) -> np.ndarray:
    """Draw precision over recall, a dot at the largest IoU of each.

    Args:
        curves: Counts by name; something moves.
        share_moving: Precision of a white mask.

    Returns:
        `H W 3`, uint8, RGB.
    """
    header = draw_header(_LEFT + _SIDE + 3 * _LINE, "precision over recall of moving pixels", "")
    canvas = np.full((_SIDE + _TOP + 3 * _LINE, header.shape[1], 3), BACKGROUND, np.uint8)
    legend = np.full((_LINE * (len(curves) + 2), header.shape[1], 3), BACKGROUND, np.uint8)
    for tick in np.linspace(0, 1, 6):
        (x, y), far = _place(tick, tick), _place(1, 1)
        cv2.line(canvas, (x, far[1]), (x, _place(0, 0)[1]), _RASTER, 1)
        cv2.line(canvas, (_LEFT, y), (far[0], y), _RASTER, 1)
        put_text(canvas, f"{tick:g}", x, _place(0, 0)[1] + 0.8 * _LINE, _LINE, FAINT, align=0.5)
        put_text(canvas, f"{tick:g}", _LEFT - 8, y, _LINE, FAINT, align=1)
    put_text(canvas, "recall", _LEFT + _SIDE / 2, canvas.shape[0] - _LINE, _LINE, TEXT, align=0.5)
    put_text(canvas, "precision", _LEFT, 0.7 * _LINE, _LINE, TEXT)
    white = _place(1, share_moving)
    cv2.line(canvas, _place(0, share_moving), white, FAINT, 1)
    put_text(canvas, "white mask", white[0], white[1] - 0.6 * _LINE, _LINE, FAINT, align=1)
    rows = zip(curves.items(), _COLOURS, strict=False)
    for row, ((name, counts), colour) in enumerate(rows):
        curve = counts.curve()
        points = [
            _place(r, p)
            for r, p in zip(curve["recall"], curve["precision"], strict=True)
            if r is not None and p is not None
        ]
        cv2.polylines(canvas, [np.array(points, np.int32)], False, colour, 2, cv2.LINE_AA)
        best = counts.best()
        assert best is not None, "something moves"
        precision, recall = best[1]["precision"], best[1]["recall"]
        if precision is not None and recall is not None:
            cv2.circle(canvas, _place(recall, precision), 5, colour, -1, cv2.LINE_AA)
        text = f"{name}   AP {counts.average_precision():.3f}   best IoU {best[1]['iou']:.3f}"
        put_text(legend, text, _LEFT, (row + 0.5) * _LINE, _LINE, colour)
    remark = "dots: best IoU of all thresholds, chosen with hindsight"
    put_text(legend, remark, _LEFT, (len(curves) + 0.7) * _LINE, _LINE, FAINT)
    return np.concatenate([header, canvas, legend])


def _place(recall: float, precision: float) -> tuple[int, int]:
    return _LEFT + round(_SIDE * recall), _TOP + round(_SIDE * (1 - precision))


def _over_ground(flow: Tensor | None, factor: float) -> np.ndarray | None:
    """Return motion to the right and ahead until the next frame, `2 H W`, m."""
    return None if flow is None else factor * flow[_NEXT][[0, 2]].numpy()


def _enlarged(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(values, size, interpolation=cv2.INTER_NEAREST)
