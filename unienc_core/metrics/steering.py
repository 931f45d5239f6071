"""Errors of steering, and what every predictor must be held against: nothing, the mean, the past.

Values are in the label's unit, errors in it or its square. NaN is a value that is not known, or a
prediction that cannot be made; neither is scored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def steering_errors(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float | None]:
    """Return the mean squared and the mean absolute error; None where nothing can be scored.

    Args:
        predicted: `n`.
        truth: `n`.
    """
    errors = np.asarray(predicted, np.float64) - np.asarray(truth, np.float64)
    errors = errors[np.isfinite(errors)]
    if not errors.size:
        return {"steering_mse": None, "steering_mae": None}
    return {
        "steering_mse": float(np.square(errors).mean()),
        "steering_mae": float(np.abs(errors).mean()),
    }


def zero_baseline(truth: np.ndarray) -> np.ndarray:
    """Return what is predicted by driving straight on, `n`."""
    return np.zeros(len(truth))


def mean_baseline(truth: np.ndarray, training_labels: Sequence[np.ndarray]) -> np.ndarray:
    """Return what is predicted by the mean of the labels of training, `n`; NaN without any.

    Args:
        truth: `n` labels to predict.
        training_labels: All that is trained on.
    """
    labels = np.concatenate([np.empty(0), *(np.asarray(x, np.float64) for x in training_labels)])
    known = labels[np.isfinite(labels)]
    return np.full(len(truth), known.mean() if known.size else np.nan)


def persistence(labels: np.ndarray, frames: int) -> np.ndarray:
    """Return for each frame of a drive the label some frames before, NaN where there is none.

    Args:
        labels: `n`, of consecutive frames.
        frames: How far back, at least 1.
    """
    predicted = np.full(len(labels), np.nan)
    predicted[frames:] = labels[: max(0, len(labels) - frames)]
    return predicted


def persistence_after(labels: np.ndarray, times: np.ndarray, seconds: float) -> np.ndarray:
    """Return for each frame of a drive the newest label that is old enough, NaN without one.

    Args:
        labels: `n`, of consecutive frames.
        times: `n`, s, ascending.
        seconds: How old, more than 0.
    """
    # Half a millisecond for clocks that are rounded: 0.5 s before 1.0 s is the frame at 0.5 s.
    place = np.searchsorted(times, times - seconds + 5e-4, side="right") - 1
    return np.where(place >= 0, np.asarray(labels, np.float64)[place], np.nan)


def fold_statistics(values: Sequence[float]) -> dict[str, float | None]:
    """Return what a table says of one figure over folds.

    Args:
        values: One of each fold, at least one.

    Returns:
        ``mean``, ``std`` (over n, ddof=0), ``std1`` (over n - 1; None of one fold), ``median``.
    """
    found = np.asarray(values, np.float64)
    return {
        "mean": float(found.mean()),
        "std": float(found.std()),
        "std1": float(found.std(ddof=1)) if found.size > 1 else None,
        "median": float(np.median(found)),
    }


def sign_test(differences: Sequence[float]) -> dict[str, float | int]:
    """Return in how many pairs the first is smaller, and how likely chance does as well.

    Args:
        differences: First less second of each pair; ties count nothing.

    Returns:
        ``lower``, ``higher`` and ``p``, two-sided: of so lopsided a division by a fair coin.
    """
    lower = sum(d < 0 for d in differences)
    higher = sum(d > 0 for d in differences)
    n = lower + higher
    tail = sum(math.comb(n, k) for k in range(max(lower, higher), n + 1)) / 2**n
    return {"lower": lower, "higher": higher, "p": min(1.0, 2 * tail)}
