"""What a network says of one frame alone."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

import numpy as np
import torch
from torch import Tensor

from unienc_core.class_tables import ClassTable
from unienc_core.device import resource_errors
from unienc_core.inference.neighbours import EncodedFrame, check_finite
from unienc_core.inference.segmenting import segment_pixels
from unienc_core.models.network import Network
from unienc_core.segmentation import Segmentation
from unienc_core.sentences import TASKS, Task


def decode_single(
    network: Network,
    frame: EncodedFrame,
    outputs: Collection[str],
    classes: ClassTable,
    instance_threshold: float,
) -> tuple[np.ndarray | None, Segmentation]:
    """Run the heads that see one frame, as far as somebody wants what they make.

    Args:
        network: In evaluation mode.
        frame: The frame.
        outputs: What is wanted.
        classes: What label ids mean.
        instance_threshold: Objects of less probable classes are left out; see `find_instances`.

    Returns:
        Disparity `h w`, or None if depth is not wanted; the segmentation tasks that are.

    Raises:
        IntegrityError: If the network's answer is not finite.
        ResourceError: If memory runs out.
    """
    tasks: list[Task] = [task for task in TASKS if task in outputs]
    keys = ("disparity",) if "depth" in outputs else ()
    keys += ("class_logits", "mask_logits") if tasks else ()
    if not keys:
        return None, Segmentation()
    with resource_errors("inference"), torch.inference_mode():
        image = frame.image
        numbers = torch.tensor([[TASKS.index(task) for task in tasks]], device=image.device)
        made = network.decode_frame(frame.pyramids, image, {"task": numbers}, keys)
        values = [cast(Tensor, made[key])[0].float() for key in keys]
        check_finite(*values)
        disparity = values.pop(0)[0].cpu().numpy() if "depth" in outputs else None
        if not tasks:
            return disparity, Segmentation()
        seen = (image.shape[2], image.shape[3])
        class_logits, mask_logits = values
        return disparity, segment_pixels(
            class_logits, mask_logits, tasks, seen, frame.size, classes, instance_threshold
        )
