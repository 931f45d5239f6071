"""One process at a time in a folder, and no lock that outlives its owner."""

from __future__ import annotations

import fcntl
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unienc_core.contracts import Say, say_nothing
from unienc_core.errors import ResourceError, UsageError
from unienc_core.files import write_atomic

LOCK = ".lock"


@dataclass(frozen=True)
class Holder:
    """The process that a lock names.

    Attributes:
        pid: Its number.
        host: Where it runs, or ran.
        state: Whether it still runs; of another host's process nothing is known.
    """

    pid: int | None
    host: str | None
    state: Literal["alive", "dead", "unknown"]

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def lock_holder(folder: Path) -> Holder | None:
    """Return who holds `folder`, or None if nobody does."""
    owner = _read(folder / LOCK)
    if owner is None:
        return None
    return Holder(owner.get("pid"), owner.get("host"), _state(owner, _this_process()))


@contextmanager
def folder_lock(
    folder: Path, say: Say = say_nothing, *, force_unlock: bool = False
) -> Iterator[None]:
    """Hold `folder` for this process.

    The owner is named by host, boot and process, so that a lock left behind by a kill or a
    power cut is recognised. It is not a held `flock`: data-loading workers inherit those and
    would hold the folder for seconds after their parent was killed.

    Args:
        folder: What to hold.
        say: Told when the folder is taken over from a process that did not give it back.
        force_unlock: Take it over from a process of another host, too. The caller knows that it
            is gone (a container or a node that a cluster has replaced); nobody can tell from
            here. A process that can be seen to be alive keeps the folder all the same.

    Raises:
        UsageError: If another process holds it that is alive, or may be.
        ResourceError: If the folder cannot be written.
    """
    mine = _this_process()
    try:
        with _guard(folder):
            _take(folder, mine, say, force_unlock)
    except OSError as error:
        raise ResourceError(f"{folder}: cannot be written ({error.strerror})") from None
    try:
        yield
    finally:
        if _read(folder / LOCK) == mine:
            (folder / LOCK).unlink(missing_ok=True)


def _take(folder: Path, mine: dict[str, Any], say: Say, force_unlock: bool) -> None:
    holder = lock_holder(folder)
    if holder is not None:
        if holder.state == "alive":
            raise UsageError(f"{folder}: in use by {holder}; wait for it, or choose another --out")
        if holder.state == "unknown" and not force_unlock:
            raise UsageError(
                f"{folder}: in use by {holder}, which cannot be looked for from this host; "
                "wait for it, choose another --out, or --force-unlock if it is gone for certain"
            )
        say(f"{folder}: taking over from {holder}, which did not finish")
    write_atomic(folder / LOCK, json.dumps(mine).encode())


@contextmanager
def _guard(folder: Path) -> Iterator[None]:
    """Let one process at a time look at the lock and take it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _this_process() -> dict[str, Any]:
    return {
        "host": platform.node(),
        "boot": _boot_id(),
        "pid": os.getpid(),
        "born": _born(os.getpid()),
    }


def _state(owner: dict[str, Any], mine: dict[str, Any]) -> Literal["alive", "dead", "unknown"]:
    if owner.get("host") != mine["host"]:
        return "unknown"
    pid = owner.get("pid")
    if owner.get("boot") != mine["boot"] or not isinstance(pid, int) or pid <= 0:
        return "dead"
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return "dead"
    except PermissionError:
        pass
    return "alive" if _born(pid) == owner.get("born") else "dead"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        owner = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return owner if isinstance(owner, dict) else None


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _born(pid: int) -> str:
    """When a process started, in clock ticks since boot: pids are used again, this is not.

    Empty for one that has ended and only waits to be collected by its parent.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
