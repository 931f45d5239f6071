"""`unienc finetune-steering`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from unienc_cli.console import emit, reporting
from unienc_cli.options import (
    MAX_WORKERS,
    Device,
    DryRun,
    Fresh,
    Json,
    Loaders,
    Quiet,
    Seed,
    Sets,
    Threads,
    use_threads,
)
from unienc_core.workflows.training_verbs import FINETUNE_STEERING


def finetune_steering(
    stores: Annotated[
        list[Path], typer.Argument(help="Stores with a steering label, divided into folds.")
    ],
    init: Annotated[
        Path | None,
        typer.Option(help="Checkpoint or run folder whose encoder to use.", show_default=False),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="A preset's name, or a YAML file (default: with --init the head of "
            f"{FINETUNE_STEERING.preset} on the encoder of the checkpoint).",
            show_default=False,
        ),
    ] = None,
    folds: Annotated[int, typer.Option(help="Folds of the cross-test.", min=2, max=1000)] = 10,
    fold: Annotated[
        int | None,
        typer.Option(help="Do this fold only, from 0; without it, all.", show_default=False),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="recordings|blocks",
            help="Fold by whole recordings, or by blocks of them (default: recordings, where there "
            "are enough).",
            show_default=False,
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="Steering label to learn, such as curvature_5m or steering_unit (default: that of "
            "the preset).",
            show_default=False,
        ),
    ] = None,
    grids: Annotated[
        Path | None,
        typer.Option(
            help="Folder of what a frozen encoder makes of the stores, shared by runs (default: in "
            "the run folder).",
            show_default=False,
        ),
    ] = None,
    validate_every: Annotated[
        int | None,
        typer.Option(
            metavar="STEPS",
            help="Steps between validations, a multiple of 10 (default: a tenth of the run).",
            min=1,
            show_default=False,
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            help="Frames from one tested window to the next (default: its length, the protocol's "
            "chunks).",
            min=1,
            show_default=False,
        ),
    ] = None,
    versus: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Finished run over the same folds, whose test errors to compare, with a sign "
            "test; once all is trained, this takes seconds.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            help="Folds at a time, each in a process with its share of --threads.",
            min=1,
            max=MAX_WORKERS,
        ),
    ] = 1,
    sets: Sets = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the folds (default: in ./runs, by preset and seed)."),
    ] = None,
    device: Device = "auto",
    seed: Seed = 0,
    threads: Threads = None,
    workers: Loaders = None,
    weights: Annotated[
        Path | None, typer.Option(help="Safetensors file to start a pretrained encoder from.")
    ] = None,
    fresh: Fresh = False,
    force_unlock: Annotated[
        bool,
        typer.Option(
            "--force-unlock", help="Take the folds over from a host that is gone for certain."
        ),
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a steering head on sequences, fold by fold; the same command again goes on."""
    use_threads(threads)
    from unienc_core.workflows import finetune_steering as workflow
    from unienc_core.workflows.steering_report import format_report
    from unienc_core.workflows.train_report import format_report as format_trial

    with reporting(quiet) as reporter:
        report = workflow.finetune_steering(
            preset,
            stores,
            folding=workflow.Folding(folds, workflow.division(by), fold),
            label=label,
            init=init,
            weights=weights,
            grids=grids,
            validate_every=validate_every,
            stride=stride,
            versus=versus,
            jobs=jobs,
            out=out,
            overrides=sets or [],
            seed=seed,
            device=device,
            threads=threads,
            workers=workers,
            fresh=fresh,
            force_unlock=force_unlock,
            dry_run=dry_run,
            command=shlex.join(["unienc", *sys.argv[1:]]),
            reporter=reporter,
        )
    emit(report, as_json, format_trial(report) if dry_run else format_report(report))
