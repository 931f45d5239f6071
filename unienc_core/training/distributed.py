"""Several processes as one training run, started by ``torchrun``.

Every process holds the whole network and a share of each batch; DistributedDataParallel averages
their gradients. What all must do alike (stop, throw a step away, give up) they agree on first, so
that none waits for another that has left. The lead, rank 0, alone writes and speaks.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from unienc_core.device import resolve_device
from unienc_core.errors import ResourceError, UniencError, UsageError
from unienc_core.training.run_dir import RunFolder, RunIdentity, open_run_folder

T = TypeVar("T")

_STARTED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_LOST = re.compile(r"gloo|NCCL|connection (closed|reset)|broken pipe", re.IGNORECASE)
_FAILURE = "failure"


class PeerError(UniencError):
    """Another process of this run failed; that one tells people why."""

    told = True

    def __init__(self, message: str = "another process failed", exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class World:
    """The processes of one training run, seen from one of them; by default it is alone.

    Attributes:
        rank: Which of them this one is; 0 leads.
        size: How many there are.
        local_rank: Which of those on this machine.
        local_size: How many on this machine.
        store: What all can read and write, also when their connections are gone.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    store: Store | None = None

    @property
    def lead(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """Return the device of this process: with CUDA, each on a machine has its own.

        Raises:
            UsageError: If there is no such device, or there are fewer than processes.
        """
        device = resolve_device(name)
        if device.type == "cpu" or self.local_size == 1:
            return device
        if ":" in name:
            raise UsageError(
                f"--device {name} is one device for {self.local_size} processes; use --device cuda"
            )
        found = torch.cuda.device_count()
        if found < self.local_size:
            raise UsageError(
                f"{self.local_size} processes but {found} CUDA device(s) on this machine; start "
                f"{found}, or --device cpu"
            )
        return torch.device("cuda", self.local_rank)

    def agree(self, code: int) -> int:
        """Return the largest code that any process brings; all must ask."""
        if self.size == 1:
            return code
        largest = torch.tensor(code)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def share(self, value: T) -> T:
        """Return the lead's value in every process."""
        if self.size == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, 0)
        return held[0]

    def require_same(self, value: str, what: str) -> None:
        """Check that every process brings the same value.

        Raises:
            UsageError: If not.
        """
        if value != self.share(value):
            raise UsageError(f"process {self.rank} has {what} other than process 0")

    def sum(self, x: Tensor) -> Tensor:
        """Add up a tensor over all processes; no gradient passes."""
        if self.size == 1:
            return x
        total = x.detach().clone()
        dist.all_reduce(total)
        return total

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Average 0-d tensors, the same names in every process, over all processes."""
        if self.size == 1:
            return dict(values)
        packed = torch.stack([value.detach().double() for value in values.values()])
        means = (self.sum(packed) / self.size).unbind()
        return {k: mean.to(v.dtype) for (k, v), mean in zip(values.items(), means, strict=True)}

    @contextlib.contextmanager
    def hearing(self) -> Iterator[None]:
        """Turn what the end of another process looks like into what that one says of it.

        Raises:
            PeerError: With its line and exit code.
            ResourceError: If it ended without a word.
        """
        try:
            yield
        except BaseException as error:
            if not isinstance(error, PeerError) and not _is_lost_peer(error):
                raise
            failure = self.failure(seconds=5)
            if failure is not None:
                raise PeerError(failure["line"], failure["exit_code"]) from error
            raise ResourceError(
                "another process of this run ended without a word, perhaps for want of memory; "
                "the same command goes on from the last checkpoint"
            ) from error

    def failure(self, seconds: float) -> dict[str, Any] | None:
        """Return what the first process that failed has published, waiting for it if need be."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(RuntimeError):  # the launcher, which keeps the store, may be gone
            while self.store is not None:
                if self.store.check([_FAILURE]):
                    return json.loads(self.store.get(_FAILURE))
                if time.monotonic() > deadline:
                    break
                time.sleep(0.02)
        return None

    def publish(self, failure: dict[str, Any]) -> dict[str, Any]:
        """Publish a failure unless another one is published, and return the one that is."""
        with contextlib.suppress(RuntimeError):
            if self.store is not None:
                return json.loads(self.store.compare_set(_FAILURE, "", json.dumps(failure)))
        return failure


@contextlib.contextmanager
def join_world(device: str = "auto") -> Iterator[World]:
    """Join the processes that ``torchrun`` started together with this one.

    Where it started none, or this one only, the world is this process. An error that leaves the
    context in one process ends all of them with its exit code, and one of them tells people: the
    others raise `PeerError`.

    Args:
        device: As people name it; decides how gradients travel (NCCL between CUDA devices, else
            Gloo).

    Raises:
        ResourceError: If the other processes cannot be reached, or one is lost.
    """
    if not all(name in os.environ for name in _STARTED) or os.environ["WORLD_SIZE"] == "1":
        yield World()
        return
    rank, size, local_rank, local_size = (int(os.environ[name]) for name in _STARTED[:4])
    with _meeting():
        store, _, _ = next(rendezvous("env://"))
    world = World(rank, size, local_rank, local_size, PrefixStore("unienc", store))
    try:
        with world.hearing():
            _meet(world.device(device), world)
            yield world
            world.agree(0)  # nobody leaves before all are through
            dist.destroy_process_group()
    except BaseException as error:
        settled = _settle(error, world)
        if settled is error:
            raise
        raise settled from error


@contextlib.contextmanager
def shared_run_folder(
    world: World, path: Path, identity: RunIdentity, **options: Any
) -> Iterator[RunFolder]:
    """Open a run folder in the lead; the other processes only learn where it lies.

    Args:
        world: The processes.
        path: The folder.
        identity: What the run is.
        **options: Of `open_run_folder`.
    """
    if not world.lead:
        yield RunFolder(path, {"report": world.share(None)})
        return
    with open_run_folder(path, identity, **options) as folder:
        world.share(folder.report)
        with world.hearing():
            yield folder


def _meet(device: torch.device, world: World) -> None:
    """Connect to the other processes."""
    # What is agreed on lies in main memory, whatever device computes.
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    assert world.store is not None
    group = PrefixStore("group", world.store)
    with _meeting():
        dist.init_process_group(backend, store=group, rank=world.rank, world_size=world.size)


@contextlib.contextmanager
def _meeting() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        line = str(error).split("\n")[0]
        raise ResourceError(f"cannot meet the other processes at {where}: {line}") from error


def _settle(error: BaseException, world: World) -> BaseException:
    """Return what this process ends with: its error, or `PeerError` where another one tells it."""
    if threading.current_thread() is threading.main_thread():
        # The launcher ends the others when the first exits; all of them do so by themselves.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if not world.lead:  # the lead knows most: what all found at once, it tells
        world.failure(seconds=1)
    interrupted = isinstance(error, KeyboardInterrupt)
    mine = {
        "rank": world.rank,
        "exit_code": 130 if interrupted else getattr(error, "exit_code", 1),
        "line": "interrupted" if interrupted else str(error),
    }
    first = world.publish(mine)
    return error if first == mine else PeerError(first["line"], first["exit_code"])


def _is_lost_peer(error: BaseException) -> bool:
    """Whether a collective failed because another process is gone."""
    if isinstance(error, UniencError):
        return False
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and _LOST.search(str(error)) is not None
    )
