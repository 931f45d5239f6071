"""What a batch calls the keys of a store, and the tensors they become."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from unienc_core.class_tables import ClassTable
from unienc_core.classes import IGNORE_TRAIN_ID
from unienc_core.data.keys import LABEL_ID
from unienc_core.data.manifest import KeySpec
from unienc_core.data.steering import STEERING_KINDS, kind_of
from unienc_core.errors import UsageError, WiringError, nearest


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

_MEASURED = "_gt"

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

TASK, TARGET_MASKS, TARGET_CLASSES = "task", "target_masks", "target_classes"

MASK_LABELS: dict[str, tuple[str, ...]] = {
    TASK: (),
    TARGET_MASKS: ("semantic", "instance"),
    TARGET_CLASSES: ("semantic", "instance"),
}
"""Labels that the task of an item decides, and the store keys they are made from."""

RAGGED = (TARGET_MASKS, TARGET_CLASSES)
"""Labels whose length differs between items: a batch holds a list of them, one each."""

KIND_LABELS = {"triplets": PAIR_LABELS, "labels": MASK_LABELS}
"""Labels that only one kind of streams can have."""


def check_labels(name: str, kind: str, labels: Iterable[str]) -> None:
    """Check that there are such labels, and that a stream of this kind can have them.

    Raises:
        UsageError: If there is no such label, naming the nearest one.
        WiringError: If a label belongs to streams of another kind.
    """
    for label in labels:
        needed_keys(label)
        for other, own in KIND_LABELS.items():
            if label in own and kind != other:
                raise WiringError(
                    f"streams.{name}.labels: '{label}' is for streams of kind {other}, this one "
                    f"is of kind {kind}"
                )


def measured(key: str) -> str:
    """Return what a batch calls a steering label: what a head predicts bears the label's name."""
    return f"{key}{_MEASURED}"


def frame_label(name: str) -> Label:
    """Return how a label of one frame is made; those of steering go by either name.

    Raises:
        UsageError: If there is no such label, naming the nearest one.
    """
    key = name.removesuffix(_MEASURED)
    if name not in FRAME_LABELS and kind_of(key):
        return Label(key)
    if name not in FRAME_LABELS:
        known = [*FRAME_LABELS, *map(measured, STEERING_KINDS), *PAIR_LABELS, *MASK_LABELS]
        raise UsageError(
            f"no label '{name}'{nearest(name, known)}; labels are {', '.join(sorted(known))}"
        )
    return FRAME_LABELS[name]


def needed_keys(name: str) -> tuple[str, ...]:
    """Return the store keys that a label is made from.

    Raises:
        UsageError: If there is no such label.
    """
    made = PAIR_LABELS | MASK_LABELS
    return made[name] if name in made else (frame_label(name).key,)


def to_train_ids(value: np.ndarray, key: KeySpec, classes: ClassTable) -> np.ndarray:
    """Turn a map of classes into training ids, 255 where no class of the table is, uint8."""
    if key.unit == LABEL_ID:
        return classes.train_ids[value]
    return np.where(value < len(classes.evaluated), value, IGNORE_TRAIN_ID).astype(np.uint8)


def to_label_tensor(
    value: np.ndarray, label: Label, key: KeySpec, classes: ClassTable
) -> torch.Tensor:
    """Turn a store value into the tensor of its label, with memory of its own."""
    if label.train_ids:
        value = to_train_ids(value, key, classes)
    tensor = torch.from_numpy(np.array(value, order="C")).to(label.dtype)
    return tensor.unsqueeze(0) if label.channel else tensor
