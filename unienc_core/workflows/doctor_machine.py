"""What `doctor` looks at without trying it: packages, devices, memory, disk, folders."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from unienc_core.errors import ResourceError, UniencError
from unienc_core.files import check_writable
from unienc_core.machine import available_cores, cpu_flags, cpu_name, memory
from unienc_core.workflows.doctor import Check, Finding

# Each check imports what it looks at: where that is broken, the others shall still be told.
if TYPE_CHECKING:
    from packaging.requirements import Requirement

LEAST_MEMORY = 2**30
LEAST_DISK = 2**30
"""Bytes that the smallest preset needs at least."""

_CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
_FOR_DEVELOPERS = {"dev"}
_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
_DRIVER = Path("/proc/driver/nvidia/version")
_COMPILERS = ("g++", "clang++", "c++")


def check_python() -> Iterator[Finding]:
    """Which Python, and where."""
    found = f"{platform.python_version()} ({sys.executable}) on {platform.platform()}"
    yield Finding("Python", "ok", found)


def check_packages() -> Iterator[Finding]:
    """Whether all that is required is installed, in versions that are allowed and tested."""
    from packaging.version import Version

    requirements = [r for r in _requirements() if r.marker is None or r.marker.evaluate()]
    faults = {r.name: fault for r in requirements if (fault := _fault(r))}
    for requirement in requirements:
        if requirement.name in faults:
            remedy = f"pip install '{_without_marker(requirement)}'"
            yield Finding(requirement.name, "problem", faults[requirement.name], remedy)
    if faults:
        return
    tested = _tested_versions()
    names = [r.name for r in requirements if r.name in tested]
    others = [
        f"{name} {metadata.version(name)} (tested: {tested[name]})"
        for name in names
        if Version(metadata.version(name)).public != tested[name]
    ]
    found = f"{len(requirements)} as required"
    if others:
        yield Finding("packages", "ok", f"{found}, but not all as tested: {', '.join(others)}")
    else:
        yield Finding("packages", "ok", f"{found}, {len(names)} of them exactly as tested")


def check_extras() -> Iterator[Finding]:
    """Which optional parts are installed."""
    for extra in metadata.metadata("unienc").get_all("Provides-Extra") or []:
        if extra in _FOR_DEVELOPERS:
            continue
        wanted = [
            r for r in _requirements() if r.marker and r.marker.evaluate({"extra": str(extra)})
        ]
        missing = [r.name for r in wanted if _fault(r)]
        if missing:
            remedy = f"pip install 'unienc[{extra}]', if you need it"
            yield Finding(f"extra {extra}", "missing", f"without {', '.join(missing)}", remedy)
        else:
            found = ", ".join(f"{r.name} {metadata.version(r.name)}" for r in wanted)
            yield Finding(f"extra {extra}", "ok", found)


def check_torch() -> Iterator[Finding]:
    """Which build of torch, and whether torchvision fits it."""
    import torch

    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for the CPU"
    yield Finding("torch", "ok", f"{torch.__version__}, {built}")
    from unienc_core.models import timm_compat

    version = metadata.version("torchvision")
    found = f"{version}, built for another torch; none of its operators is needed"
    yield Finding("torchvision", "ok", found if timm_compat.HEALED else version)


def check_devices() -> Iterator[Finding]:
    """CUDA devices, and where bf16 is quick."""
    import torch

    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        major, _ = torch.cuda.get_device_capability(index)
        bf16 = "bf16 in hardware" if major >= 8 else "no bf16"
        found = f"{torch.cuda.get_device_name(index)}, {_gib(free)} of {_gib(total)} free, {bf16}"
        yield Finding(f"cuda:{index}", "ok", found)
    if not torch.cuda.device_count():
        yield _no_cuda(torch.version.cuda)
    if _BF16 & cpu_flags():
        yield Finding("bf16 on the CPU", "ok", "in hardware")
    else:
        remedy = "keep optimizer.precision: fp32 for training on this CPU"
        yield Finding("bf16 on the CPU", "missing", "emulated, so slower than fp32", remedy)


def check_processor() -> Iterator[Finding]:
    """Cores that may be used, and threads that will be."""
    import torch

    cores, threads = available_cores(), torch.get_num_threads()
    found = f"{cpu_name()}, {cores} of {os.cpu_count()} cores usable, {threads} threads used"
    if threads > cores:
        remedy = f"--threads {cores}, or OMP_NUM_THREADS={cores}: more only get in each other's way"
        yield Finding("CPU", "missing", found, remedy)
    else:
        yield Finding("CPU", "ok", found)


def check_memory() -> Iterator[Finding]:
    """Main memory."""
    figures = memory()
    if figures is None:
        remedy = "look yourself: the smallest training needs 1 GiB"
        yield Finding("memory", "missing", "the system gives no figures", remedy)
        return
    total, free = figures
    found = f"{_gib(free)} of {_gib(total)} free"
    if free < LEAST_MEMORY:
        remedy = "end other programs: the smallest training needs 1 GiB"
        yield Finding("memory", "problem", found, remedy)
    else:
        yield Finding("memory", "ok", found)


def check_disks() -> Iterator[Finding]:
    """Room where data and runs go, and for temporary files."""
    for name, folder in (("disk here", Path.cwd()), ("disk for temp", Path(tempfile.gettempdir()))):
        usage = shutil.disk_usage(folder)
        found = f"{_gib(usage.free)} of {_gib(usage.total)} free at {folder}"
        if usage.free < LEAST_DISK:
            yield Finding(name, "problem", found, "free some space: 1 GiB is the least")
        else:
            yield Finding(name, "ok", found)


def check_compiler() -> Iterator[Finding]:
    """A C++ compiler and the headers that torch.compile needs."""
    names = (os.environ.get("CXX", ""), *_COMPILERS)
    compiler = next((path for name in names if name and (path := shutil.which(name))), None)
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    if compiler is None:
        remedy = "only torch.compile needs one (Debian: apt install g++)"
        yield Finding("C++ compiler", "missing", "none found", remedy)
    elif not headers.exists():
        remedy = "only torch.compile needs them (Debian: apt install python3-dev)"
        yield Finding("C++ compiler", "missing", f"{compiler}, but no {headers}", remedy)
    else:
        yield Finding("C++ compiler", "ok", f"{compiler}, with Python's headers")


def check_places() -> Iterator[Finding]:
    """Whether runs can be written here, and what the checkpoint of the environment is worth."""
    try:
        check_writable(Path("runs"))
        yield Finding("./runs", "ok", "can be written")
    except ResourceError as error:
        yield Finding("./runs", "problem", str(error), "go elsewhere, or give --out FOLDER")
    from unienc_core.checkpoint import ENVIRONMENT_VARIABLE, load_checkpoint

    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if not named:
        yield Finding(ENVIRONMENT_VARIABLE, "ok", "not set")
        return
    try:
        checkpoint = load_checkpoint(Path(named))
        checkpoint.model_tensors()
        found = f"{checkpoint.path}: {checkpoint.preset.name}, step {checkpoint.step}"
        yield Finding(ENVIRONMENT_VARIABLE, "ok", found)
    except UniencError as error:
        remedy = f"unset {ENVIRONMENT_VARIABLE}, or name a whole checkpoint"
        yield Finding(ENVIRONMENT_VARIABLE, "problem", str(error), remedy)


CHECKS: Mapping[str, Check] = {
    "Python": check_python,
    "packages": check_packages,
    "torch": check_torch,
    "devices": check_devices,
    "CPU": check_processor,
    "memory": check_memory,
    "disk": check_disks,
    "C++ compiler": check_compiler,
    "extras": check_extras,
    "places": check_places,
}


def _requirements() -> list[Requirement]:
    from packaging.requirements import Requirement

    return [Requirement(text) for text in metadata.requires("unienc") or []]


def _fault(requirement: Requirement) -> str | None:
    """What is wrong with the installed version, None where nothing is."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"not installed, {requirement.specifier} is needed"
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"{version}, but {requirement.specifier} is needed"


def _without_marker(requirement: Requirement) -> str:
    return f"{requirement.name}{requirement.specifier}"


def _tested_versions() -> dict[str, str]:
    """The pinned versions, where the program runs from its source tree."""
    if not _CONSTRAINTS.exists():
        return {}
    lines = _CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {name.strip(): version.strip() for name, version in pairs}


def _no_cuda(built_for: str | None) -> Finding:
    if not _DRIVER.exists():
        return Finding("CUDA", "ok", "no device; everything runs on the CPU")
    if built_for is None:
        remedy = "install a torch that is built for CUDA: https://pytorch.org/get-started"
        return Finding("CUDA", "missing", "there is a driver, but torch is for the CPU", remedy)
    remedy = f"update the driver to one for CUDA {built_for}, or look into CUDA_VISIBLE_DEVICES"
    return Finding("CUDA", "missing", "there is a driver, but torch finds no device", remedy)


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
