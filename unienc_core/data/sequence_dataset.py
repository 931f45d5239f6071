"""Sequences out of stores: consecutive frames of one drive, or their grids, with labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from unienc_core.class_tables import ClassTable
from unienc_core.contracts import SEQUENCE_GRIDS
from unienc_core.data.cast_shadows import SHADOW_DRAWS, cast_shadow, draw_shadow
from unienc_core.data.folds import Span
from unienc_core.data.grid_cache import GridCache
from unienc_core.data.sampler import uniforms
from unienc_core.data.store import Store
from unienc_core.data.stream_dataset import Item, StreamDataset
from unienc_core.data.transforms import (
    NUM_DRAWS,
    Augmentation,
    Size,
    flip_value,
    place_frame,
)
from unienc_core.errors import DataError, WiringError
from unienc_core.presets import StreamSpec


class SequenceDataset(StreamDataset):
    """Windows of N consecutive frames as one stream; see `StreamDataset`.

    A window lies within one drive, and within one of the spans. One whose last frame has no known
    label (NaN) is left out; earlier frames may lack it.

    Args:
        stores: One store or several.
        stream: Batch size, labels, augmentation, length and stride of the windows.
        image_size: (h, w) of the images; stores of other sizes are resized.
        seed: Seed of the run.
        train: Shuffled and augmented; otherwise in order and as stored.
        name: Name of the stream.
        classes: What the label ids mean.
        spans: The frames to take, drives counted through all stores in order; None for all.
        caches: Of each store the grids of its frames, which then stand for the images; with those
            of mirrored frames where the stream flips.

    Raises:
        DataError: If no store holds a window with all labels.
        WiringError: If frames of a cache were to be augmented but by mirroring, or mirrored without
            such grids, or a cache is of another store or size.
    """

    kind = "sequences"
    frame_keys = ("image",)

    def __init__(
        self,
        stores: Store | Sequence[Store],
        stream: StreamSpec,
        image_size: Size,
        *,
        seed: int,
        train: bool = True,
        name: str | None = None,
        classes: ClassTable | None = None,
        spans: Sequence[Span] | None = None,
        caches: Sequence[GridCache] = (),
    ) -> None:
        stores = [stores] if isinstance(stores, Store) else list(stores)
        self._spans = spans
        self._columns: dict[tuple[Path, int, str], np.ndarray] = {}
        self._caches = dict(zip((s.path for s in stores), caches, strict=True)) if caches else {}
        for store in stores if caches else ():
            _check_cache(self._caches[store.path], store, image_size, stream, train)
        super().__init__(
            stores, stream, image_size, seed=seed, train=train, name=name, classes=classes
        )

    def item(self, step: int, slot: int) -> Item:
        """Return the item at a place of the run.

        Args:
            step: Step of the run, from 0.
            slot: Place in the batch of all processes together.

        Returns:
            `sequence_images` `N 3 H W`, shadows of the stream on them, a jittered copy under
            `sequence_images_aug` when the stream jitters, or ``sequence_grids/<pyramid>`` `N C h w`
            float16 from a cache; and the labels asked for, `N` each, NaN where unknown.
        """
        store, drive, last = self.find(self._index(step, slot))
        first = last + 1 - self.stream.frames
        augmentation = self._augmentation(step, slot)
        if store.path in self._caches:
            cache = self._caches[store.path]
            if augmentation.flip:
                assert cache.flipped is not None  # else the stream was refused
                cache = cache.flipped
            grids = torch.from_numpy(cache.window(drive, first, self.stream.frames))
            item: Item = {SEQUENCE_GRIDS + cache.key.pyramid: grids}
        else:
            frames = frames_as_seen(
                store, drive, range(first, last + 1), self.image_size, augmentation
            )
            frames = self._shaded(frames, step, slot)
            names = ("sequence_images", "sequence_images_aug")
            item = dict(zip(names, self._images(frames, augmentation), strict=False))
        for name, label in self._labels.items():
            values = self._column(store, drive, label.key)[first : last + 1]
            if augmentation.flip:
                values = flip_value(values, store.keys[label.key].role, self.image_size[1])
            item[name] = torch.from_numpy(np.array(values)).to(label.dtype)
        return item

    def _shaded(self, frames: list[np.ndarray], step: int, slot: int) -> list[np.ndarray]:
        """Cast the shadows of the item at a place of the run, on each frame its own."""
        share = self.stream.augment.shadow
        if not self.train or share == 0:
            return frames
        count = NUM_DRAWS + len(frames) * SHADOW_DRAWS
        draws = uniforms(self.seed, self.name, step, slot, count)[NUM_DRAWS:]
        shadows = [draw_shadow(share, u) for u in draws.reshape(len(frames), SHADOW_DRAWS)]
        pairs = zip(frames, shadows, strict=True)
        return [frame if shadow is None else cast_shadow(frame, shadow) for frame, shadow in pairs]

    def _items_of(self, stores: Sequence[Store]) -> list[tuple[Store, np.ndarray]]:
        found: list[tuple[Store, np.ndarray]] = []
        before = 0
        for store in stores:
            if self._keys <= store.keys.keys():
                self._check_labels(store)
                found.append((store, self._windows(store, before)))
            before += len(store.drives)
        if not found:
            stores[0].require(sorted(self._keys))
        found = [(store, rows) for store, rows in found if len(rows)]
        if not found:
            what = ", ".join(self._labels) or "images"
            raise DataError(
                f"stream '{self.name}': {', '.join(str(s.path) for s in stores)} hold no "
                f"{self.stream.frames} consecutive frames with {what}; use longer drives, fewer "
                "folds, or shorter sequences"
            )
        return found

    def _windows(self, store: Store, before: int) -> np.ndarray:
        """List the windows of a store, `n 2`: drive and last frame."""
        count, stride = self.stream.frames, self.stream.stride
        spans = self._spans
        if spans is None:
            spans = [Span(before + n, 0, d.num_frames) for n, d in enumerate(store.drives)]
        parts = [np.empty((0, 2), np.int64)]
        for span in spans:
            drive = span.drive - before
            if 0 <= drive < len(store.drives):
                last = np.arange(span.start + count - 1, span.stop, stride, dtype=np.int64)
                last = last[self._known(store, drive)[last]]
                parts.append(np.stack((np.full_like(last, drive), last), axis=1))
        return np.concatenate(parts)

    def _known(self, store: Store, drive: int) -> np.ndarray:
        """Return at which frames of a drive all labels are known."""
        info = store.drives[drive]
        known = np.ones(info.num_frames, bool)
        for label in self._labels.values():
            if info.stats[label.key].valid < 1:
                known &= np.isfinite(self._column(store, drive, label.key))
        return known

    def _column(self, store: Store, drive: int, key: str) -> np.ndarray:
        """Read a label of a drive once: to open a file for some numbers costs more than a grid."""
        place = (store.path, drive, key)
        if place not in self._columns:
            self._columns[place] = store.column(drive, key)
        return self._columns[place]

    def _check_labels(self, store: Store) -> None:
        for name, label in self._labels.items():
            if store.keys[label.key].shape:
                raise WiringError(
                    f"streams.{self.name}.labels: '{name}' is no single number a frame, as labels "
                    "of sequences must be"
                )


def frames_as_seen(
    store: Store,
    drive: int,
    frames: Iterable[int],
    image_size: Size,
    augmentation: Augmentation = Augmentation(),  # noqa: B008 - it is frozen
) -> list[np.ndarray]:
    """Read images of a drive as a network sees them, `H W 3` uint8.

    Args:
        store: The store.
        drive: Number of the drive.
        frames: Which frames.
        image_size: (h, w).
        augmentation: Its flip; sequences are not zoomed, and colours are changed later.
    """
    old, keys = store.drives[drive].image_size, store.keys
    stored = (store.frame(drive, frame, ("image",)) for frame in frames)
    return [place_frame(frame, keys, old, image_size, augmentation)["image"] for frame in stored]


def _check_cache(
    cache: GridCache, store: Store, image_size: Size, stream: StreamSpec, train: bool
) -> None:
    if train and not stream.augment.flips_only:
        raise WiringError(
            "streams: grids of a cache cannot be augmented but by mirroring; set augment.jitter "
            "and augment.shadow to 0, or train without the cache"
        )
    if train and stream.augment.flip and cache.flipped is None:
        raise WiringError(
            f"{cache.path}: holds no grids of mirrored frames; make them too, or set augment.flip "
            "to 0"
        )
    wanted = (store.digest, tuple(image_size), False)
    if (cache.key.store, cache.key.image_size, cache.key.flipped) != wanted:
        height, width = image_size
        raise WiringError(
            f"{cache.path}: holds no grids of {store.path} at {height}x{width}; make them anew, or "
            "train without a cache"
        )
