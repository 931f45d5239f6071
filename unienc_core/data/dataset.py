"""Training items out of stores: a triplet of frames with its intrinsics and labels.

An item is a function of (seed, stream, step, slot) alone; see `sampler`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from unienc_core.data.labels import (
    COMPLETE_FLOW,
    OWN_MOTION,
    PAIR_LABELS,
    RELATIVE_POSE,
    Label,
    frame_label,
    needed_keys,
    to_label_tensor,
)
from unienc_core.data.manifest import Role
from unienc_core.data.sampler import item_index, uniforms
from unienc_core.data.store import Store
from unienc_core.data.transforms import (
    NUM_DRAWS,
    Augmentation,
    Size,
    draw_augmentation,
    flip_value,
    jitter_images,
    resize_value,
    to_image_tensor,
)
from unienc_core.errors import DataError, UniencError, WiringError
from unienc_core.geometry.flow import rigid_flow
from unienc_core.geometry.se3 import compose, invert_T
from unienc_core.presets import StreamSpec

NOT_AUGMENTED = Augmentation(flip=False, jitter=None)

Item = dict[str, Tensor]


class TripletDataset(Dataset[Item | UniencError]):
    """Triplets of one or more stores as one stream.

    Args:
        stores: One store or several.
        stream: Batch size, labels and augmentation.
        image_size: (h, w) of the tensors; stores of other sizes are resized.
        seed: Seed of the run.
        train: Shuffled and augmented; otherwise in order and as stored.
        name: Name of the stream; it decides the order together with the seed.

    Raises:
        DataError: If a store lacks images or intrinsics, no store has a label that is asked for,
            or there is no triplet.
    """

    def __init__(
        self,
        stores: Store | Sequence[Store],
        stream: StreamSpec,
        image_size: Size,
        *,
        seed: int = 0,
        train: bool = True,
        name: str = "triplets",
    ) -> None:
        if stream.kind != "triplets":
            raise WiringError(f"stream '{name}': kind '{stream.kind}' is not made of triplets")
        self.stores = [stores] if isinstance(stores, Store) else list(stores)
        self.stream, self.image_size = stream, (int(image_size[0]), int(image_size[1]))
        self.seed, self.train, self.name = seed, train, name
        self.batch_size = stream.batch_size
        self._needs = {label: needed_keys(label) for label in stream.labels}
        self._labels = {n: frame_label(n) for n in stream.labels if n not in PAIR_LABELS}
        self._keys = {"image", "K"}.union(*self._needs.values())
        self._partial = self._check_keys()
        self._triplets = [store.triplets() for store in self.stores]
        self._ends = np.cumsum([len(rows) for rows in self._triplets]).tolist()
        if not len(self):
            raise DataError(f"no triplet in {', '.join(str(s.path) for s in self.stores)}")

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

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
        if not self.train:
            return self._load((step * self.batch_size + slot) % len(self), NOT_AUGMENTED)
        index = item_index(self.seed, self.name, step, slot, self.batch_size, len(self))
        draws = uniforms(self.seed, self.name, step, slot, NUM_DRAWS)
        return self._load(index, draw_augmentation(self.stream.augment, draws))

    def __getitem__(self, place: tuple[int, int]) -> Item | UniencError:
        """Return the item, or the error it met: errors cross process borders as values."""
        try:
            return self.item(*place)
        except UniencError as error:
            return error

    def _check_keys(self) -> set[str]:
        """Check what the stores hold; return the labels that some of them lack."""
        for store in self.stores:
            store.require(("image", "K"))
        partial: set[str] = set()
        for label in self._needs:
            holders = [self._has(store, label) for store in self.stores]
            if not any(holders):
                self.stores[0].require(self._needs[label])
            if not all(holders):
                partial.add(label)
        return partial

    def _has(self, store: Store, label: str) -> bool:
        return all(key in store.keys for key in self._needs[label])

    def _load(self, index: int, augmentation: Augmentation) -> Item:
        which = bisect_right(self._ends, index)
        store = self.stores[which]
        row = index - (self._ends[which - 1] if which else 0)
        drive, target = (int(n) for n in self._triplets[which][row])
        wanted = self._keys & store.keys.keys()
        frame = store.frame(drive, target, wanted)
        moving = wanted & {"image", "T_world_camera"}
        sources = [store.frame(drive, target + step, moving) for step in (-store.gap, store.gap)]

        frames = self._prepared(store, drive, [frame, *sources], augmentation.flip)
        item = self._images([f["image"] for f in frames], augmentation)
        item["K"] = torch.from_numpy(frames[0]["K"]).to(torch.float32)
        item["source_offsets"] = torch.tensor([-store.gap, store.gap])
        for name, label in self._labels.items():
            item[name] = self._frame_label(store, frames[0], label)
        item.update(self._pair_labels(store, frames))
        for name in self._partial:
            item[f"valid_{name}"] = torch.tensor(self._has(store, name))
        return item

    def _prepared(
        self, store: Store, drive: int, frames: Sequence[Mapping[str, np.ndarray]], flip: bool
    ) -> list[dict[str, np.ndarray]]:
        """Resize, then flip, all values of all frames, each as its role demands."""
        old, new = store.drives[drive].image_size, self.image_size
        roles: dict[str, Role] = {name: key.role for name, key in store.keys.items()}
        resized = [{k: resize_value(v, roles[k], old, new) for k, v in f.items()} for f in frames]
        if not flip:
            return resized
        return [{k: flip_value(v, roles[k], new[1]) for k, v in f.items()} for f in resized]

    def _images(self, images: Sequence[np.ndarray], augmentation: Augmentation) -> Item:
        stacked = to_image_tensor(images)
        item = {"target_image": stacked[0], "source_images": stacked[1:]}
        if self.train and self.stream.augment.jitter > 0:
            if augmentation.jitter is not None:
                stacked = to_image_tensor(jitter_images(images, augmentation.jitter))
            item["target_image_aug"], item["source_images_aug"] = stacked[0], stacked[1:]
        return item

    def _frame_label(self, store: Store, frame: Mapping[str, np.ndarray], label: Label) -> Tensor:
        if label.key in frame:
            return to_label_tensor(frame[label.key], label, store.keys[label.key])
        holder = next(other for other in self.stores if label.key in other.keys)
        key = holder.keys[label.key]
        empty = np.full(key.frame_shape(self.image_size), key.invalid or 0, key.dtype)
        return to_label_tensor(empty, label, key)

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
