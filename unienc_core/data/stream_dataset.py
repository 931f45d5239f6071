"""Streams of training items out of stores, one item at a time.

An item is a function of (seed, stream, step, slot) alone; see `sampler`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from unienc_core.class_tables import ClassTable, cityscapes_table
from unienc_core.data.labels import (
    MASK_LABELS,
    PAIR_LABELS,
    Label,
    check_labels,
    frame_label,
    needed_keys,
    to_label_tensor,
)
from unienc_core.data.sampler import item_index, uniforms
from unienc_core.data.store import Store
from unienc_core.data.transforms import (
    NUM_DRAWS,
    Augmentation,
    Size,
    draw_augmentation,
    jitter_images,
    place_frame,
    to_image_tensor,
)
from unienc_core.errors import UniencError, WiringError
from unienc_core.presets import StreamSpec

Item = dict[str, Tensor]
Place = tuple[Store, int, int]
"""A store, the number of a drive in it, and a frame of that."""


class StreamDataset(ABC, Dataset[Item | UniencError]):
    """Frames of one or more stores as one stream, in an order of its own.

    Args:
        stores: One store or several.
        stream: Batch size, labels and augmentation.
        image_size: (h, w) of the tensors; stores of other sizes are resized.
        seed: Seed of the run.
        train: Shuffled and augmented; otherwise in order and as stored.
        name: Name of the stream; it decides the order together with the seed.
        classes: What the label ids mean.

    Attributes:
        kind: The kind of streams that this is.
        frame_keys: Keys that an item is made from whatever labels are asked for.
        stores: Those that hold what the stream needs.

    Raises:
        DataError: If no store holds what the stream needs, or none has an item.
        UsageError: If there is no such label.
        WiringError: If the stream, or a label, is of another kind.
    """

    kind: ClassVar[str]
    frame_keys: ClassVar[tuple[str, ...]] = ("image", "K")

    def __init__(
        self,
        stores: Store | Sequence[Store],
        stream: StreamSpec,
        image_size: Size,
        *,
        seed: int = 0,
        train: bool = True,
        name: str | None = None,
        classes: ClassTable | None = None,
    ) -> None:
        self.name = self.kind if name is None else name
        if stream.kind != self.kind:
            raise WiringError(
                f"stream '{self.name}': of kind '{stream.kind}', expected '{self.kind}'"
            )
        check_labels(self.name, stream.kind, stream.labels)
        self.stream, self.image_size = stream, (int(image_size[0]), int(image_size[1]))
        self.seed, self.train, self.batch_size = seed, train, stream.batch_size
        self.classes = cityscapes_table() if classes is None else classes
        self._needs = {label: needed_keys(label) for label in stream.labels}
        made = PAIR_LABELS | MASK_LABELS
        self._labels = {name: frame_label(name) for name in stream.labels if name not in made}
        self._keys = set(self.frame_keys).union(*self._needs.values())
        found = self._items_of([stores] if isinstance(stores, Store) else list(stores))
        self.stores = [store for store, _ in found]
        self._rows = [rows for _, rows in found]
        self._ends = np.cumsum([len(rows) for rows in self._rows]).tolist()

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, place: tuple[int, int]) -> Item | UniencError:
        """Return the item, or the error it met: errors cross process borders as values."""
        try:
            return self.item(*place)
        except UniencError as error:
            return error

    @abstractmethod
    def item(self, step: int, slot: int) -> Item:
        """Return the item at a place of the run.

        Args:
            step: Step of the run, from 0.
            slot: Place in the batch of all processes together.
        """

    def describe(self, step: int, slot: int) -> str:
        """Name the item at a place of the run: store, drive and frame."""
        return self.item_name(self._index(step, slot))

    def item_name(self, index: int) -> str:
        """Name an item of all in their stored order."""
        store, drive, frame = self.find(index)
        return f"{store.path}/{store.drives[drive].name} frame {frame}"

    @abstractmethod
    def _items_of(self, stores: Sequence[Store]) -> list[tuple[Store, np.ndarray]]:
        """Return the stores that serve the stream, with their items `n 2`: drive and frame."""

    def _index(self, step: int, slot: int) -> int:
        if not self.train:
            return (step * self.batch_size + slot) % len(self)
        return item_index(self.seed, self.name, step, slot, self.batch_size, len(self))

    def _augmentation(self, step: int, slot: int) -> Augmentation:
        if not self.train:
            return Augmentation()
        draws = uniforms(self.seed, self.name, step, slot, NUM_DRAWS)
        return draw_augmentation(self.stream.augment, draws)

    def find(self, index: int) -> Place:
        """Return where an item of all in their stored order lies; of a sequence the last frame."""
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of stream '{self.name}', which has {len(self)}")
        which = bisect_right(self._ends, index)
        row = index - (self._ends[which - 1] if which else 0)
        drive, frame = (int(n) for n in self._rows[which][row])
        return self.stores[which], drive, frame

    def _placed(
        self, store: Store, drive: int, frame: Mapping[str, np.ndarray], augmentation: Augmentation
    ) -> dict[str, np.ndarray]:
        old = store.drives[drive].image_size
        return place_frame(frame, store.keys, old, self.image_size, augmentation)

    def _images(self, images: Sequence[np.ndarray], augmentation: Augmentation) -> list[Tensor]:
        """Return images as `N 3 H W`; and, where the stream jitters, as the network sees them."""
        plain = to_image_tensor(images)
        if not self.train or self.stream.augment.jitter == 0:
            return [plain]
        if augmentation.jitter is None:
            return [plain, plain]
        return [plain, to_image_tensor(jitter_images(images, augmentation.jitter))]

    def _label(self, store: Store, frame: Mapping[str, np.ndarray], label: Label) -> Tensor:
        return to_label_tensor(frame[label.key], label, store.keys[label.key], self.classes)


def intrinsics(frame: Mapping[str, np.ndarray]) -> Tensor:
    """Return K of a frame, `3 3`."""
    return torch.from_numpy(frame["K"]).to(torch.float32)
