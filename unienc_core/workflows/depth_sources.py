"""Where evaluated depth comes from: a store through a network, or two folders of maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from unienc_core.data.store import Store
from unienc_core.errors import IntegrityError
from unienc_core.inference.predictor import Predictor
from unienc_core.metrics.depth import Kind, to_depth
from unienc_core.workflows.depth_files import pair_files, read_map

NEEDED_KEYS = ("image", "depth")
CAMERA_HEIGHT = 1.5
"""Height above the ground in m where a store does not say: that of most cars."""


@dataclass
class DepthSample:
    """One image to score.

    Attributes:
        name: File or frame.
        depth_gt: `H W`, m, 0 where unknown.
        depth: `H W`, the prediction at that size, m or a multiple.
        predicted_size: Height and width at which the prediction was made.
        image: `H W 3`, uint8 RGB, where known.
        K: `3 3`, px, of the ground truth's size, where known.
        moving: `H W`, bool, pixels of moving actors, where known.
        camera_height: Above the ground, m.
    """

    name: str
    depth_gt: np.ndarray
    depth: np.ndarray
    predicted_size: tuple[int, int]
    image: np.ndarray | None = None
    K: np.ndarray | None = None
    moving: np.ndarray | None = None
    camera_height: float = CAMERA_HEIGHT


class DepthSource(Protocol):
    """Images to score, in any order, held one at a time."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def samples(self, indices: Iterable[int]) -> Iterator[DepthSample]:
        """Yield the images at `indices`, in that order."""
        ...


class FolderSource:
    """Predictions of anyone as files, next to ground truth of the same names."""

    def __init__(self, predictions: Path, ground_truth: Path, kind: Kind) -> None:
        self._pairs = pair_files(predictions, ground_truth)
        self._kind: Kind = kind

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self._pairs)

    def samples(self, indices: Iterable[int]) -> Iterator[DepthSample]:
        """Yield the pairs at `indices`."""
        for i in indices:
            name, prediction, truth = self._pairs[i]
            depth_gt, values = read_map(truth), read_map(prediction)
            size = (depth_gt.shape[0], depth_gt.shape[1])
            depth = to_depth(values, self._kind, size, str(prediction))
            yield DepthSample(name, depth_gt, depth, (values.shape[0], values.shape[1]))


class StoreSource:
    """The frames of a store, predicted by a network one at a time.

    Args:
        store: Holds `image` and `depth`; `K` and `motion_mask` are used where it has them.
        predictor: The network.

    Raises:
        DataError: If the store lacks images or depth.
    """

    def __init__(self, store: Store, predictor: Predictor) -> None:
        store.require(NEEDED_KEYS)
        self._store, self._predictor = store, predictor
        self._keys = [*NEEDED_KEYS, *(key for key in ("K", "motion_mask") if key in store.keys)]
        self._frames = list_frames(store)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._frames)

    def samples(self, indices: Iterable[int]) -> Iterator[DepthSample]:
        """Yield the frames at `indices`."""
        for i in indices:
            drive, index = self._frames[i]
            info = self._store.drives[drive]
            name = f"{info.name}/{index}"
            record = self._store.frame(drive, index, self._keys)
            try:
                output = self._predictor.predict(record["image"])
            except IntegrityError as error:
                raise IntegrityError(f"{name}: {error}") from None
            sample = DepthSample(
                name,
                record["depth"],
                output.depth_at(info.image_size),
                self._predictor.preset.image_size,
                record["image"],
                record.get("K"),
            )
            height = info.attrs.get("camera_height")
            if isinstance(height, float):
                sample.camera_height = height
            if "motion_mask" in record:
                sample.moving = record["motion_mask"] > 0
            yield sample


def list_frames(store: Store) -> list[tuple[int, int]]:
    """Return drive and index of every frame of a store."""
    return [(i, n) for i, drive in enumerate(store.drives) for n in range(drive.num_frames)]
