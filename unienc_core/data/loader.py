"""Batches by step: any start, any number of worker processes, the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Sampler, default_collate

from unienc_core.contracts import Batch
from unienc_core.data.labels import RAGGED
from unienc_core.data.stream_dataset import Item, StreamDataset
from unienc_core.errors import ResourceError, UniencError, UsageError


class StepLoader:
    """Loads the batches of a stream, ahead of time when it has workers.

    Args:
        dataset: The stream.
        workers: Processes that load, which live as long as the loader; 0 for a thread of this one.
        rank: Which of the processes that share a step this one is.
        processes: How many there are; each loads its part of the slots.
        pin_memory: Keep batches where a CUDA device fetches them fastest.

    Raises:
        UsageError: If the batch does not divide among the processes.
    """

    def __init__(
        self,
        dataset: StreamDataset,
        *,
        workers: int = 0,
        rank: int = 0,
        processes: int = 1,
        pin_memory: bool = False,
    ) -> None:
        local, rest = divmod(dataset.batch_size, processes)
        if rest:
            raise UsageError(
                f"streams.{dataset.name}.batch_size: {dataset.batch_size} items a step do not "
                f"divide among {processes} processes; choose a multiple of {processes}"
            )
        self._places = _Places(range(rank * local, (rank + 1) * local))
        self._loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=self._places,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="fork" if workers else None,
            worker_init_fn=_prepare_worker,
            collate_fn=_collate,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # its own, so that loading draws from no other
        )

    def steps(self, start: int, stop: int) -> Iterator[tuple[int, Batch]]:
        """Yield (step, batch) for each step from `start` up to but without `stop`.

        Raises:
            DataError: If a frame of the batch cannot be read, naming it.
            ResourceError: If a worker was killed.
        """
        self._places.steps = range(start, stop)
        # Before any fork: a forked copy of OpenCV's thread pool has no threads and waits for ever.
        cv2.setNumThreads(1)
        batches = iter(self._loader)
        if self._loader.num_workers == 0:
            batches = _one_ahead(batches)
        for step in self._places.steps:
            try:
                batch = next(batches)
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                raise ResourceError(
                    "a data loading process was killed, perhaps for want of memory; "
                    "use fewer workers"
                ) from error
            if isinstance(batch, UniencError):
                try:
                    raise batch
                finally:
                    del batch  # else error and frame hold each other, and the workers alive
            yield step, batch


def _one_ahead(batches: Iterator[Any]) -> Iterator[Any]:
    """Deliver batches, the next one being made by a thread of its own meanwhile."""
    usual = torch.get_num_threads()
    with ThreadPoolExecutor(1, "load") as pool:
        # Without a second team of OpenMP: as soon as there are more threads than cores, those of
        # the training stop waiting actively for each other, and a step takes half as long again.
        pool.submit(_use_one_thread).result()
        torch.set_num_threads(usual)  # what other new threads begin with
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch


def _use_one_thread() -> None:
    torch.get_num_threads()  # a new thread's first call takes over the number of the process
    torch.set_num_threads(1)


class _Places(Sampler[list[tuple[int, int]]]):
    """The (step, slot) pairs of each batch."""

    def __init__(self, slots: range) -> None:
        self.slots, self.steps = slots, range(0)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in self.steps:
            yield [(step, slot) for slot in self.slots]

    def __len__(self) -> int:
        return len(self.steps)


def _collate(items: list[Item | UniencError]) -> Batch | UniencError:
    whole: list[Item] = []
    for item in items:
        if isinstance(item, UniencError):
            return item
        whole.append(item)
    batch = default_collate([{k: v for k, v in item.items() if k not in RAGGED} for item in whole])
    return batch | {key: [item[key] for item in whole] for key in RAGGED if key in whole[0]}


def _prepare_worker(worker: int) -> None:
    del worker
    torch.set_num_threads(1)
