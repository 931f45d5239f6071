"""The batches of a training run: the streams of its preset over opened stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from unienc_core.contracts import Batch
from unienc_core.data.dataset import TripletDataset
from unienc_core.data.loader import StepLoader
from unienc_core.data.sampler import item_index
from unienc_core.data.store import Store, resolve_store
from unienc_core.errors import DataError
from unienc_core.geometry.camera import resize_K
from unienc_core.machine import available_cores
from unienc_core.presets import Preset
from unienc_core.training.distributed import World


class TrainingData:
    """The streams of a preset over opened stores.

    Args:
        preset: Its streams, image size and steps.
        stores: Folders of stores.
        seed: Seed of the run.
        workers: Processes that load, shared out among the streams.
        world: The processes that share each batch.
        pin_memory: Keep batches where a CUDA device fetches them fastest.

    Attributes:
        digests: SHA-256 of each store's manifest.
        K: Mean intrinsics of all drives, `3 3`, at the preset's image size.
        datasets: The stream of each name.

    Raises:
        DataError: If a store is missing, damaged, or lacks what a stream asks for.
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
    ) -> None:
        if not stores:
            raise DataError("no store to train on; make one with 'unienc prepare-data'")
        opened = [Store(resolve_store(path, "train")) for path in stores]
        self.digests = tuple(store.digest for store in opened)
        self.K = _mean_intrinsics(opened, preset.image_size)
        self._end = preset.total_steps * preset.optimizer.accumulate
        self._seed = seed
        self.datasets = {
            name: TripletDataset(opened, spec, preset.image_size, seed=seed, name=name)
            for name, spec in preset.streams.items()
        }
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

    def draws(self, start: int) -> Iterator[dict[str, Batch]]:
        """Yield the draws of all streams from number `start` on."""
        streams = [loader.steps(start, self._end) for loader in self._loaders.values()]
        for batches in zip(*streams, strict=True):
            yield {name: batch for name, (_, batch) in zip(self._loaders, batches, strict=True)}

    def describe(self, draw: int) -> str:
        """Name the items of a draw: stream, drive and frame."""
        return "; ".join(
            f"{name}: " + ", ".join(self._item_name(name, draw, i) for i in range(data.batch_size))
            for name, data in self.datasets.items()
        )

    def _item_name(self, stream: str, draw: int, slot: int) -> str:
        data = self.datasets[stream]
        return self.item_name(
            stream, item_index(self._seed, stream, draw, slot, data.batch_size, len(data))
        )

    def item_name(self, stream: str, index: int) -> str:
        """Name an item of a stream, of all items in their stored order."""
        for store in self.datasets[stream].stores:
            triplets = store.triplets()
            if index < len(triplets):
                drive, target = triplets[index]
                return f"{store.path}/{store.drives[drive].name} frame {target}"
            index -= len(triplets)
        raise IndexError(index)


def _mean_intrinsics(stores: Sequence[Store], image_size: tuple[int, int]) -> np.ndarray:
    matrices = [
        resize_K(torch.from_numpy(store.column(i, "K")), drive.image_size, image_size).mean(0)
        for store in stores
        for i, drive in enumerate(store.drives)
    ]
    return torch.stack(matrices).mean(0).numpy()


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
