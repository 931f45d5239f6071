"""What the segmentation metrics return, and how a mean over classes treats those that are absent.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Absent = Literal["skip", "zero"]
"""A class that is neither in the ground truth nor predicted: left out of means (Cityscapes), or
counted as 0 (NYU)."""

Score = float | None
"""A fraction, or None where nothing could be scored."""


@dataclass(frozen=True)
class Scores:
    """Scores of one segmentation task.

    Attributes:
        metrics: By name, over all classes.
        per_class: By class name, then by metric name.
    """

    metrics: dict[str, Score]
    per_class: dict[str, dict[str, Score]]


def mean_score(scores: Iterable[Score]) -> Score:
    """Return the mean of those that are not None; None if there are none."""
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else None
