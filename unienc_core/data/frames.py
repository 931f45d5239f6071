"""All frames of a store in order, for evaluation and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unienc_core.data.dataset import prepare_value
from unienc_core.data.labels import frame_label, to_label_tensor
from unienc_core.data.store import Store
from unienc_core.data.transforms import Size, to_image_tensor


@dataclass(frozen=True)
class StoreFrame:
    """One frame.

    Attributes:
        drive: Position of its drive in the store.
        index: Place in the drive.
        name: "<drive>/<index>", unique in the store.
        image: `3 H W`, 0..1, at the size asked for.
        K: `3 3`, px, of `image`; None where the store has none.
        labels: Batch key to tensor, at the size of the store: ground truth is not resampled.
    """

    drive: int
    index: int
    name: str
    image: Tensor
    K: Tensor | None
    labels: dict[str, Tensor]


class FrameDataset:
    """The frames of a store, drive by drive.

    Args:
        store: The store.
        labels: Batch keys (`depth_gt`, `motion_mask_gt`, ...) to read with each image.
        image_size: (h, w) of the images; None for their own.

    Raises:
        DataError: If the store lacks one of them.
    """

    def __init__(
        self, store: Store, labels: Sequence[str] = (), image_size: Size | None = None
    ) -> None:
        self.store, self.image_size = store, image_size
        self._labels = {name: frame_label(name) for name in labels}
        store.require(["image", *(label.key for label in self._labels.values())])
        self._places = [
            (drive, index)
            for drive, info in enumerate(store.drives)
            for index in range(info.num_frames)
        ]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, position: int) -> StoreFrame:
        """Read a frame.

        Raises:
            DataError: If it cannot be decoded, naming it.
        """
        drive, index = self._places[position]
        store, info = self.store, self.store.drives[drive]
        size = self.image_size or info.image_size
        keys = {"image", *(label.key for label in self._labels.values())}
        has_K = "K" in store.keys
        frame = store.frame(drive, index, keys | {"K"} if has_K else keys)
        image = prepare_value(store, drive, "image", frame["image"], size, flip=False)
        K = prepare_value(store, drive, "K", frame["K"], size, flip=False) if has_K else None
        return StoreFrame(
            drive=drive,
            index=index,
            name=f"{info.name}/{index:06d}",
            image=to_image_tensor([image])[0],
            K=None if K is None else torch.from_numpy(K).to(torch.float32),
            labels={
                name: to_label_tensor(frame[label.key], label, store.keys[label.key])
                for name, label in self._labels.items()
            },
        )


def iterate_frames(
    store: Store, labels: Sequence[str] = (), image_size: Size | None = None
) -> Iterator[StoreFrame]:
    """Yield every frame of a store in order; see `FrameDataset`."""
    frames = FrameDataset(store, labels, image_size)
    for position in range(len(frames)):
        yield frames[position]
