"""Training: the workflow behind every training verb."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch

from unienc_core.checkpoint import Checkpoint, list_checkpoints, step_of
from unienc_core.contracts import Reporter
from unienc_core.device import resource_errors
from unienc_core.errors import DataError, IntegrityError, UsageError
from unienc_core.files import sha256_file
from unienc_core.presets import Preset
from unienc_core.training.distributed import World, shared_run_folder
from unienc_core.training.environment import environment_record
from unienc_core.training.initial import weights_digest
from unienc_core.training.run_dir import RunIdentity, check_run_folder
from unienc_core.training.run_record import CHECKPOINTS
from unienc_core.training.stages import locate, part_of
from unienc_core.training.trainer import Trainer, resume_point
from unienc_core.training.validation import Holdout
from unienc_core.workflows.curves import draw_curves
from unienc_core.workflows.panels import Panels
from unienc_core.workflows.steering_scoring import validating
from unienc_core.workflows.tracking import check_tracker, tracking
from unienc_core.workflows.train_report import format_report, make_report
from unienc_core.workflows.training_data import TrainingData, spare_workers
from unienc_core.workflows.training_module import build_module
from unienc_core.workflows.training_request import open_request, open_teacher
from unienc_core.workflows.training_verbs import TRAIN_STUDENT, TrainingVerb
from unienc_core.workflows.trial import try_stages

__all__ = ["format_report", "train"]


def train(
    preset_name_or_path: str | None,
    stores: Sequence[Path],
    *,
    verb: TrainingVerb = TRAIN_STUDENT,
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
    teacher: Path | None = None,
    track: str | None = None,
    task_gradients: int | None = None,
    command: str = "",
    reporter: Reporter | None = None,
    checkpoint_every: int | None = None,
    world: World | None = None,
    holdout: Holdout | None = None,
) -> dict[str, Any]:
    """Train a preset on stores into a run folder; the same call again resumes it, bit for bit.

    Of several processes (see `join_world`) each makes the same call, and the lead alone writes and
    reports.

    Args:
        preset_name_or_path: A shipped preset's name or a YAML file; None for that of `init`, or
            that of the verb.
        stores: Stores, or folders of ``prepare-data`` (their split `train` is used).
        verb: What kind of preset is trained, and whether under a teacher.
        out: Run folder; default: ``runs/<preset>-<seed>``, with `teacher` ``<preset>-distilled-``,
            with `init` ``<preset>-tuned-``.
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
        teacher: Checkpoint or run folder whose predictions the network learns from, too; without
            one, the terms that need it are left out.
        track: Where curves and pictures go besides ``metrics.jsonl``: ``tensorboard`` (event files
            in the run folder), or None. It changes nothing in the weights.
        task_gradients: Steps from one measurement of how tasks pull at the encoders to the next,
            for the log; see `TaskGradients`. It changes nothing in the weights, either.
        command: Command line that repeats the run, for the record.
        reporter: Told of progress and of what people should know.
        checkpoint_every: Steps between checkpoints; default: depends on the length of the run.
        world: The processes that share each batch; default: this one only.
        holdout: What sequences to train on and to choose weights by: then the best ones by
            validation are kept in ``best`` of the run folder. Default: train on all, keep the last.

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
    request = open_request(
        verb,
        preset_name_or_path,
        overrides,
        weights=weights,
        init=init,
        teacher=teacher,
        reporter=reporter,
    )
    preset, started = request.preset, request.started
    part = part_of(preset.stages, stages)
    place = world.device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    if place.type == "cpu":
        # Else some sums (a Swin's position table) depend on which thread comes first.
        torch.use_deterministic_algorithms(True)
        cast(Any, torch.utils.deterministic).fill_uninitialized_memory = False
    with resource_errors("training"):
        taught_by = open_teacher(request, teacher, place, reporter)
        spare = spare_workers(place, world.local_size) if workers is None else workers
        pinned = place.type == "cuda"
        data = TrainingData(
            preset,
            stores,
            seed,
            spare,
            world=world,
            pin_memory=pinned,
            spans=holdout and holdout.train,
            caches=holdout.caches if holdout else (),
        )
        for line in data.summary():
            reporter.say(line)
        identity = RunIdentity(
            preset,
            seed,
            data.digests,
            _digest(weights),
            *_beginning(preset, started, part),
            teacher=taught_by.digest if taught_by else None,
            holdout=holdout and holdout.digest,
        )
        world.require_same(json.dumps([identity.record(), stages]), "a preset, seed or data")
        path = out or Path("runs") / f"{request.folder_name}-{seed}"
        if world.lead and started is None:
            _check_reached(path, part, fresh)
        if dry_run:
            if world.lead:
                check_run_folder(path, identity, fresh=fresh)
            module = build_module(preset, seed, weights, started, None, taught_by, reporter)
            module.to(place)
            tried = try_stages(
                module,
                preset,
                data,
                part,
                loads_itself=spare == 0,
                teacher=taught_by,
                progress=reporter.progress,
            )
            return {"dry_run": True, "run": str(path), "steps": part.stop - part.start, **tried}
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
            module = build_module(preset, seed, weights, started, resume, taught_by, reporter)
            module.to(place)
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
                facts={**data.facts, **request.facts},
                checkpoint_every=checkpoint_every,
                world=world,
                task_gradients=task_gradients,
                part=range(left_out, part.stop),
            )
            tracker = track if world.lead else None
            chooses = holdout if world.lead else None
            validate = validating(chooses, preset, data, trainer, folder, reporter.say)
            panels = Panels(trainer.network, preset, data)
            with tracking(tracker, trainer.logbook, folder, panels) as watch:
                for step in trainer.steps():
                    watch(step)
                    validate(step)
            if trainer.logbook.counters.loss is None:
                raise IntegrityError(f"{path}: no step had a finite loss and gradient")
            report = make_report(trainer.logbook, preset, seed, environment["device"], left_out)
            if world.lead:
                draw_curves(folder.metrics, folder.curves)
                settle = folder.place if report["remaining_stages"] else folder.finish
                report = settle(report, list_checkpoints(folder.checkpoints)[-1])
            return world.share(report)


def _beginning(
    preset: Preset, started: Checkpoint | None, part: range
) -> tuple[str | None, str | None]:
    """Return what a run has instead of a beginning of its own: weights, and the stage they enter.

    Either is None where the run begins as every other.
    """
    if started is None:
        return None, None
    first = preset.stages[locate(preset.stages, part.start).stage].name
    return weights_digest(started), first if part.start else None


def _check_reached(path: Path, part: range, fresh: bool) -> None:
    """Refuse stages before which others have to be trained."""
    saved = [] if fresh else list_checkpoints(path / CHECKPOINTS)
    done = step_of(saved[-1]) if saved else 0
    if done < part.start:
        raise UsageError(
            f"{path}: has {done} steps, these stages begin after step {part.start}; train the ones "
            "before them first, or give by --init the weights that they start from"
        )


def _digest(weights: Path | None) -> str | None:
    if weights is None:
        return None
    if not weights.is_file():
        raise DataError(f"{weights}: no such weights file")
    return sha256_file(weights)
