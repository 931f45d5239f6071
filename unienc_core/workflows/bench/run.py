"""`bench`: the parts that were asked for, one after the other, and one report of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from unienc_core.checkpoint import load_checkpoint
from unienc_core.contracts import Progress, Reporter
from unienc_core.data.store import Store, resolve_store
from unienc_core.device import resolve_device, resource_errors
from unienc_core.errors import UsageError, nearest
from unienc_core.presets import load_preset
from unienc_core.training.distillation import without_teacher
from unienc_core.training.environment import environment_record
from unienc_core.workflows.bench.data import bench_loader, bench_render, bench_store
from unienc_core.workflows.bench.memory import bench_memory
from unienc_core.workflows.bench.network import bench_inference, bench_training
from unienc_core.workflows.bench.setting import Setting
from unienc_core.workflows.bench.video import bench_video
from unienc_core.workflows.bench.work import PRECISIONS, Gemm

DEFAULT_PRESET = "unified-tiny"

Gemms = dict[str, Gemm]
"""Matrix products by precision."""


def bench(
    parts: Sequence[str] = (),
    *,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    checkpoint: Path | None = None,
    store: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    quick: bool = False,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Measure this machine, and how near to what it can do each part of a system comes.

    Args:
        parts: Names of `PARTS`; none means all.
        preset: A shipped preset's name or a YAML file; default: `unified-tiny`.
        overrides: ``path.to.key=value`` changes of the preset.
        checkpoint: A trained system in place of a preset.
        store: Images to read and train on; default: a small city, rendered for the occasion.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads; default: as torch finds.
        quick: A look at everything in seconds, in place of figures to quote.
        dry_run: Check the request, the store and the network, and measure nothing.
        reporter: Told of progress.

    Returns:
        ``{preset, image_size, checkpoint, quick, machine, parts, <part>: {...}}``; times are
        ``{median, low, high, rounds}`` with the quartiles as low and high.

    Raises:
        UsageError: If a part is unknown, or preset and checkpoint are both given.
        DataError: If the store or the checkpoint is missing.
        ResourceError: If memory or disk runs out.
        CheckpointError: If the checkpoint is damaged.
    """
    chosen = choose_parts(parts)
    if checkpoint is not None and (preset is not None or overrides):
        raise UsageError("--checkpoint brings its own preset: leave out --preset and --set")
    found = None if checkpoint is None else load_checkpoint(checkpoint)
    loaded = load_preset(preset or DEFAULT_PRESET, overrides) if found is None else found.preset
    loaded = without_teacher(loaded)
    place = resolve_device(device)
    if store is not None:
        Store(resolve_store(store, "train")).close()
    if threads is not None:
        torch.set_num_threads(threads)
    reporter = reporter or Reporter()
    report: dict[str, Any] = {
        "preset": loaded.name,
        "image_size": list(loaded.image_size),
        "checkpoint": None if found is None else str(found.path),
        "quick": quick,
        "machine": environment_record(place),
        "parts": chosen,
    }
    with resource_errors("bench"), tempfile.TemporaryDirectory(prefix="unienc-bench-") as folder:
        setting = Setting(loaded, found, place, store, Path(folder), quick, reporter)
        if dry_run:
            setting.train_module()
            return {**report, "dry_run": True}
        for done, name in enumerate(chosen):
            reporter.progress(Progress("bench", done, len(chosen), "part", name))
            report[name] = PARTS[name](setting)
        reporter.progress(Progress("bench", len(chosen), len(chosen), "part"))
    _add_shares(report)
    return report


def choose_parts(names: Sequence[str]) -> list[str]:
    """Return the parts to measure, in their usual order.

    Raises:
        UsageError: If a name is unknown, naming the nearest.
    """
    for name in names:
        if name not in PARTS:
            known = list(PARTS)
            raise UsageError(f"no part '{name}'{nearest(name, known)}; parts: {', '.join(known)}")
    return [name for name in PARTS if name in names or not names]


def bench_gemm(setting: Setting) -> dict[str, Any]:
    """Measure matrix products: the peak that everything else is held against."""
    gemms = _gemms(setting)
    taken = setting.take_turns(dict(gemms), "gemm")
    return {name: gemm.record(taken[name]) for name, gemm in gemms.items()}


def _gemms(setting: Setting) -> Gemms:
    return {name: Gemm(name, setting.device) for name in PRECISIONS}


PARTS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "gemm": bench_gemm,
    "inference": lambda setting: bench_inference(setting, _gemms(setting)),
    "training": lambda setting: bench_training(setting, _gemms(setting)),
    "memory": bench_memory,
    "render": bench_render,
    "store": bench_store,
    "loader": bench_loader,
    "video": bench_video,
}
"""What can be measured, by name."""


def _add_shares(report: dict[str, Any]) -> None:
    """Add to every row what share of the peak it reaches: of the best product of the whole run."""
    measured = [report[name].get("gemm", report[name]) for name in GEMM_PARTS if name in report]
    peaks = {p: max(m[p]["gflops"] for m in measured) for p in PRECISIONS if measured}
    for name in ("inference", "training"):
        for row in report.get(name, {}).get("parts", ()):
            row["share"] = round(row["gflops"] / peaks[row["precision"]], 4)
    if peaks:
        report["peak_gflops"] = peaks
        report["noise"] = max(m[p]["spread"] for m in measured for p in PRECISIONS)


GEMM_PARTS = ("gemm", "inference", "training")
