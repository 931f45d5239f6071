"""The same id for the same object along a clip, by overlap from frame to frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from unienc_core.class_tables import ClassTable
from unienc_core.inference.segmenting import segment_id
from unienc_core.segmentation import Segment, Segmentation

MIN_IOU = 0.1
"""Two segments of neighbouring frames are one object from this overlap on. (Small and thin objects
move by their own width; on a true synthetic drive 0.3 loses three quarters more objects, and
hands on hardly fewer ids to others.)"""

_MOST_COLUMNS = 640  # masks are thinned to it: overlaps need no more


class SegmentTracker:
    """Renames the things of each frame after those of the frame before.

    Panoptic segments and instances are followed apart, each by ids of their own; stuff keeps its
    label id. An id is used again only once all numbers of its class were given.

    Args:
        table: The classes.
    """

    def __init__(self, table: ClassTable) -> None:
        self._table = table
        self._panoptic, self._instances = _Tracks(table), _Tracks(table)

    def reset(self) -> None:
        """Forget the frame before: a new scene begins, with new ids."""
        self._panoptic.forget()
        self._instances.forget()

    def update(self, found: Segmentation) -> Segmentation:
        """Take the next frame and return it with lasting ids."""
        return self._follow_instances(self._follow_segments(found))

    def _follow_segments(self, found: Segmentation) -> Segmentation:
        if found.panoptic_ids is None or found.segments is None:
            return found
        things = [s for s in found.segments if self._table.by_id[s.category_id].is_thing]
        thin = _thinned(found.panoptic_ids)
        masks = [thin == segment.id for segment in things]
        ids = self._panoptic.follow([segment.category_id for segment in things], masks)
        renamed = dict(zip((segment.id for segment in things), ids, strict=True))
        return replace(
            found,
            panoptic_ids=_rename(found.panoptic_ids, found.segments, renamed),
            segments=tuple(replace(s, id=renamed.get(s.id, s.id)) for s in found.segments),
        )

    def _follow_instances(self, found: Segmentation) -> Segmentation:
        if found.instances is None:
            return found
        masks = [_thinned(one.mask) for one in found.instances]
        ids = self._instances.follow([one.label_id for one in found.instances], masks)
        named = zip(found.instances, ids, strict=True)
        return replace(found, instances=tuple(replace(one, id=new) for one, new in named))


class _Tracks:
    """The objects of the newest frame, and the numbers given so far."""

    def __init__(self, table: ClassTable) -> None:
        self._table = table
        self._given: Counter[int] = Counter()
        self.forget()

    def forget(self) -> None:
        self._ids: list[int] = []
        self._labels = np.empty(0, np.int64)
        self._masks = np.empty((0, 0), np.float32)

    def follow(self, labels: Sequence[int], masks: Sequence[np.ndarray]) -> list[int]:
        """Return the ids of a frame's objects: those of the objects that they overlap, or new ones.

        The pairs of one class with the largest IoU are joined first.
        """
        ids, kinds = [0] * len(labels), np.array(labels, np.int64)
        rows = np.array([mask.reshape(-1) for mask in masks], np.float32)
        taken: set[int] = set()
        for before, now in self._pairs(kinds, rows):
            if not ids[now] and before not in taken:
                ids[now] = self._ids[before]
                taken.add(before)
        for place, label in enumerate(labels):
            ids[place] = ids[place] or self._new_id(label, ids)
        self._ids, self._labels, self._masks = ids, kinds, rows
        return ids

    def _pairs(self, labels: np.ndarray, masks: np.ndarray) -> list[list[int]]:
        """Return all pairs (before, now) that may be one object, the most alike first."""
        if not len(self._ids) or not len(labels) or self._masks.shape[1] != masks.shape[1]:
            return []
        shared = self._masks @ masks.T
        either = self._masks.sum(1)[:, None] + masks.sum(1)[None] - shared
        iou = np.where(self._labels[:, None] == labels, shared / np.maximum(either, 1), 0)
        pairs = np.argwhere(iou >= MIN_IOU)
        return pairs[np.argsort(-iou[pairs[:, 0], pairs[:, 1]], kind="stable")].tolist()

    def _new_id(self, label: int, in_use: Sequence[int]) -> int:
        while True:
            number = self._given[label] % self._table.instance_factor
            self._given[label] += 1
            new = segment_id(label, number, self._table)
            if new not in in_use:
                return new


def _thinned(values: np.ndarray) -> np.ndarray:
    step = -(-values.shape[1] // _MOST_COLUMNS)
    return values[step // 2 :: step, step // 2 :: step]


def _rename(ids: np.ndarray, segments: Sequence[Segment], renamed: dict[int, int]) -> np.ndarray:
    if all(old == new for old, new in renamed.items()):
        return ids
    known = np.array(sorted([0, *(segment.id for segment in segments)]), np.int64)
    names = np.array([renamed.get(old, old) for old in known.tolist()], ids.dtype)
    return names[np.searchsorted(known, ids)]
