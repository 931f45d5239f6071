"""Which classes were taken for which: counted, and drawn as a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np

from unienc_core.class_tables import ClassTable
from unienc_core.inference.overlays import (
    ACCENT,
    BACKGROUND,
    FAINT,
    TEXT,
    draw_header,
    put_text,
    text_width,
)
from unienc_core.metrics.instance_ap import MIN_AREA, ImageMatches
from unienc_core.metrics.semantic_iou import SemanticCounts
from unienc_core.workflows.seg_samples import ScoredImage, Task

MATCH_IOU = 0.5

_LINE = 22
_CELLS = 1000  # about so many px for all cells of a row
_SMALLEST, _LARGEST, _WRITTEN = 10, 56, 30
_EMPTY, _RIGHT, _WRONG = (34, 36, 43), (94, 190, 255), ACCENT


class Confusion(NamedTuple):
    """True by predicted class.

    Attributes:
        names: Of the rows and columns but the last one.
        counts: `n+1 n+1` int64, true class by predicted class.
        nothing: What the last row and column are.
        unit: What is counted.
    """

    names: tuple[str, ...]
    counts: np.ndarray
    nothing: str
    unit: str

    @property
    def present(self) -> tuple[str, ...]:
        """Names of the classes that are true or predicted anywhere."""
        occurs = (self.counts.sum(axis=0) + self.counts.sum(axis=1))[:-1] > 0
        return tuple(name for name, kept in zip(self.names, occurs, strict=True) if kept)


class Match(NamedTuple):
    """How the objects of one picture pair up, whatever their classes.

    Attributes:
        partner: Position of the prediction that found each true object, -1 where none did, `T`.
        is_false: Predictions that found none, and do not lie on what does not count, `P` bool.
        counted: True objects that count: single ones, large enough, `T` bool.
    """

    partner: np.ndarray
    is_false: np.ndarray
    counted: np.ndarray


def count_confusion(images: Sequence[ScoredImage], task: Task, table: ClassTable) -> Confusion:
    """Count pixels (objects, where the task is ``instance``) by true and predicted class.

    Args:
        images: Scored, panoptic ones with their confusion.
        task: What they were scored for.
        table: The classes.
    """
    names = tuple(entry.name for entry in table.evaluated)
    if task == "panoptic":
        blank = np.zeros((len(names) + 1, len(names) + 1), np.int64)
        counts = sum((i.confusion for i in images if i.confusion is not None), blank)
        return Confusion(names, counts, "void", "pixels")
    if task == "semantic":
        whole = sum(
            (cast(SemanticCounts, image.counts).confusion for image in images),
            SemanticCounts.zero(table).confusion,
        )
        return Confusion(names, _without_ignored(whole, table), "ignored", "pixels")
    found = [cast(ImageMatches, image.counts) for image in images]
    things = tuple(entry.name for entry in table.things)
    return Confusion(things, _object_counts(found, table), "nothing", "objects")


def match_objects(image: ImageMatches) -> Match:
    """Pair each true object with the surest prediction whose IoU with it exceeds `MATCH_IOU`."""
    small = image.true_areas < MIN_AREA
    counted = ~image.is_group & ~small
    union = image.areas[:, None] + image.true_areas - image.shared
    hits = image.shared / union > MATCH_IOU
    surest = np.where(hits, image.scores[:, None], -np.inf)
    partner = np.full(image.true_areas.size, -1)
    if image.areas.size:
        partner = np.where(hits.any(axis=0), surest.argmax(axis=0), -1)
    uncounted = image.void + image.shared[:, ~counted].sum(axis=1)
    is_false = (uncounted <= MATCH_IOU * image.areas) & ~hits[:, ~counted].any(axis=1)
    is_false[partner[counted & (partner >= 0)]] = False
    return Match(partner, is_false, counted)


def draw_confusion(confusion: Confusion, title: str) -> np.ndarray:
    """Draw a confusion matrix, each row in shares of the true class.

    Args:
        confusion: What was counted; classes that do not occur are left out.
        title: For the header.

    Returns:
        `H W 3`, uint8, RGB.
    """
    kept = _occurring(confusion)
    side = min(_LARGEST, max(_SMALLEST, _CELLS // len(kept.counts)))
    line = min(_LINE, side + 4)
    names = [*kept.names, kept.nothing]
    margin = round(max(text_width(name, line) for name in names) + line)
    inner = len(names) * side
    body = np.full((margin + inner + line, margin + inner + 5 * line, 3), BACKGROUND, np.uint8)
    upright = np.full((inner, margin, 3), BACKGROUND, np.uint8)
    totals = kept.counts.sum(axis=1)
    for row, name in enumerate(names):
        middle = (row + 0.5) * side
        put_text(upright, name, 0.5 * line, middle, line)
        put_text(body, name, margin - 0.5 * line, margin + middle, line, align=1)
        total = _short(int(totals[row]))
        put_text(body, total, margin + inner + 0.5 * line, margin + middle, line, FAINT)
    body[:margin, margin : margin + inner] = np.rot90(upright)
    shares = kept.counts / np.maximum(totals, 1)[:, None]
    for row, column in np.ndindex(*shares.shape):
        cell = body[margin + row * side :, margin + column * side :][:side, :side]
        _draw_cell(cell, float(shares[row, column]), row == column, line)
    legend = f"rows: true, with {kept.unit}; columns: predicted, % of the row"
    width = max(body.shape[1], text_width(legend, _LINE) + 2 * _LINE)
    foot = np.full((2 * _LINE, width, 3), BACKGROUND, np.uint8)
    put_text(foot, legend, width - _LINE, 0.7 * _LINE, _LINE, FAINT, align=1)
    beside = np.full((body.shape[0], width - body.shape[1], 3), BACKGROUND, np.uint8)
    body = np.concatenate([body, beside], axis=1)
    return np.concatenate([draw_header(width, title, ""), body, foot])


def _draw_cell(cell: np.ndarray, share: float, is_right: bool, line: float) -> None:
    side = cell.shape[0]
    full = _RIGHT if is_right else _WRONG
    colour = [round(b + share**0.5 * (f - b)) for b, f in zip(_EMPTY, full, strict=True)]
    cell[:-1, :-1] = colour  # the rest is the grid
    percent = f"{100 * share:.0f}"
    if side >= _WRITTEN and percent != "0":
        ink = BACKGROUND if share > 0.25 else TEXT
        put_text(cell, percent, side / 2, side / 2, line, ink, align=0.5)


def _occurring(confusion: Confusion) -> Confusion:
    """Leave out the classes that are neither true nor predicted anywhere."""
    names = confusion.present
    kept = [*(confusion.names.index(name) for name in names), len(confusion.names)]
    return confusion._replace(names=names, counts=confusion.counts[np.ix_(kept, kept)])


def _without_ignored(confusion: np.ndarray, table: ClassTable) -> np.ndarray:
    """Sum the ignored classes of a `K K` matrix into its last row and column, `E+1 E+1`."""
    num = len(table.evaluated)
    place = {entry.id: number for number, entry in enumerate(table.evaluated)}
    places = np.array([place.get(entry.id, num) for entry in table.classes])
    summed = np.zeros((num + 1, num + 1), np.int64)
    np.add.at(summed, (places[:, None], places[None]), confusion)
    return summed


def _object_counts(images: Sequence[ImageMatches], table: ClassTable) -> np.ndarray:
    """Count objects by true and predicted class; the last row and column are for no object."""
    num = len(table.things)
    place = np.zeros(max(entry.id for entry in table.classes) + 1, np.intp)
    place[[entry.id for entry in table.things]] = np.arange(num)
    counts = np.zeros((num + 1, num + 1), np.int64)
    for image in images:
        match = match_objects(image)
        true, found = place[image.true_labels], place[image.labels]
        columns = np.append(found, num)[match.partner]  # -1 is the last one
        np.add.at(counts, (true[match.counted], columns[match.counted]), 1)
        counts[num] += np.bincount(found[match.is_false], minlength=num + 1)
    return counts


def _short(count: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)
