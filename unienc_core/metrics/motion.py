"""Metrics of scene motion, pooled over all pixels of a data set in float64 and constant memory.

End-point errors are mean lengths of the difference of two vectors, in space or on the image plane.
A motion mask is scored as Dynamo-Depth does: at many thresholds, over the pixels of all images
together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from unienc_core.metrics.scores import Score

MASK_THRESHOLDS = np.concatenate(
    [[0.0], np.geomspace(1e-6, 1 / 150, 60)[:-1], np.arange(1, 150) / 150]
)
"""Of the precision-recall curve of a probability: 150 evenly spaced, a half among them, and some
close to 0, so that a mask that is nearly black still shows whether it ranks pixels rightly."""

SCORE_THRESHOLDS = np.geomspace(1e-3, 1e3, 601)
"""Of the curve of any other score (a length in m or px, a ratio): 2.3% apart."""

SUBSETS = ("moving", "static")
"""Pixels that are scored apart."""

GROUPS = ("all", *SUBSETS)


def motion_labels(mask: np.ndarray, invalid: float | None) -> dict[str, np.ndarray]:
    """Return what a stored motion mask says of each pixel.

    Args:
        mask: 0 static, any other value moving.
        invalid: The value that means that nothing is known, if there is one: so sparse labels
            (of LiDAR points) and pixels to be ignored are stored.

    Returns:
        ``moving`` and ``static``, bool, of that shape.
    """
    known = np.ones(mask.shape, bool) if invalid is None else mask != invalid
    moving = known & (mask != 0)
    return {"moving": moving, "static": known & ~moving}


class EndPointErrors:
    """Mean error over all pixels, and over those of each subset."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = dict.fromkeys(GROUPS, 0.0)
        self._counts: dict[str, int] = dict.fromkeys(GROUPS, 0)

    def add(self, errors: np.ndarray, groups: Mapping[str, np.ndarray]) -> None:
        """Count the pixels of an image.

        Args:
            errors: `H W`.
            groups: Which pixels make up each of `GROUPS`, as far as it is known; `H W`, bool.
        """
        for name, chosen in groups.items():
            self._sums[name] += float(errors[chosen].sum(dtype=np.float64))
            self._counts[name] += int(np.count_nonzero(chosen))

    def result(self, name: str) -> dict[str, Score]:
        """Return ``<name>``, ``<name>_moving`` and ``<name>_static``; None where no pixel was."""
        return {
            metric: self._sums[group] / self._counts[group] if self._counts[group] else None
            for metric, group in zip(group_names(name), GROUPS, strict=True)
        }


def group_names(name: str) -> list[str]:
    """Return the names of a metric over each of `GROUPS`."""
    return [name, *(f"{name}_{subset}" for subset in SUBSETS)]


@dataclass
class ThresholdCounts:
    """How many static and moving pixels have a score above each of some thresholds.

    Attributes:
        thresholds: Ascending.
        moving: Pixels that move, by the number of thresholds that their score is above.
        static: Those that do not.
    """

    thresholds: np.ndarray = field(default_factory=lambda: MASK_THRESHOLDS)
    moving: np.ndarray = field(init=False)
    static: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        """Start with no pixel."""
        self.moving, self.static = np.zeros((2, len(self.thresholds) + 1), np.int64)

    def add(self, scores: np.ndarray, labels: Mapping[str, np.ndarray]) -> None:
        """Count the pixels of an image.

        Args:
            scores: `H W`, finite; the larger, the rather it moves.
            labels: ``moving`` and ``static``, `H W` bool, as `motion_labels` returns them.
        """
        for total, name in ((self.moving, "moving"), (self.static, "static")):
            above = np.searchsorted(self.thresholds, scores[labels[name]], side="left")
            total += np.bincount(above, minlength=len(total))

    def at(self, index: int) -> dict[str, Score]:
        """Return `mask_scores` where all above a threshold count as moving."""
        found, wrong = self.moving[index + 1 :].sum(), self.static[index + 1 :].sum()
        return mask_scores(int(found), int(wrong), int(self.moving[: index + 1].sum()))

    def over(self, threshold: float) -> dict[str, Score]:
        """Return the same of one of the thresholds."""
        return self.at(int(np.flatnonzero(self.thresholds == threshold)[0]))

    def best(self) -> tuple[float, dict[str, Score]] | None:
        """Return the threshold of the largest IoU, which is that of the largest F1, and its scores.

        None where nothing moves. It is chosen with hindsight, on the very pixels it is scored on.
        """
        if not self.moving.any():
            return None
        scores = [self.at(i) for i in range(len(self.thresholds))]
        index = int(np.argmax([one["iou"] or 0.0 for one in scores]))
        return float(self.thresholds[index]), scores[index]

    def average_precision(self) -> Score:
        """Return the sum of precision x step of recall, from the strictest threshold to none.

        None where nothing moves.
        """
        if not self.moving.any():
            return None
        found, wrong = (np.cumsum(counts[::-1]) for counts in (self.moving, self.static))
        steps = np.diff(found, prepend=0) / found[-1]
        taken = np.maximum(found + wrong, 1)
        return float((steps * found / taken).sum())

    def curve(self) -> dict[str, list[Score]]:
        """Return thresholds, precision and recall; None where there is no such share."""
        scores = [self.at(i) for i in range(len(self.thresholds))]
        return {
            "thresholds": [float(t) for t in self.thresholds],
            "precision": [one["precision"] for one in scores],
            "recall": [one["recall"] for one in scores],
        }


def mask_scores(found: int, wrong: int, missed: int) -> dict[str, Score]:
    """Return the scores of a mask.

    Args:
        found: Moving pixels said to move.
        wrong: Static pixels said to move.
        missed: Moving pixels said to be static.

    Returns:
        ``iou`` tp / (tp + fp + fn), ``precision``, ``recall`` and ``f1``; None for a share of
        nothing.
    """

    def share(part: float, whole: int) -> Score:
        return part / whole if whole else None

    return {
        "iou": share(found, found + wrong + missed),
        "precision": share(found, found + wrong),
        "recall": share(found, found + missed),
        "f1": share(2 * found, 2 * found + wrong + missed),
    }
