"""Triplets out of stores: a target frame with those before and after it, intrinsics and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from unienc_core.data.labels import (
    COMPLETE_FLOW,
    OWN_MOTION,
    PAIR_LABELS,
    RELATIVE_POSE,
    Label,
    to_label_tensor,
)
from unienc_core.data.store import Store
from unienc_core.data.stream_dataset import Item, StreamDataset, intrinsics
from unienc_core.errors import DataError
from unienc_core.geometry.flow import rigid_flow
from unienc_core.geometry.se3 import compose, invert_T


class TripletDataset(StreamDataset):
    """Triplets of one or more stores as one stream; see `StreamDataset`.

    It is made of the stores that have triplets. A label that only some of them hold comes with
    ``valid_<label>``.
    """

    kind = "triplets"

    def item(self, step: int, slot: int) -> Item:
        """Return the item at a place of the run.

        Args:
            step: Step of the run, from 0.
            slot: Place in the batch of all processes together.

        Returns:
            `target_image` `3 H W`, `source_images` `S 3 H W` (previous, next), their
            `source_offsets` `S` in frames from the target, `K` `3 3`, jittered copies under
            ``*_aug`` when the stream jitters, the labels asked for, and ``valid_<label>`` for
            labels that only some of the stores have.
        """
        store, drive, target = self.find(self._index(step, slot))
        augmentation = self._augmentation(step, slot)
        wanted = self._keys & store.keys.keys()
        frame = store.frame(drive, target, wanted)
        moving = wanted & {"image", "T_world_camera"}
        sources = [store.frame(drive, target + step, moving) for step in (-store.gap, store.gap)]

        frames = [self._placed(store, drive, f, augmentation) for f in (frame, *sources)]
        item: Item = {}
        for images, suffix in zip(
            self._images([f["image"] for f in frames], augmentation), ("", "_aug"), strict=False
        ):
            item[f"target_image{suffix}"], item[f"source_images{suffix}"] = images[0], images[1:]
        item["K"] = intrinsics(frames[0])
        item["source_offsets"] = torch.tensor([-store.gap, store.gap])
        for name, label in self._labels.items():
            item[name] = self._label(store, frames[0], label)
        item.update(self._pair_labels(store, frames))
        for name in self._partial:
            item[f"valid_{name}"] = torch.tensor(self._has(store, name))
        return item

    def _items_of(self, stores: Sequence[Store]) -> list[tuple[Store, np.ndarray]]:
        usable = [store for store in stores if {"image", "K"} <= store.keys.keys()]
        for store in () if usable else stores:
            store.require(("image", "K"))
        found = [(store, store.triplets()) for store in usable]
        found = [(store, rows) for store, rows in found if len(rows)]
        if not found:
            raise DataError(
                f"stream '{self.name}': no triplet in {', '.join(str(s.path) for s in stores)}"
            )
        self._partial: set[str] = set()
        for label, keys in self._needs.items():
            holders = [self._has(store, label) for store, _ in found]
            if not any(holders):
                found[0][0].require(keys)
            if not all(holders):
                self._partial.add(label)
        return found

    def _has(self, store: Store, label: str) -> bool:
        return all(key in store.keys for key in self._needs[label])

    def _label(self, store: Store, frame: Mapping[str, np.ndarray], label: Label) -> Tensor:
        if label.key in frame:
            return super()._label(store, frame, label)
        holder = next(other for other in self.stores if label.key in other.keys)
        key = holder.keys[label.key]
        empty = np.full(key.frame_shape(self.image_size), key.invalid or 0, key.dtype)
        return to_label_tensor(empty, label, key, self.classes)

    def _pair_labels(self, store: Store, frames: Sequence[Mapping[str, np.ndarray]]) -> Item:
        asked = [name for name in PAIR_LABELS if name in self._needs]
        if not asked:
            return {}
        known = {name for name in asked if self._has(store, name)}
        num_sources = len(frames) - 1
        poses = torch.eye(4).repeat(num_sources, 1, 1)
        if known:
            poses = _relative_poses(frames)
        item: Item = {}
        if RELATIVE_POSE in asked:
            item[RELATIVE_POSE] = poses
        if COMPLETE_FLOW in known:
            item[COMPLETE_FLOW] = _complete_flow(frames[0], poses)
        elif COMPLETE_FLOW in asked:
            item[COMPLETE_FLOW] = torch.zeros(num_sources, 3, *self.image_size)
        return item


def _relative_poses(frames: Sequence[Mapping[str, np.ndarray]]) -> Tensor:
    """T_source_target `S 4 4` of the target, which comes first, to each source."""
    target, *sources = (torch.from_numpy(frame["T_world_camera"]) for frame in frames)
    T_world_source = torch.stack(sources)
    poses = compose(invert_T(T_world_source), target.expand_as(T_world_source))
    return poses.to(torch.float32)


def _complete_flow(target: Mapping[str, np.ndarray], T_source_target: Tensor) -> Tensor:
    """F_C = F_R + F_I `S 3 H W`: the camera's part from depth and pose, the actors' own as kept."""
    count = len(T_source_target)
    depth = torch.from_numpy(np.ascontiguousarray(target["depth"])).expand(count, 1, -1, -1)
    K = torch.from_numpy(target["K"]).to(depth.dtype).expand(count, -1, -1)
    own = torch.from_numpy(np.stack([target[key] for key in OWN_MOTION]))
    return (rigid_flow(depth, K, T_source_target) + own) * (depth > 0)
