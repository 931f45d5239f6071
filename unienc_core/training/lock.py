"""One process at a time in a folder, and no lock that outlives its owner."""

from __future__ import annotations

import fcntl
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unienc_core.contracts import Say, say_nothing
from unienc_core.errors import ResourceError, UsageError
from unienc_core.files import write_atomic

LOCK = ".lock"


@contextmanager
def folder_lock(folder: Path, say: Say = say_nothing) -> Iterator[None]:
    """Hold `folder` for this process.

    The owner is named by host, boot and process, so that a lock left behind by a kill or a
    power cut is recognised. It is not a held `flock`: data-loading workers inherit those and
    would hold the folder for seconds after their parent was killed.

    Raises:
        UsageError: If another live process holds it.
        ResourceError: If the folder cannot be written.
    """
    mine = _this_process()
    try:
        with _guard(folder):
            _take(folder, mine, say)
    except OSError as error:
        raise ResourceError(f"{folder}: cannot be written ({error.strerror})") from None
    try:
        yield
    finally:
        if _read(folder / LOCK) == mine:
            (folder / LOCK).unlink(missing_ok=True)


def _take(folder: Path, mine: dict[str, Any], say: Say) -> None:
    owner = _read(folder / LOCK)
    if owner is not None:
        who = f"process {owner.get('pid')} on {owner.get('host')}"
        if _alive(owner, mine):
            raise UsageError(
                f"{folder}: in use by {who}; wait for it, or choose another --out "
                f"(if it is gone for certain, delete {folder / LOCK})"
            )
        say(f"{folder}: taking over from {who}, which did not finish")
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


def _alive(owner: dict[str, Any], mine: dict[str, Any]) -> bool:
    """Whether the owner still runs; of another host's process nothing is known: it may."""
    if owner.get("host") != mine["host"]:
        return True
    pid = owner.get("pid")
    if owner.get("boot") != mine["boot"] or not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _born(pid) == owner.get("born")


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
