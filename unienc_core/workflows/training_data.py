"""The batches of a training run: the streams of its preset over opened stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unienc_core.contracts import Batch
from unienc_core.data.dataset import TripletDataset
from unienc_core.data.folds import Span
from unienc_core.data.grid_cache import GridCache
from unienc_core.data.label_dataset import LabelDataset
from unienc_core.data.loader import StepLoader
from unienc_core.data.sequence_dataset import SequenceDataset
from unienc_core.data.store import Store, resolve_store
from unienc_core.data.stream_dataset import StreamDataset
from unienc_core.errors import DataError
from unienc_core.geometry.camera import resize_K
from unienc_core.machine import available_cores
from unienc_core.presets import Preset
from unienc_core.training.distributed import World

DATASETS: dict[str, type[StreamDataset]] = {
    dataset.kind: dataset for dataset in (TripletDataset, LabelDataset, SequenceDataset)
}


class TrainingData:
    """The streams of a preset over opened stores, each over those that hold what it needs.

    Args:
        preset: Its streams, image size and steps.
        stores: Folders of stores.
        seed: Seed of the run.
        workers: Processes that load, shared out among the streams.
        world: The processes that share each batch.
        pin_memory: Keep batches where a CUDA device fetches them fastest.
        spans: The frames that sequences are taken from, drives counted through all stores in order;
            None for all.
        caches: Of each store the grids of its frames, which then stand for those of sequences.

    Attributes:
        stores: All of them, opened.
        digests: SHA-256 of each store's manifest.
        K: Mean intrinsics of all drives that a stream uses, `3 3`, at the preset's image size; None
            where no store knows them.
        datasets: The stream of each name.

    Raises:
        DataError: If a store is missing or damaged, or none holds what a stream asks for.
        UsageError: If a batch does not divide among the processes.
    """

    def __init__(
        self,
        preset: Preset,
        stores: Sequence[Path],
        seed: int,
        workers: int,
        *,
        world: World | None = None,
        pin_memory: bool = False,
        spans: Sequence[Span] | None = None,
        caches: Sequence[GridCache] = (),
    ) -> None:
        if not stores:
            raise DataError("no store to train on; make one with 'unienc prepare-data'")
        opened = [Store(resolve_store(path, "train")) for path in stores]
        self.stores = opened
        self.digests = tuple(store.digest for store in opened)
        self._end = preset.total_steps * preset.optimizer.accumulate
        parts = {SequenceDataset.kind: {"spans": spans, "caches": caches}}
        self.datasets = {
            name: _dataset(preset, name, opened, seed, **parts.get(stream.kind, {}))
            for name, stream in preset.streams.items()
        }
        self._unused = [s for s in opened if not any(s in d.stores for d in self.datasets.values())]
        used = [store for store in opened if store not in self._unused]
        self.K = _mean_intrinsics(used, preset.image_size)
        world = world or World()
        self._loaders = {
            name: StepLoader(
                dataset,
                workers=-(-workers // len(self.datasets)),
                rank=world.rank,
                processes=world.size,
                pin_memory=pin_memory,
            )
            for name, dataset in self.datasets.items()
        }

    @property
    def facts(self) -> dict[str, Any]:
        """What the checkpoints of the run record of it."""
        return {} if self.K is None else {"K": self.K.tolist()}

    def draws(self, start: int) -> Iterator[dict[str, Batch]]:
        """Yield the draws of all streams from number `start` on."""
        streams = [loader.steps(start, self._end) for loader in self._loaders.values()]
        for batches in zip(*streams, strict=True):
            yield {name: batch for name, (_, batch) in zip(self._loaders, batches, strict=True)}

    def describe(self, draw: int) -> str:
        """Name the items of a draw: stream, drive and frame."""
        return "; ".join(
            f"{name}: " + ", ".join(data.describe(draw, i) for i in range(data.batch_size))
            for name, data in self.datasets.items()
        )

    def summary(self) -> list[str]:
        """Say which stores each stream uses, for people; nothing where there is but one store."""
        counts = [len(data.stores) for data in self.datasets.values()]
        if not self._unused and max(counts) == 1 == len(self.digests):
            return []
        lines = [
            f"stream {name}: {len(data):,} items of {', '.join(str(s.path) for s in data.stores)}"
            for name, data in self.datasets.items()
        ]
        return [*lines, *(f"{store.path}: no stream uses this store" for store in self._unused)]


def _dataset(
    preset: Preset, name: str, stores: Sequence[Store], seed: int, **part: Any
) -> StreamDataset:
    spec = preset.streams[name]
    make = DATASETS[spec.kind]
    return make(
        stores, spec, preset.image_size, seed=seed, name=name, classes=preset.classes, **part
    )


def _mean_intrinsics(stores: Sequence[Store], image_size: tuple[int, int]) -> np.ndarray | None:
    matrices = [
        resize_K(torch.from_numpy(store.column(i, "K")), drive.image_size, image_size).mean(0)
        for store in stores
        if "K" in store.keys
        for i, drive in enumerate(store.drives)
    ]
    return torch.stack(matrices).mean(0).numpy() if matrices else None


def spare_workers(device: torch.device, processes: int = 1) -> int:
    """Return how many loading processes help: none where training keeps every core busy.

    Args:
        device: Where this process trains.
        processes: How many train on this machine.

    Training on the CPU waits for its slowest thread, so a worker that takes a core from it costs
    more than a thread of the same process (on two cores 19% of a step against 11%).
    """
    busy = 1 if device.type == "cuda" else torch.get_num_threads()
    return max(0, min(8 if device.type == "cuda" else 2, available_cores() // processes - busy))
