"""How many pixels each combination of values has, over maps of the same picture.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import math

import numpy as np

from unienc_core.errors import DataError

_MAX_KEY = np.iinfo(np.int64).max


def joint_areas(*maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count the pixels of each combination of values that occurs.

    Segments are coherent, so that only the ends of runs of equal pixels are looked at, and sorted:
    about a hundredth of all pixels. The result is exact for any maps, noise included.

    Args:
        *maps: `H W` each, of any integer type, at least one.

    Returns:
        The combinations, `M N` int64 for `N` maps, sorted by the first map's value, then the
        second's and so on; and how many pixels have each, `M` int64.
    """
    pixels = [np.ascontiguousarray(values).reshape(-1) for values in maps]
    if not pixels[0].size:
        return np.empty((0, len(maps)), np.int64), np.empty(0, np.int64)
    changes = pixels[0][1:] != pixels[0][:-1]
    for values in pixels[1:]:
        changes |= values[1:] != values[:-1]
    ends = np.append(np.flatnonzero(changes), pixels[0].size - 1)
    lengths = np.diff(ends, prepend=-1)
    columns = np.stack([values[ends].astype(np.int64) for values in pixels])
    combinations, which = _distinct(columns)
    # Sums of whole numbers below 2^53 are exact in float64.
    return combinations, np.bincount(which, lengths).astype(np.int64)


def check_same_size(predicted: np.ndarray, true: np.ndarray, where: str, true_where: str) -> None:
    """Check that a prediction is as large as its ground truth.

    Raises:
        DataError: If not, with both sizes.
    """
    if predicted.shape != true.shape:
        found, expected = ("x".join(map(str, a.shape)) for a in (predicted, true))
        raise DataError(f"{where}: a picture of {found}, expected {expected} as {true_where}")


def _distinct(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct columns of `N R`, sorted, `M N`; and which of them each one is, `R`."""
    lowest = columns.min(axis=1)
    highest = columns.max(axis=1)
    spans = [int(high) - int(low) + 1 for low, high in zip(lowest, highest, strict=True)]
    if math.prod(spans) > _MAX_KEY:
        combinations, which = np.unique(columns.T, axis=0, return_inverse=True)
        return combinations, which.reshape(-1)
    keys = np.ravel_multi_index(tuple(columns - lowest[:, None]), spans)
    distinct, which = np.unique(keys, return_inverse=True)
    return np.stack(np.unravel_index(distinct, spans), axis=1) + lowest, which
