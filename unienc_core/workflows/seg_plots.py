"""Pictures of a segmentation evaluation as PNG: the confusion matrix, and the worst pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from unienc_core.class_tables import ClassTable
from unienc_core.data.resample import resize_map
from unienc_core.inference.overlays import BACKGROUND, draw_header, put_text
from unienc_core.inference.seg_overlays import (
    draw_class_legend,
    draw_instances,
    draw_panoptic,
    draw_semantic,
    panoptic_to_colour,
    semantic_to_colour,
)
from unienc_core.metrics.panoptic_quality import instance_segments
from unienc_core.segmentation import Instance
from unienc_core.workflows.depth_plots import captioned, plot_paths, write_plot
from unienc_core.workflows.seg_confusion import count_confusion, draw_confusion
from unienc_core.workflows.seg_samples import (
    METRICS,
    Prediction,
    ScoredImage,
    SegSample,
    Task,
    total_scores,
)
from unienc_core.workflows.seg_sources import SegSource
from unienc_core.workflows.seg_verdicts import VERDICTS, judge_pixels

PLOTS = ("confusion", "worst")
WORST = 3
"""So many of the worst pictures are drawn."""

PANEL_WIDTH = 480
_LINE = 26


def draw_plots(
    source: SegSource, images: Sequence[ScoredImage], task: Task, table: ClassTable, folder: Path
) -> list[Path]:
    """Draw what went wrong, and return the files written.

    Args:
        source: What was scored; the worst pictures are read, or predicted, again.
        images: What came out, panoptic with confusion.
        task: What was scored.
        table: The classes.
        folder: Where to write; made if absent.

    Raises:
        ResourceError: If the disk is full or not writable.
    """
    paths = plot_paths(folder, PLOTS)
    number = f"{len(images)} image{'' if len(images) == 1 else 's'}"
    confusion = count_confusion(images, task, table)
    write_plot(paths["confusion"], draw_confusion(confusion, f"{task}, {number}"))
    metric, ranked = METRICS[task][0], rank_images(images, task, table)
    rows = []
    for index, score in ranked[:WORST]:
        sample = source.sample(index)
        rows.append(draw_sample(sample, task, table, f"{sample.name}   {metric} {score:.3f}"))
    if not rows:
        return [paths["confusion"]]
    width = max(row.shape[1] for row in rows)
    header = draw_header(width, f"worst {len(rows)} of {number} by {metric}", task)
    present = {entry.id for entry in table.evaluated if entry.name in confusion.present}
    legends = [
        draw_class_legend(table, present, width),
        draw_class_legend(VERDICTS[task], {entry.id for entry in VERDICTS[task].classes}, width),
    ]
    padded = [
        cv2.copyMakeBorder(
            row, 0, 0, 0, width - row.shape[1], cv2.BORDER_CONSTANT, value=BACKGROUND
        )
        for row in rows
    ]
    write_plot(paths["worst"], np.concatenate([header, *padded, *legends]))
    return list(paths.values())


def rank_images(
    images: Sequence[ScoredImage], task: Task, table: ClassTable
) -> list[tuple[int, float]]:
    """Return position and score of the pictures that have one by themselves, worst first."""
    metric = METRICS[task][0]
    scores = [total_scores([image.counts], task, table).metrics[metric] for image in images]
    known = [(index, score) for index, score in enumerate(scores) if score is not None]
    return sorted(known, key=lambda pair: (pair[1], pair[0]))


def draw_sample(sample: SegSample, task: Task, table: ClassTable, title: str) -> np.ndarray:
    """Draw image, ground truth, prediction and errors of one picture side by side.

    Args:
        sample: The picture.
        task: What was scored.
        table: The classes.
        title: Written above.

    Returns:
        `H W 3`, uint8, RGB; without the image where it is not known.
    """
    prediction = replace(sample.prediction, instances=list(sample.prediction.instances))
    sample = replace(sample, prediction=prediction)
    verdicts = judge_pixels(sample, task, table)
    height, width = verdicts.shape
    size = (max(1, round(height * PANEL_WIDTH / width)), PANEL_WIDTH)
    panels: dict[str, np.ndarray] = {}
    canvas = np.zeros((*size, 3), np.uint8)
    if sample.image is not None:
        canvas = cv2.resize(sample.image, size[::-1], interpolation=cv2.INTER_AREA)
        panels["image"] = canvas
    panels["ground truth"] = _draw(_truth_as_prediction(sample, task, table), task, table, canvas)
    panels["prediction"] = _draw(prediction, task, table, canvas)
    panels["errors"] = semantic_to_colour(resize_map(verdicts, size), VERDICTS[task].palette)
    row = [captioned(name, picture, PANEL_WIDTH) for name, picture in panels.items()]
    joined = np.concatenate(row, axis=1)
    strip = np.full((round(1.6 * _LINE), joined.shape[1], 3), BACKGROUND, np.uint8)
    put_text(strip, title, 0.4 * _LINE, 0.9 * _LINE, _LINE)
    return np.concatenate([strip, joined])


def _truth_as_prediction(sample: SegSample, task: Task, table: ClassTable) -> Prediction:
    """Return what a perfect prediction would be; ignored classes are void."""
    truth = sample.truth
    if task == "semantic":
        return Prediction(truth.where, label_ids=truth.label_ids)
    if task == "panoptic":
        scored = [s for s in truth.segments if not table.by_id[s.category_id].ignored]
        return Prediction(truth.where, truth.ids, scored)
    ids = truth.ids
    assert ids is not None
    return Prediction(
        truth.where,
        instances=[
            Instance(segment.category_id, 1.0, ids == segment.id)
            for segment in instance_segments(ids, table, truth.where)
            if table.by_id[segment.category_id].is_thing and not segment.is_crowd
        ],
    )


def _draw(found: Prediction, task: Task, table: ClassTable, canvas: np.ndarray) -> np.ndarray:
    """Draw a prediction over a canvas, of which it takes the size; on a black one in full."""
    size = (canvas.shape[0], canvas.shape[1])
    if task == "instance":
        instances = [
            replace(one, mask=resize_map(one.mask.astype(np.uint8), size) > 0)
            for one in found.instances
        ]
        return draw_instances(canvas, instances, table)
    if task == "semantic":
        assert found.label_ids is not None
        label_ids = resize_map(found.label_ids, size)
        if not canvas.any():
            return semantic_to_colour(label_ids, table.palette)
        return draw_semantic(canvas, label_ids, table)
    assert found.ids is not None
    ids = resize_map(found.ids, size)
    if not canvas.any():
        canvas = panoptic_to_colour(ids, found.segments, table)
    return draw_panoptic(canvas, ids, found.segments, table)
