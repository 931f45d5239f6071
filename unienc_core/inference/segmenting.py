"""From the queries of a network to segmentations in the label ids of its classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from unienc_core.class_tables import ClassTable
from unienc_core.postprocess.segments import (
    OBJECT_THRESHOLD,
    PanopticSegment,
    Size,
    find_instances,
    panoptic_map,
    semantic_map,
)
from unienc_core.segmentation import Instance, Segment, Segmentation
from unienc_core.sentences import Task


def segment_pixels(
    class_logits: Tensor,
    mask_logits: Tensor,
    tasks: Sequence[Task],
    input_size: Size,
    size: Size,
    table: ClassTable,
    instance_threshold: float = 0.0,
) -> Segmentation:
    """Decide what each pixel of a picture shows.

    Args:
        class_logits: `T Q K_cls+1`, for each task; class i is the i-th evaluated one.
        mask_logits: `T Q h w`.
        tasks: What the network was asked for.
        input_size: (height, width) of the network's input.
        size: (H, W) of the picture.
        table: The classes.
        instance_threshold: Objects of less probable classes are left out; see `find_instances`.

    Returns:
        The tasks asked for. A panoptic segment is called as in `segment_id`, things of a class
        counted from 0.
    """
    labels = [entry.id for entry in table.evaluated]
    things = [place for place, entry in enumerate(table.evaluated) if entry.is_thing]
    made: dict[str, object] = {}
    for task, classes, masks in zip(tasks, class_logits, mask_logits, strict=True):
        if task == "semantic":
            places = semantic_map(classes, masks, input_size, size)
            made["label_ids"] = _look_up(labels, places, torch.uint8)
        elif task == "panoptic":
            places, found = panoptic_map(classes, masks, input_size, size, things)
            made["segments"] = segments = _named(found, table)
            ids = [0, *(segment.id for segment in segments)]
            made["panoptic_ids"] = _look_up(ids, places, torch.int32)
        else:
            made["instances"] = tuple(
                Instance(labels[one.label], one.score, one.mask.cpu().numpy())
                for one in find_instances(
                    classes, masks, input_size, size, things, object_threshold=instance_threshold
                )
            )
    return Segmentation(**made)  # pyright: ignore[reportArgumentType]


def segment_id(label_id: int, number: int | None, table: ClassTable) -> int:
    """Return the id of a segment as Cityscapes has it.

    Args:
        label_id: Its class.
        number: Of a thing among those of its class; None for stuff.
        table: The classes.

    Returns:
        ``label_id * instance_factor + number`` (`ClassTable.first_id`), or the label id of stuff.
    """
    if number is None and label_id > 0:
        return label_id
    return table.first_id(label_id) + (number or 0)


def _named(found: Sequence[PanopticSegment], table: ClassTable) -> tuple[Segment, ...]:
    seen: Counter[int] = Counter()
    segments: list[Segment] = []
    for one in found:
        entry = table.evaluated[one.label]
        number = seen[entry.id] if entry.is_thing else None
        seen[entry.id] += 1
        segments.append(Segment(segment_id(entry.id, number, table), entry.id, area=one.area))
    return tuple(segments)


def _look_up(values: Sequence[int], places: Tensor, dtype: torch.dtype) -> np.ndarray:
    return torch.tensor(values, dtype=dtype, device=places.device)[places].cpu().numpy()


INSTANCES_TO_SHOW = OBJECT_THRESHOLD
"""From which probability of its class on an object is shown to people; benchmarks rank them all."""
