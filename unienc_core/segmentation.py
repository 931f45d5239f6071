"""What a segmentation of one picture is, predicted or true, in the ids of its class table.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

VOID = 0
"""Segment id of the pixels that belong to no segment."""


@dataclass(frozen=True)
class Segment:
    """One segment of a panoptic picture.

    Attributes:
        id: Value of its pixels in `panoptic_ids`.
        category_id: Label id of its class.
        is_crowd: Whether it is a group of objects that nobody told apart (ground truth only).
        area: Its size as recorded, px.
    """

    id: int
    category_id: int
    is_crowd: bool = False
    area: int = 0


@dataclass(frozen=True)
class Instance:
    """One predicted object. Objects may overlap.

    Attributes:
        label_id: Label id of its class.
        score: Confidence; more is surer.
        mask: `H W` bool.
        id: Of the object along a clip; 0 where nobody follows it.
    """

    label_id: int
    score: float
    mask: np.ndarray
    id: int = 0


@dataclass(frozen=True)
class Segmentation:
    """What a network says of one picture; a task that was not asked for is None.

    Attributes:
        panoptic_ids: `H W` int32, segment ids, `VOID` where there is none.
        segments: What the ids mean.
        label_ids: `H W` uint8, the label id of each pixel.
        instances: Objects, in any order.
    """

    panoptic_ids: np.ndarray | None = None
    segments: tuple[Segment, ...] | None = None
    label_ids: np.ndarray | None = None
    instances: tuple[Instance, ...] | None = None
