"""Training: the workflow behind every training verb."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch

from unienc_core.checkpoint import Checkpoint, list_checkpoints, load_checkpoint, step_of
from unienc_core.contracts import Reporter, StepContext
from unienc_core.device import resource_errors
from unienc_core.errors import DataError, IntegrityError, UsageError, WiringError
from unienc_core.files import sha256_file
from unienc_core.losses.objective import Objective
from unienc_core.models.network import build_network
from unienc_core.presets import Preset, load_preset, preset_from_dict
from unienc_core.training.distributed import World, shared_run_folder
from unienc_core.training.environment import environment_record
from unienc_core.training.initial import has_all_encoders, init_digest, start_from
from unienc_core.training.module import TrainModule
from unienc_core.training.run_dir import RunIdentity, check_run_folder
from unienc_core.training.run_record import CHECKPOINTS
from unienc_core.training.stages import apply_stage, check_stages, locate, part_of
from unienc_core.training.step import to_device
from unienc_core.training.trainer import Trainer, resume_point
from unienc_core.workflows.curves import draw_curves
from unienc_core.workflows.panels import Panels
from unienc_core.workflows.tracking import check_tracker, tracking
from unienc_core.workflows.train_report import format_report, make_report
from unienc_core.workflows.training_data import TrainingData, spare_workers

__all__ = ["format_report", "train"]

DEFAULT_PRESET = "unified-tiny"


def train(
    preset_name_or_path: str | None,
    stores: Sequence[Path],
    *,
    out: Path | None = None,
    overrides: Sequence[str] = (),
    stages: str | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    workers: int | None = None,
    fresh: bool = False,
    force_unlock: bool = False,
    dry_run: bool = False,
    weights: Path | None = None,
    init: Path | None = None,
    track: str | None = None,
    command: str = "",
    reporter: Reporter | None = None,
    checkpoint_every: int | None = None,
    world: World | None = None,
) -> dict[str, Any]:
    """Train a preset on stores into a run folder; the same call again resumes it, bit for bit.

    Of several processes (see `join_world`) each makes the same call, and the lead alone writes and
    reports.

    Args:
        preset_name_or_path: A shipped preset's name or a YAML file; None for that of `init`, or
            `DEFAULT_PRESET`.
        stores: Stores, or folders of ``prepare-data`` (their split `train` is used).
        out: Run folder; default: ``runs/<preset>-<seed>``, with `init` ``runs/<preset>-tuned-...``.
        overrides: ``path.to.key=value`` changes of the preset.
        stages: The part of the stages to do now, see `part_of`; the same call with a later part, or
            with none, goes on. Those before it must have been trained in this run folder, or are
            left out: then the weights of `init` enter at its first stage.
        seed: Decides weights, order, augmentation and all other chance.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads of torch in each process; default: as torch finds.
        workers: Processes that load data; the result does not depend on it. Default: as many as
            there are cores to spare.
        fresh: Start over instead of resuming.
        force_unlock: Take the run folder over from a process of another host that is gone.
        dry_run: Build everything and try one batch; write nothing.
        weights: Safetensors file that the pretrained encoder starts from.
        init: Checkpoint or run folder whose weights the network starts from; see `start_from`.
        track: Where curves and pictures go besides ``metrics.jsonl``: ``tensorboard`` (event files
            in the run folder), or None. It changes nothing in the weights.
        command: Command line that repeats the run, for the record.
        reporter: Told of progress and of what people should know.
        checkpoint_every: Steps between checkpoints; default: depends on the length of the run.
        world: The processes that share each batch; default: this one only.

    Returns:
        The run's report, JSON-able; see `format_report`.

    Raises:
        UsageError: If the request, the preset or the run folder does not fit.
        DataError: If a store or the weights cannot be read.
        ResourceError: If memory or disk runs out, or the run folder cannot be written.
        IntegrityError: If training diverged or no checkpoint of the run is intact.
        Interrupted: After SIGTERM or SIGINT, with everything saved.
    """
    world = world or World()
    reporter = (reporter if world.lead else None) or Reporter()
    check_tracker(track)
    started = _open_init(init, weights, reporter)
    preset = _choose_preset(preset_name_or_path, overrides, started)
    part = part_of(preset.stages, stages)
    place = world.device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    if place.type == "cpu":
        # Else some sums (a Swin's position table) depend on which thread comes first.
        torch.use_deterministic_algorithms(True)
        cast(Any, torch.utils.deterministic).fill_uninitialized_memory = False
    with resource_errors("training"):
        spare = spare_workers(place, world.local_size) if workers is None else workers
        pinned = place.type == "cuda"
        data = TrainingData(preset, stores, seed, spare, world=world, pin_memory=pinned)
        for line in data.summary():
            reporter.say(line)
        identity = RunIdentity(
            preset, seed, data.digests, _digest(weights), *_beginning(preset, started, part)
        )
        world.require_same(json.dumps([identity.record(), stages]), "a preset, seed or data")
        path = out or Path("runs") / f"{preset.name}{'-tuned' if started else ''}-{seed}"
        if world.lead and started is None:
            _check_reached(path, part, fresh)
        if dry_run:
            if world.lead:
                check_run_folder(path, identity, fresh=fresh)
            module = _build(preset, seed, weights, started, None, reporter).to(place)
            tried = _try_out(module, preset, data)
            return {"dry_run": True, "run": str(path), "steps": len(part), **tried}
        environment = environment_record(place, world.size)
        with shared_run_folder(
            world,
            path,
            identity,
            command=command,
            environment=environment,
            fresh=fresh,
            force_unlock=force_unlock,
            say=reporter.say,
        ) as folder:
            if folder.report is not None:
                reporter.say(f"{path} is finished already; --fresh trains it again")
                return folder.report
            resume = resume_point(folder, reporter.say, world)
            if stages and resume is not None and resume.step >= part.stop:
                reporter.say(f"{path} has these stages already: {stages}")
            module = _build(preset, seed, weights, started, resume, reporter).to(place)
            left_out = part.start if started else 0
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
                world=world,
                part=range(left_out, part.stop),
            )
            tracker = track if world.lead else None
            with tracking(tracker, trainer.logbook, folder, Panels(module, preset, data)) as watch:
                for step in trainer.steps():
                    watch(step)
            if trainer.logbook.counters.loss is None:
                raise IntegrityError(f"{path}: no step had a finite loss and gradient")
            report = make_report(trainer.logbook, preset, seed, environment["device"], left_out)
            if world.lead:
                draw_curves(folder.metrics, folder.curves)
                settle = folder.place if report["remaining_stages"] else folder.finish
                report = settle(report, list_checkpoints(folder.checkpoints)[-1])
            return world.share(report)


def _open_init(init: Path | None, weights: Path | None, reporter: Reporter) -> Checkpoint | None:
    if init is None:
        return None
    if weights is not None:
        raise UsageError("--init starts the whole network, --weights its encoder: give one of them")
    return load_checkpoint(init, reporter.say)


def _choose_preset(
    name_or_path: str | None, overrides: Sequence[str], started: Checkpoint | None
) -> Preset:
    if name_or_path is None and started is not None:
        return preset_from_dict(
            started.preset.model_dump(mode="json"), str(started.path), overrides
        )
    return load_preset(name_or_path or DEFAULT_PRESET, overrides)


def _beginning(
    preset: Preset, started: Checkpoint | None, part: range
) -> tuple[str | None, str | None]:
    """Return what a run has instead of a beginning of its own: weights, and the stage they enter.

    Either is None where the run begins as every other.
    """
    if started is None:
        return None, None
    first = preset.stages[locate(preset.stages, part.start).stage].name
    return init_digest(started), first if part.start else None


def _check_reached(path: Path, part: range, fresh: bool) -> None:
    """Refuse stages before which others have to be trained."""
    saved = [] if fresh else list_checkpoints(path / CHECKPOINTS)
    done = step_of(saved[-1]) if saved else 0
    if done < part.start:
        raise UsageError(
            f"{path}: has {done} steps, these stages begin after step {part.start}; train the ones "
            "before them first, or give by --init the weights that they start from"
        )


def _build(
    preset: Preset,
    seed: int,
    weights: Path | None,
    started: Checkpoint | None,
    resume: Checkpoint | None,
    reporter: Reporter,
) -> TrainModule:
    """Build network and objective; the weights to resume from are loaded by the trainer."""
    covered = resume is not None or (started is not None and has_all_encoders(started, preset))
    network = build_network(
        preset, load_pretrained=not covered, weights=weights, say=reporter.say, seed=seed
    )
    if started is not None and resume is None:
        start_from(network, started, reporter.say)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        objective = Objective(preset)
    check_stages(network, objective, preset)
    network.compile_nodes(preset)
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
        "first_loss": losses[0],
    }


def _digest(weights: Path | None) -> str | None:
    if weights is None:
        return None
    if not weights.is_file():
        raise DataError(f"{weights}: no such weights file")
    return sha256_file(weights)
