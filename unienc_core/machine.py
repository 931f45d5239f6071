"""What the operating system says of this machine: processor, cores, memory."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_PEAK_OF_PROCESS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_CPU, _MEMORY, _QUOTA = Path("/proc/cpuinfo"), Path("/proc/meminfo"), Path("/sys/fs/cgroup/cpu.max")


def cpu_name() -> str:
    """Return the processor's name."""
    return next(iter(_cpu_lines("model name")), "") or platform.processor()


def cpu_flags() -> set[str]:
    """Return the names of what the processor can do, as Linux calls them; empty elsewhere."""
    lines = _cpu_lines("flags") or _cpu_lines("Features")
    return set(lines[0].split()) if lines else set()


def available_cores() -> int:
    """Return how many cores this process may use: its affinity, and its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = (int(word) for word in _QUOTA.read_text().split())
    except (OSError, ValueError):  # no such file, or "max"
        return cores or 1
    return max(1, min(cores or 1, quota // period))


def memory() -> tuple[int, int] | None:
    """Return the bytes of main memory in all and those to be had, None where nobody says."""
    try:
        lines = _MEMORY.read_text().splitlines()
    except OSError:
        return None
    values = {name: int(rest.split()[0]) for name, _, rest in (ln.partition(":") for ln in lines)}
    try:
        return 1024 * values["MemTotal"], 1024 * values["MemAvailable"]
    except KeyError:
        return None


def reset_peak_memory() -> bool:
    """Let `peak_memory` count anew from what this process holds now; False where that cannot be."""
    try:
        _RESET.write_text("5", encoding="ascii")
    except OSError:
        return False
    return peak_memory() is not None


def peak_memory() -> int | None:
    """Return the most bytes of main memory that this process held at once, None if nobody says."""
    try:
        lines = _PEAK_OF_PROCESS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


def _cpu_lines(name: str) -> list[str]:
    try:
        lines = _CPU.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.startswith(name)]
