"""The record of the machine and versions that a run was made with."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from unienc_core.code_version import code_digest
from unienc_core.machine import cpu_name

_PACKAGES = ("unienc", "torch", "timm", "numpy", "opencv-python", "h5py", "safetensors")


def environment_record(device: torch.device, processes: int = 1) -> dict[str, Any]:
    """Return versions, machine, device, threads and processes, JSON-able."""
    packages = {name: _version(name) for name in _PACKAGES}
    cuda = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.node(),
        "cpu": cpu_name(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "threads": torch.get_num_threads(),
        "processes": processes,
        "executable": sys.executable,
        "packages": packages,
        "code": code_digest(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
