"""Batches by step: any start, any number of worker processes, the same bits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from unienc_core.contracts import Batch
from unienc_core.data.dataset import Item, TripletDataset
from unienc_core.errors import ResourceError, UniencError, UsageError

_SWITCH_SECONDS = 0.0005


class StepLoader:
    """Loads the batches of a stream, ahead of time when it has workers.

    Args:
        dataset: The stream.
        workers: Processes that load, which live as long as the loader; 0 for this one, whose
            threads share each batch.
        rank: Which of the processes that share a step this one is.
        processes: How many there are; each loads its part of the slots.
        pin_memory: Keep batches where a CUDA device fetches them fastest.

    Raises:
        UsageError: If the batch does not divide among the processes.
    """

    def __init__(
        self,
        dataset: TripletDataset,
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
            dataset if workers else _Threaded(dataset, min(local, torch.get_num_threads())),
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


class _Threaded(Dataset[Item | UniencError]):
    """A dataset whose batches are loaded by threads: decoding, most of it, runs without the GIL."""

    def __init__(self, dataset: TripletDataset, threads: int) -> None:
        self._dataset = dataset
        self._pool = ThreadPoolExecutor(threads, "load") if threads > 1 else None

    def __getitem__(self, place: tuple[int, int]) -> Item | UniencError:
        return self._dataset[place]

    def __getitems__(self, places: list[tuple[int, int]]) -> list[Item | UniencError]:
        if self._pool is None:
            return [self._dataset[place] for place in places]
        usual = sys.getswitchinterval()
        # A picture is decoded in a tenth of the time that a thread may keep the GIL from another.
        sys.setswitchinterval(_SWITCH_SECONDS)
        try:
            return list(self._pool.map(self._dataset.__getitem__, places))
        finally:
            sys.setswitchinterval(usual)


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
    for item in items:
        if isinstance(item, UniencError):
            return item
    return default_collate(items)


def _prepare_worker(worker: int) -> None:
    del worker
    torch.set_num_threads(1)
