"""Pictures of the worst, median and best image of a depth evaluation, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

from unienc_core.device import resource_errors
from unienc_core.errors import UsageError
from unienc_core.files import check_writable, write_atomic
from unienc_core.inference.overlays import (
    BACKGROUND,
    FAINT,
    DepthRange,
    choose_range,
    depth_to_colour,
    draw_header,
    draw_legend,
    put_text,
    text_size,
)
from unienc_core.metrics.depth import ScoredPixels, score_pixels
from unienc_core.metrics.protocols import DepthProtocol
from unienc_core.workflows.depth_scoring import DepthScores
from unienc_core.workflows.depth_sources import DepthSample, DepthSource

PLOTS = ("worst", "median", "best")
PANEL_WIDTH = 640
GREATEST_ERROR = 0.5
"""Relative error at the red end of the scale."""

_UNKNOWN = (48, 49, 56)
_ERROR_COLOURS = (30, 245)  # of Turbo, without the dark blue that looks like `_UNKNOWN`
_SPARSE, _POINT_RADIUS = 0.3, 2.5


def check_plots(folder: Path, force: bool, names: Sequence[str] = PLOTS) -> None:
    """Check before the long work that the pictures of these names can be written.

    Raises:
        UsageError: If one exists and `force` is not set.
        ResourceError: If the folder cannot be written.
    """
    for path in plot_paths(folder, names).values():
        if path.exists() and not force:
            raise UsageError(f"{path} exists; give --force to replace it, or another folder")
    check_writable(folder)


def plot_paths(folder: Path, names: Sequence[str] = PLOTS) -> dict[str, Path]:
    """Return the file of each picture."""
    return {name: folder / f"{name}.png" for name in names}


def write_plot(path: Path, picture: np.ndarray) -> None:
    """Write a picture `H W 3` RGB as PNG; its folder is made if absent.

    Raises:
        ResourceError: If the disk is full or not writable.
    """
    with resource_errors(f"writing {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
        write_atomic(path, encoded.tobytes())


def draw_extremes(
    source: DepthSource,
    scores: DepthScores,
    protocol: DepthProtocol,
    folder: Path,
) -> list[Path]:
    """Draw the worst, median and best image by ``abs_rel`` and return the files written.

    Args:
        source: What was scored; the three images are read and predicted again.
        scores: What came out.
        protocol: As it was scored.
        folder: Where to write; made if absent.

    Raises:
        ResourceError: If the disk is full or not writable.
    """
    written: list[Path] = []
    chosen = scores.extremes()
    samples = source.samples(chosen.values())
    for (name, index), sample in zip(chosen.items(), samples, strict=True):
        factor = scores.factors[index]
        scored = score_pixels(sample.depth_gt, sample.depth, protocol, factor, sample.name)
        assert scored is not None, "it was scored before"
        title = f"{name} of {scores.model.num_images}: {sample.name}"
        path = plot_paths(folder)[name]
        write_plot(path, draw_sample(sample, scored, title))
        written.append(path)
    return written


def draw_sample(sample: DepthSample, scored: ScoredPixels, title: str) -> np.ndarray:
    """Draw image, prediction, ground truth and error of one image in a grid of two by two.

    Args:
        sample: The image.
        scored: Its scored pixels.
        title: For the header.

    Returns:
        `H W 3`, uint8, RGB.
    """
    depth_range = choose_range([np.where(scored.mask, sample.depth_gt, 0.0)])
    predicted = "prediction" if scored.factor == 1 else f"prediction x {scored.factor:.3g}"
    prediction = depth_to_colour(sample.depth * scored.factor, depth_range)
    if sample.image is None:
        top = [captioned(predicted, prediction)]
    else:
        image = cv2.resize(sample.image, sample.depth_gt.shape[::-1])
        top = [captioned("image", image), captioned(predicted, prediction)]
    bottom = [
        captioned("ground truth", _truth(sample.depth_gt, depth_range)),
        captioned("relative error of scored pixels", _error(scored)),
    ]
    if len(top) < len(bottom):
        top.append(np.full_like(top[0], BACKGROUND))
    legends = [draw_legend(PANEL_WIDTH, depth_range, "depth, m"), _error_legend(PANEL_WIDTH)]
    metrics = scored.metrics()
    figures = "   ".join(f"{name} {metrics[name]:.3f}" for name in ("abs_rel", "rmse", "a1"))
    header = draw_header(2 * PANEL_WIDTH, title, figures)
    rows = [np.concatenate(row, axis=1) for row in (top, bottom, legends)]
    return np.concatenate([header, *rows], axis=0)


def _truth(depth_gt: np.ndarray, depth_range: DepthRange) -> np.ndarray:
    known = depth_gt > 0
    colour = depth_to_colour(np.where(known, depth_gt, 0.0), depth_range)
    colour[~known] = _UNKNOWN
    return _thicken(colour, known)


def _error(scored: ScoredPixels) -> np.ndarray:
    picture = np.full((*scored.mask.shape, 3), _UNKNOWN, np.uint8)
    error = np.abs(scored.depth - scored.depth_gt) / scored.depth_gt
    picture[scored.mask] = _error_colour(error)
    return _thicken(picture, scored.mask)


def _error_colour(error: np.ndarray) -> np.ndarray:
    low, high = _ERROR_COLOURS
    index = np.round(low + np.clip(error / GREATEST_ERROR, 0, 1) * (high - low)).astype(np.uint8)
    colour = cv2.applyColorMap(index.reshape(-1, 1), cv2.COLORMAP_TURBO)
    return cv2.cvtColor(colour, cv2.COLOR_BGR2RGB).reshape(-1, 3)


def _thicken(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Give single pixels of sparse ground truth (LiDAR) a size that can be seen."""
    if known.mean() > _SPARSE:
        return picture
    distance, nearest = cast(Any, distance_transform_edt(~known, return_indices=True))
    return np.where(distance[..., None] <= _POINT_RADIUS, picture[tuple(nearest)], picture)


def captioned(caption: str, picture: np.ndarray, width: int = PANEL_WIDTH) -> np.ndarray:
    """Bring a picture to a width and write a caption above it.

    Args:
        caption: The text.
        picture: `h w 3`, uint8, RGB.
        width: Of the result, px.
    """
    size = (width, max(1, round(picture.shape[0] * width / picture.shape[1])))
    how = cv2.INTER_AREA if picture.shape[1] > width else cv2.INTER_NEAREST
    line = text_size(width)
    strip = np.full((round(1.3 * line), width, 3), BACKGROUND, np.uint8)
    put_text(strip, caption, 0.5 * line, strip.shape[0] / 2, line, FAINT)
    return np.concatenate([strip, cv2.resize(picture, size, interpolation=how)], axis=0)


def _error_legend(width: int) -> np.ndarray:
    line = text_size(width)
    strip = np.full((round(2.2 * line), width, 3), BACKGROUND, np.uint8)
    taken = put_text(strip, "error", 0.5 * line, 1.1 * line, line)
    x0, x1 = round(taken + 1.5 * line), round(width - line)
    bar = _error_colour(np.linspace(0, GREATEST_ERROR, x1 - x0))
    strip[round(0.4 * line) : round(1.0 * line), x0:x1] = bar
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        label = f"{100 * share * GREATEST_ERROR:.3g}%" + ("+" if share == 1 else "")
        put_text(strip, label, x0 + share * (x1 - x0), 1.62 * line, 0.9 * line, FAINT, align=0.5)
    return strip
