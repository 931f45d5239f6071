"""Training: the workflow behind every training verb."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from unienc_core.checkpoint import Checkpoint
from unienc_core.contracts import Batch, Reporter, StepContext
from unienc_core.data.dataset import TripletDataset
from unienc_core.data.loader import StepLoader
from unienc_core.data.sampler import item_index
from unienc_core.data.store import Store, resolve_store
from unienc_core.device import resolve_device, resource_errors
from unienc_core.errors import DataError, IntegrityError, WiringError
from unienc_core.files import sha256_file
from unienc_core.geometry.camera import resize_K
from unienc_core.losses.objective import Objective
from unienc_core.models.network import build_network
from unienc_core.presets import Preset, load_preset
from unienc_core.training.environment import environment_record
from unienc_core.training.module import TrainModule
from unienc_core.training.run_dir import (
    RunFolder,
    RunIdentity,
    check_run_folder,
    open_run_folder,
)
from unienc_core.training.stages import apply_stage, check_stages
from unienc_core.training.step import to_device
from unienc_core.training.trainer import Trainer, resume_point
from unienc_core.workflows.curves import draw_curves


def train(
    preset_name_or_path: str,
    stores: Sequence[Path],
    *,
    out: Path | None = None,
    overrides: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    workers: int | None = None,
    fresh: bool = False,
    dry_run: bool = False,
    weights: Path | None = None,
    command: str = "",
    reporter: Reporter | None = None,
    checkpoint_every: int | None = None,
) -> dict[str, Any]:
    """Train a preset on stores into a run folder; the same call again resumes it, bit for bit.

    Args:
        preset_name_or_path: A shipped preset's name or a YAML file.
        stores: Stores, or folders of ``prepare-data`` (their split `train` is used).
        out: Run folder; default: ``runs/<preset>-<seed>``.
        overrides: ``path.to.key=value`` changes of the preset.
        seed: Decides weights, order, augmentation and all other chance.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads of torch; default: as torch finds.
        workers: Processes that load data; the result does not depend on it. Default: as many as
            there are cores to spare.
        fresh: Start over instead of resuming.
        dry_run: Build everything and try one batch; write nothing.
        weights: Safetensors file that the pretrained encoder starts from.
        command: Command line that repeats the run, for the record.
        reporter: Told of progress and of what people should know.
        checkpoint_every: Steps between checkpoints; default: depends on the length of the run.

    Returns:
        The run's report, JSON-able; see `format_report`.

    Raises:
        UsageError: If the request, the preset or the run folder does not fit.
        DataError: If a store or the weights cannot be read.
        ResourceError: If memory or disk runs out, or the run folder cannot be written.
        IntegrityError: If training diverged or no checkpoint of the run is intact.
        Interrupted: After SIGTERM or SIGINT, with everything saved.
    """
    reporter = reporter or Reporter()
    preset = load_preset(preset_name_or_path, overrides)
    place = resolve_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    if place.type == "cpu":
        # Else some sums (a Swin's position table) depend on which thread comes first.
        torch.use_deterministic_algorithms(True)
        cast(Any, torch.utils.deterministic).fill_uninitialized_memory = False
    with resource_errors("training"):
        spare = spare_workers(place) if workers is None else workers
        data = TrainingData(preset, stores, seed, spare, pin_memory=place.type == "cuda")
        identity = RunIdentity(preset, seed, data.digests, _digest(weights))
        path = out or Path("runs") / f"{preset.name}-{seed}"
        if dry_run:
            check_run_folder(path, identity, fresh=fresh)
            module = _build(preset, seed, weights, None, reporter).to(place)
            return {"dry_run": True, "run": str(path), **_try_out(module, preset, data)}
        environment = environment_record(place)
        with open_run_folder(
            path,
            identity,
            command=command,
            environment=environment,
            fresh=fresh,
            say=reporter.say,
        ) as folder:
            if folder.report is not None:
                reporter.say(f"{path} is finished already; --fresh trains it again")
                return {**folder.report, "run": str(path)}
            resume = resume_point(folder, reporter.say)
            module = _build(preset, seed, weights, resume, reporter).to(place)
            trainer = Trainer(
                module,
                preset,
                data.draws,
                folder,
                seed=seed,
                resume=resume,
                reporter=reporter,
                describe=data.describe,
                facts={"K": data.K.tolist()},
                checkpoint_every=checkpoint_every,
            )
            final = trainer.run()
            if trainer.logbook.counters.loss is None:
                raise IntegrityError(f"{path}: no step had a finite loss and gradient")
            draw_curves(folder.metrics, folder.curves)
            report = _report(trainer, folder, final, preset, seed, environment["device"])
            folder.finish(report)
    return report


def spare_workers(device: torch.device) -> int:
    """Return how many loading processes help: none where training keeps every core busy.

    Training on the CPU waits for its slowest thread, so a worker that takes a core from it costs
    more than loading between the steps (on two cores 19% of a step against 10%).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    busy = 1 if device.type == "cuda" else torch.get_num_threads()
    return max(0, min(8 if device.type == "cuda" else 2, (cores or 1) - busy))


def format_report(report: dict[str, Any]) -> str:
    """Return a report of `train` as text for people."""
    if report.get("dry_run"):
        return (
            f"dry run: {report['parameters']:,} parameters, {report['items']:,} items, "
            f"{report['steps']:,} steps would go into {report['run']}; "
            f"first loss {report['first_loss']:.4f}"
        )
    lines = [
        f"trained {report['preset']} (seed {report['seed']}) for {report['steps']:,} steps "
        f"in {report['seconds'] / 60:.1f} min on {report['device']}",
        f"loss {report['loss']:.4f}, {report['seconds_per_step']:.3f} s a step, "
        f"{report['wait_share']:.0%} of it waiting for data",
    ]
    if report["bad_steps"]:
        lines.append(f"{report['bad_steps']} steps thrown away: loss or gradient not finite")
    lines += [f"possible collapse: {name} (step {at})" for name, at in report["collapse"].items()]
    return "\n".join([*lines, f"run folder {report['run']}", f"checkpoint {report['checkpoint']}"])


class TrainingData:
    """The streams of a preset over opened stores.

    Args:
        preset: Its streams, image size and steps.
        stores: Folders of stores.
        seed: Seed of the run.
        workers: Processes that load, shared out among the streams.
        pin_memory: Keep batches where a CUDA device fetches them fastest.

    Attributes:
        digests: SHA-256 of each store's manifest.
        K: Mean intrinsics of all drives, `3 3`, at the preset's image size.
        datasets: The stream of each name.

    Raises:
        DataError: If a store is missing, damaged, or lacks what a stream asks for.
    """

    def __init__(
        self,
        preset: Preset,
        stores: Sequence[Path],
        seed: int,
        workers: int,
        *,
        pin_memory: bool = False,
    ) -> None:
        if not stores:
            raise DataError("no store to train on; make one with 'unienc prepare-data'")
        opened = [Store(resolve_store(path, "train")) for path in stores]
        self.digests = tuple(store.digest for store in opened)
        self.K = _mean_intrinsics(opened, preset.image_size)
        self._end = preset.total_steps * preset.optimizer.accumulate
        self._seed = seed
        self.datasets = {
            name: TripletDataset(opened, spec, preset.image_size, seed=seed, name=name)
            for name, spec in preset.streams.items()
        }
        each = -(-workers // len(self.datasets))
        self._loaders = {
            name: StepLoader(dataset, workers=each, pin_memory=pin_memory)
            for name, dataset in self.datasets.items()
        }

    def draws(self, start: int) -> Iterator[dict[str, Batch]]:
        """Yield the draws of all streams from number `start` on."""
        streams = [loader.steps(start, self._end) for loader in self._loaders.values()]
        for batches in zip(*streams, strict=True):
            yield {name: batch for name, (_, batch) in zip(self._loaders, batches, strict=True)}

    def describe(self, draw: int) -> str:
        """Name the items of a draw: stream, drive and frame."""
        return "; ".join(
            f"{name}: " + ", ".join(self._item_name(name, draw, i) for i in range(data.batch_size))
            for name, data in self.datasets.items()
        )

    def _item_name(self, stream: str, draw: int, slot: int) -> str:
        data = self.datasets[stream]
        index = item_index(self._seed, stream, draw, slot, data.batch_size, len(data))
        for store in data.stores:
            triplets = store.triplets()
            if index < len(triplets):
                drive, target = triplets[index]
                return f"{store.path}/{store.drives[drive].name} frame {target}"
            index -= len(triplets)
        raise IndexError(index)


def _mean_intrinsics(stores: Sequence[Store], image_size: tuple[int, int]) -> np.ndarray:
    matrices = [
        resize_K(torch.from_numpy(store.column(i, "K")), drive.image_size, image_size).mean(0)
        for store in stores
        for i, drive in enumerate(store.drives)
    ]
    return torch.stack(matrices).mean(0).numpy()


def _build(
    preset: Preset, seed: int, weights: Path | None, resume: Checkpoint | None, reporter: Reporter
) -> TrainModule:
    """Build network and objective; a checkpoint's weights are loaded by the trainer."""
    network = build_network(
        preset, load_pretrained=resume is None, weights=weights, say=reporter.say, seed=seed
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        objective = Objective(preset)
    check_stages(network, objective, preset)
    return TrainModule(network, objective, preset)


def _try_out(module: TrainModule, preset: Preset, data: TrainingData) -> dict[str, Any]:
    """Run every stage forward and backward on one batch."""
    device = next(module.parameters()).device
    streams = to_device(next(iter(data.draws(0))), device)
    losses: list[float] = []
    for stage in preset.stages:
        apply_stage(module.network, stage)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            total, _ = module(streams, stage, StepContext(0, stage.steps_per_ramp))
        if not total.requires_grad:
            raise WiringError(f"stages.{stage.name}: no term depends on what the stage trains")
        total.backward()
        module.zero_grad()
        losses.append(total.item())
    return {
        "parameters": sum(p.numel() for p in module.network.parameters()),
        "items": sum(len(dataset) for dataset in data.datasets.values()),
        "steps": preset.total_steps,
        "first_loss": losses[0],
    }


def _report(
    trainer: Trainer, folder: RunFolder, final: Path, preset: Preset, seed: int, device: str
) -> dict[str, Any]:
    logbook = trainer.logbook
    return {
        "run": str(folder.path),
        "preset": preset.name,
        "seed": seed,
        "steps": logbook.counters.step,
        "loss": logbook.counters.loss,
        "checkpoint": str(final),
        "curves": str(folder.curves),
        "seconds": round(logbook.counters.seconds, 1),
        "seconds_per_step": round(logbook.counters.seconds / logbook.counters.step, 4),
        "wait_share": round(logbook.clock.wait_share, 4),
        "bad_steps": logbook.counters.bad_steps,
        "collapse": logbook.monitor.warnings,
        "device": device,
    }


def _digest(weights: Path | None) -> str | None:
    if weights is None:
        return None
    if not weights.is_file():
        raise DataError(f"{weights}: no such weights file")
    return sha256_file(weights)
