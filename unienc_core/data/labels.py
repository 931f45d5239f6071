"""What a batch calls the keys of a store, and the tensors they become."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from unienc_core.classes import id_to_train_id
from unienc_core.data.keys import LABEL_ID
from unienc_core.data.manifest import KeySpec
from unienc_core.errors import UsageError, nearest


@dataclass(frozen=True)
class Label:
    """A batch key made from one store key of the target frame.

    Attributes:
        key: Name in the store.
        dtype: Of the tensor.
        channel: Whether a map gets a channel axis in front (`1 H W`).
        train_ids: Whether the classes of a map become training ids.
    """

    key: str
    dtype: torch.dtype = torch.float32
    channel: bool = False
    train_ids: bool = False


FRAME_LABELS: dict[str, Label] = {
    "depth_gt": Label("depth", channel=True),
    "motion_mask_gt": Label("motion_mask", channel=True),
    "semantic_labels": Label("semantic", torch.int64, train_ids=True),
    "instance_ids": Label("instance", torch.int64),
    "speed": Label("speed"),
    "curvature": Label("curvature"),
    "timestamp": Label("timestamp", torch.float64),
    "T_world_camera": Label("T_world_camera", torch.float64),
}

RELATIVE_POSE = "T_source_target_gt"
"""`S 4 4`, X_source = T_source_target @ X_target."""

COMPLETE_FLOW = "complete_flow_gt"
"""`S 3 H W`, m: X_source - X_target, each point in its own camera's frame; 0 without depth."""

OWN_MOTION = ("independent_flow_prev", "independent_flow_next")

PAIR_LABELS: dict[str, tuple[str, ...]] = {
    RELATIVE_POSE: ("T_world_camera",),
    COMPLETE_FLOW: ("T_world_camera", "depth", *OWN_MOTION),
}
"""Labels of (source, target) pairs, and the store keys they are made from."""


def frame_label(name: str) -> Label:
    """Return how a label of one frame is made.

    Raises:
        UsageError: If there is no such label, naming the nearest one.
    """
    if name not in FRAME_LABELS:
        known = [*FRAME_LABELS, *PAIR_LABELS]
        raise UsageError(
            f"no label '{name}'{nearest(name, known)}; labels are {', '.join(sorted(known))}"
        )
    return FRAME_LABELS[name]


def needed_keys(name: str) -> tuple[str, ...]:
    """Return the store keys that a label is made from.

    Raises:
        UsageError: If there is no such label.
    """
    return PAIR_LABELS[name] if name in PAIR_LABELS else (frame_label(name).key,)


def to_label_tensor(value: np.ndarray, label: Label, key: KeySpec) -> torch.Tensor:
    """Turn a store value into the tensor of its label, with memory of its own."""
    if label.train_ids and key.unit == LABEL_ID:
        value = id_to_train_id()[value]
    tensor = torch.from_numpy(np.array(value, order="C")).to(label.dtype)
    return tensor.unsqueeze(0) if label.channel else tensor
