"""Labelled frames out of stores: single images with their labels, and the targets of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from unienc_core.contracts import IGNORE_INDEX
from unienc_core.data.labels import RAGGED, TARGET_CLASSES, TARGET_MASKS, TASK, to_train_ids
from unienc_core.data.mask_targets import draw_task, mask_targets
from unienc_core.data.sampler import uniforms
from unienc_core.data.store import Store
from unienc_core.data.stream_dataset import Item, StreamDataset, intrinsics
from unienc_core.data.transforms import NUM_DRAWS
from unienc_core.errors import DataError
from unienc_core.sentences import TASKS, Task

_LOOKED_AT = 8
"""Frames of a store, at most, in which a known class is sought."""


class LabelDataset(StreamDataset):
    """Labelled frames of one or more stores as one stream; see `StreamDataset`.

    It is made of the stores that hold all of its labels. A store says which labels its frames have,
    all of them; a drive of which nothing is known in any pixel is left out all the same, since
    unlabelled is not empty.
    """

    kind = "labels"

    def item(self, step: int, slot: int) -> Item:
        """Return the item at a place of the run.

        Args:
            step: Step of the run, from 0.
            slot: Place in the batch of all processes together.

        Returns:
            `image` `3 H W`, a jittered copy under `image_aug` when the stream jitters, `K` `3 3`,
            and the labels asked for: those of the frame, `task` (its place in `TASKS`),
            `target_masks` `N H W` bool and `target_classes` `N` training ids, ascending.
        """
        store, drive, number = self.find(self._index(step, slot))
        augmentation = self._augmentation(step, slot)
        stored = store.frame(drive, number, self._keys)
        frame = self._placed(store, drive, stored, augmentation)
        images = self._images([frame["image"]], augmentation)
        item = {key: image[0] for key, image in zip(("image", "image_aug"), images, strict=False)}
        item["K"] = intrinsics(frame)
        for name, label in self._labels.items():
            item[name] = self._label(store, frame, label)
        made = self._targets(self._task(step, slot), store, frame)
        return item | {name: value for name, value in made.items() if name in self._needs}

    def _task(self, step: int, slot: int) -> Task:
        if self.stream.tasks == "in_turn":
            return TASKS[(step * self.batch_size + slot) % len(TASKS)]
        return draw_task(uniforms(self.seed, self.name, step, slot, NUM_DRAWS + 1)[-1])

    def _targets(self, task: Task, store: Store, frame: Mapping[str, np.ndarray]) -> Item:
        made = {TASK: torch.tensor(TASKS.index(task))}
        if not self._needs.keys() & set(RAGGED):
            return made
        train_ids = to_train_ids(frame["semantic"], store.keys["semantic"], self.classes)
        masks, classes = mask_targets(task, train_ids, frame["instance"], self.classes)
        return made | {
            TARGET_MASKS: torch.from_numpy(masks),
            TARGET_CLASSES: torch.from_numpy(classes),
        }

    def _items_of(self, stores: Sequence[Store]) -> list[tuple[Store, np.ndarray]]:
        lacks = {store.path: sorted(self._keys - store.keys.keys()) for store in stores}
        found = [(s, self._labelled_frames(s)) for s in stores if not lacks[s.path]]
        found = [(store, rows) for store, rows in found if len(rows)]
        if found:
            self._check_classes(found)
            return found
        reasons = (
            f"{path} lacks {', '.join(keys)}" if keys else f"{path} has no labelled frame"
            for path, keys in lacks.items()
        )
        raise DataError(
            f"stream '{self.name}' needs a store with {', '.join(sorted(self._keys))}: "
            f"{'; '.join(reasons)}"
        )

    def _check_classes(self, found: Sequence[tuple[Store, np.ndarray]]) -> None:
        """Refuse stores in which the class table knows nothing: they would teach just that."""
        if "semantic" not in self._keys:
            return
        for store, rows in found:
            seen: set[int] = set()
            for drive, number in rows[:: -(-len(rows) // _LOOKED_AT)]:
                label_ids = store.frame(int(drive), int(number), ("semantic",))["semantic"]
                seen.update(np.unique(label_ids).tolist())
                train_ids = to_train_ids(label_ids, store.keys["semantic"], self.classes)
                if (train_ids != IGNORE_INDEX).any():
                    break
            else:
                some = ", ".join(map(str, sorted(seen)[:8]))
                raise DataError(
                    f"{store.path}: holds the ids {some}, none of which is an evaluated class of "
                    f"'{self.classes.name}'; give the class_table of this store in the preset"
                )

    def _labelled_frames(self, store: Store) -> np.ndarray:
        parts = [np.empty((0, 2), np.int64)]
        for number, drive in enumerate(store.drives):
            if self._is_labelled(store, number):
                frames = np.arange(drive.num_frames, dtype=np.int64)
                parts.append(np.stack((np.full_like(frames, number), frames), axis=1))
        return np.concatenate(parts)

    def _is_labelled(self, store: Store, drive: int) -> bool:
        """Whether anything is known of a drive: of its classes, where the stream wants these."""
        stats = store.drives[drive].stats
        known = {
            key: stats[key].valid > 0
            for keys in self._needs.values()
            for key in keys
            if key in stats and store.keys[key].invalid is not None
        }
        return known.get("semantic", any(known.values()) or not known)
