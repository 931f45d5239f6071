"""What was seen in a frame of a clip, kept small: many frames wait between the stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from unienc_core.data.resample import resize_map
from unienc_core.segmentation import Instance, Segment, Segmentation


class SeenObject(NamedTuple):
    """An instance, its mask cut to where it lies.

    Attributes:
        id: Of the object along the clip.
        label_id: Label id of its class.
        score: Confidence.
        corner: Top and left of the mask, px.
        mask: `h w` bool.
    """

    id: int
    label_id: int
    score: float
    corner: tuple[int, int]
    mask: np.ndarray

    def full_mask(self, size: tuple[int, int]) -> np.ndarray:
        """Return the mask on a whole picture, `H W` bool."""
        (top, left), (height, width) = self.corner, self.mask.shape
        whole = np.zeros(size, bool)
        whole[top : top + height, left : left + width] = self.mask
        return whole


@dataclass(frozen=True)
class Seen:
    """The segmentations of a frame; what was not asked for is None.

    Attributes:
        size: (H, W).
        panoptic_ids: `H W` int32, ids that last along the clip.
        segments: What they mean.
        label_ids: `H W` uint8.
        objects: Instances, surest first, with ids of their own.
    """

    size: tuple[int, int]
    panoptic_ids: np.ndarray | None = None
    segments: tuple[Segment, ...] | None = None
    label_ids: np.ndarray | None = None
    objects: tuple[SeenObject, ...] | None = None

    @classmethod
    def of(cls, found: Segmentation, size: tuple[int, int]) -> Seen:
        """Keep a segmentation whose objects have ids."""
        objects = None if found.instances is None else tuple(map(_cut, found.instances))
        return cls(size, found.panoptic_ids, found.segments, found.label_ids, objects)

    def instances(self, size: tuple[int, int]) -> tuple[Instance, ...]:
        """Return the objects with masks of whole pictures of a size."""
        return tuple(
            Instance(one.label_id, one.score, _resize(one.full_mask(self.size), size), one.id)
            for one in self.objects or ()
        )

    def maps(self, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """Return all there is as maps of a size: ``panoptic``, ``instance``, ``semantic``."""
        maps = {"panoptic": self.panoptic_ids, "semantic": self.label_ids}
        if self.objects is not None:
            maps["instance"] = self.instance_ids()
        return {name: _resize(m, size) for name, m in maps.items() if m is not None}

    def instance_ids(self) -> np.ndarray:
        """Return which object each pixel shows, the surest one: `H W` int32, 0 for none."""
        ids = np.zeros(self.size, np.int32)
        for one in reversed(self.objects or ()):
            (top, left), (height, width) = one.corner, one.mask.shape
            ids[top : top + height, left : left + width][one.mask] = one.id
        return ids


def _resize(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return values if values.shape == size else resize_map(values, size)


def _cut(one: Instance) -> SeenObject:
    left, top, width, height = cv2.boundingRect(one.mask.view(np.uint8))
    mask = one.mask[top : top + height, left : left + width].copy()
    return SeenObject(one.id, one.label_id, one.score, (top, left), mask)
