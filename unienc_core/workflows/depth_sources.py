"""Where evaluated depth comes from: a store through a network, or two folders of maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from unienc_core.data.store import Store
from unienc_core.errors import DataError, IntegrityError
from unienc_core.inference.drive_source import recorded_height
from unienc_core.inference.predictor import EncodedFrame, Predictor
from unienc_core.metrics.depth import Kind, to_depth
from unienc_core.metrics.motion import motion_labels
from unienc_core.metrics.protocols import DepthProtocol
from unienc_core.workflows.depth_files import pair_files, read_map
from unienc_core.workflows.intrinsics import CameraRequest, given_K

NEEDED_KEYS = ("image", "depth")

UNKNOWN_CAMERA = CameraRequest()


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
        motion: ``moving`` and ``static``, `H W` bool, where known.
        camera_height: Above the ground, m, as the data records it.
        place: Drive and frame in the store it comes from.
        encoded: What the network keeps of it for pairs of frames.
    """

    name: str
    depth_gt: np.ndarray
    depth: np.ndarray
    predicted_size: tuple[int, int]
    image: np.ndarray | None = None
    K: np.ndarray | None = None
    motion: dict[str, np.ndarray] | None = None
    camera_height: float | None = None
    place: tuple[int, int] | None = None
    encoded: EncodedFrame | None = None


class DepthSource(Protocol):
    """Images to score, in any order, held one at a time."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def samples(self, indices: Iterable[int]) -> Iterator[DepthSample]:
        """Yield the images at `indices`, in that order."""
        ...


class FolderSource:
    """Predictions of anyone as files, next to ground truth of the same names.

    Args:
        predictions: Folder of depth or disparity maps.
        ground_truth: Folder of depth maps in m.
        kind: What the predictions hold.
        camera: What the user said of it, for maps of the ground truth's size.
        protocol: What part of whole pictures is cut off; None for nothing.

    Attributes:
        trimmed: How many maps that was done to: ``ground_truth``, ``predictions``.
    """

    def __init__(
        self,
        predictions: Path,
        ground_truth: Path,
        kind: Kind,
        camera: CameraRequest = UNKNOWN_CAMERA,
        protocol: DepthProtocol | None = None,
    ) -> None:
        self._pairs = pair_files(predictions, ground_truth)
        self._kind: Kind = kind
        self._camera, self._protocol = camera, protocol
        self._trimmed: set[int] = set()
        self.trimmed = {"ground_truth": 0, "predictions": 0}

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self._pairs)

    def samples(self, indices: Iterable[int]) -> Iterator[DepthSample]:
        """Yield the pairs at `indices`."""
        for i in indices:
            name, prediction, truth = self._pairs[i]
            depth_gt, values = read_map(truth), read_map(prediction)
            depth_gt, values = self._trim(i, depth_gt, values)
            size = (depth_gt.shape[0], depth_gt.shape[1])
            depth = to_depth(values, self._kind, size, str(prediction))
            predicted_size = (values.shape[0], values.shape[1])
            K = given_K(self._camera, truth, size)
            yield DepthSample(name, depth_gt, depth, predicted_size, K=K)

    def _trim(
        self, index: int, depth_gt: np.ndarray, values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cut both maps of a pair as the protocol says.

        Ground truth that is cut already says that the prediction beside it is, too: its aspect
        alone does not, since networks see the part that is kept at any size.
        """
        protocol = self._protocol
        if protocol is None or not protocol.is_whole(*depth_gt.shape):
            return depth_gt, values
        if index not in self._trimmed:  # some are read twice
            self._trimmed.add(index)
            self.trimmed["ground_truth"] += 1
            self.trimmed["predictions"] += protocol.is_whole(*values.shape)
        return protocol.trim(depth_gt), protocol.trim(values)


class StoreSource:
    """The frames of a store, predicted by a network one at a time.

    Args:
        store: Holds `image` and `depth`; `K` and `motion_mask` are used where it has them.
        predictor: The network.
        camera: What the user said of it, for a store without `K`.

    Raises:
        DataError: If the store lacks images or depth.
    """

    def __init__(
        self, store: Store, predictor: Predictor, camera: CameraRequest = UNKNOWN_CAMERA
    ) -> None:
        store.require(NEEDED_KEYS)
        self._store, self._predictor, self._camera = store, predictor, camera
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
                encoded = self._predictor.encode(record["image"])
                output = self._predictor.decode(encoded)
            except IntegrityError as error:
                raise IntegrityError(f"{name}: {error}") from None
            sample = DepthSample(
                name,
                record["depth"],
                output.depth_at(info.image_size),
                self._predictor.preset.image_size,
                record["image"],
                record.get("K", given_K(self._camera, self._store.path, info.image_size)),
                place=(drive, index),
                encoded=encoded,
            )
            sample.camera_height = recorded_height(info)
            if "motion_mask" in record:
                invalid = self._store.keys["motion_mask"].invalid
                sample.motion = motion_labels(record["motion_mask"], invalid)
            yield sample


def list_frames(store: Store) -> list[tuple[int, int]]:
    """Return drive and index of every frame of a store."""
    return [(i, n) for i, drive in enumerate(store.drives) for n in range(drive.num_frames)]


def check_pictures(store: Store, protocol: DepthProtocol) -> None:
    """Check that a store has the part of the pictures that a protocol is about.

    Raises:
        DataError: If it has whole pictures where the protocol scores their upper part, or another
            part of Cityscapes' pictures.
    """
    if protocol.picture is None:
        return
    found, cut = store.manifest["config"].get("crop"), protocol.picture[1]
    if store.manifest["source"] == "cityscapes" and found != cut:
        raise DataError(
            f"{store.path}: made with --crop {found}, but protocol {protocol.name} is about "
            f"pictures without their lower {cut:g}; prepare the store with --crop {cut:g}"
        )
    for drive in store.drives:
        if protocol.is_whole(*drive.image_size):
            height, width = drive.image_size
            raise DataError(
                f"{store.path}: drive {drive.name} holds whole pictures ({height}x{width}), but "
                f"protocol {protocol.name} is about their upper part; prepare the store with --crop"
            )
