"""Targets of mask prediction: the segments of a labelled frame that a task asks for.

As OneFormer makes them (Jain et al., section 3): every image is trained for one task, of which the
others' targets could be derived: `semantic` asks for one mask per class, `instance` for one per
object, `panoptic` for one per object and one per class of what has no objects. A crowd (pixels of a
class with instances that belong to no single object) and void belong to no target at all.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from unienc_core.class_tables import ClassTable
from unienc_core.classes import IGNORE_TRAIN_ID
from unienc_core.sentences import TASKS, Task

TASK_THRESHOLDS: Final = (0.33, 0.66)
"""A number below the first draws `semantic`, below the second `instance`, else `panoptic`."""

_NONE = -1
_ID_BITS = 32


def draw_task(u: float) -> Task:
    """Turn a uniform number in [0, 1) into a task."""
    return TASKS[sum(u >= threshold for threshold in TASK_THRESHOLDS)]


def mask_targets(
    task: Task, train_ids: np.ndarray, instance_ids: np.ndarray, classes: ClassTable
) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks that a task asks for, and their classes.

    Segments that resizing or cutting left without a pixel are not there to be seen, and so are
    none.

    Args:
        task: What is asked for.
        train_ids: `H W` uint8, 255 where void.
        instance_ids: `H W`, any integer type: label id x factor + number, or the label id alone.
        classes: The classes; the training ids are places in its `evaluated`.

    Returns:
        `N H W` bool and `N` int64, ascending by class, those of a class by instance id. No pixel is
        in two masks.
    """
    is_thing = np.zeros(IGNORE_TRAIN_ID + 1, bool)
    is_thing[[n for n, entry in enumerate(classes.evaluated) if entry.is_thing]] = True
    thing = is_thing[train_ids]
    is_crowd = thing & (instance_ids < classes.instance_factor)
    asked = (train_ids != IGNORE_TRAIN_ID) & ~is_crowd
    codes = train_ids.astype(np.int64) << _ID_BITS
    if task == "instance":
        asked &= thing
    if task != "semantic":
        codes |= np.where(thing, instance_ids, 0)
    return _split(np.where(asked, codes, _NONE))


def _split(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return one mask for each code of a map, in order, and the class in its highest bits.

    Segments are coherent, so that only the beginnings of runs of equal pixels are sorted.
    """
    flat = codes.reshape(-1)
    starts = np.flatnonzero(np.diff(flat, prepend=flat[0] - 1))
    found, places = np.unique(flat[starts], return_inverse=True)
    lengths = np.diff(starts, append=flat.size)
    numbers = np.repeat(places.astype(np.int32), lengths).reshape(codes.shape)
    kept = np.flatnonzero(found != _NONE)
    return numbers == kept.astype(np.int32)[:, None, None], found[kept] >> _ID_BITS
