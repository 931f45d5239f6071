"""Several processes of one run, forked from the test, as ``torchrun`` would start them."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore

from unienc_core.errors import UniencError
from unienc_core.training.distributed import World, join_world

TOLD = "told.txt"

_stores: list[TCPStore] = []


def start_ranks(
    size: int, work: Callable[[World], Any], folder: Path
) -> list[multiprocessing.Process]:
    """Fork `size` processes that join one world and work in it.

    Each leaves the exit code of its error; the one that tells people appends its line to `TOLD`.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("fork")
    ranks = [
        context.Process(target=_run, args=(r, size, store.port, work, folder)) for r in range(size)
    ]
    for rank in ranks:
        rank.start()
    _stores.append(store)  # as the launcher keeps it, whatever becomes of the processes
    return ranks


def end_of(ranks: list[multiprocessing.Process], seconds: float = 60.0) -> list[int | None]:
    """Wait for all to end and return their exit codes; None for one that hangs."""
    deadline = time.monotonic() + seconds
    for rank in ranks:
        rank.join(max(0.0, deadline - time.monotonic()))
    codes = [rank.exitcode for rank in ranks]
    for rank in ranks:
        rank.kill()
        rank.join()
    return codes


def run_ranks(size: int, work: Callable[[World], Any], folder: Path) -> list[int | None]:
    """Start processes, wait for them, return their exit codes."""
    return end_of(start_ranks(size, work, folder))


def told(folder: Path) -> list[str]:
    """Return the lines that people would have seen."""
    path = folder / TOLD
    return path.read_text().splitlines() if path.exists() else []


def _run(rank: int, size: int, port: int, work: Callable[[World], Any], folder: Path) -> None:
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    os.environ |= {name: str(value) for name, value in places.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    try:
        with join_world("cpu") as world:
            work(world)
    except UniencError as error:
        if not error.told:
            with (folder / TOLD).open("a") as file:
                file.write(f"{error}\n")
        sys.exit(error.exit_code)
