"""The training verbs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from unienc_cli.console import SCHEMA, emit, reporting
from unienc_cli.options import (
    DEFAULT_DATA,
    Device,
    DryRun,
    Json,
    Preset,
    Quiet,
    Seed,
    Sets,
    Threads,
    use_threads,
)


def train_student(
    stores: Annotated[
        list[Path] | None,
        typer.Argument(help="Stores to train on (default: data/synth-city, made if absent)."),
    ] = None,
    preset: Preset = "unified-tiny",
    sets: Sets = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder (default: runs/<preset>-<seed>).")
    ] = None,
    device: Device = "auto",
    seed: Seed = 0,
    threads: Threads = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that load data (default: cores to spare).", min=0, show_default=False
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Safetensors file to start the encoder from.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over instead of resuming.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a network from a preset; the same command again resumes it, bit for bit."""
    use_threads(threads)
    from unienc_core.workflows.train import format_report, train

    with reporting(quiet) as reporter:
        if not stores:
            stores = [DEFAULT_DATA]
            if not DEFAULT_DATA.exists():
                from unienc_core.workflows.prepare import prepare_synth_city

                reporter.say(f"no store given and no {DEFAULT_DATA}: rendering one")
                prepare_synth_city(DEFAULT_DATA, reporter=reporter)
        report = train(
            preset,
            stores,
            out=out,
            overrides=sets or [],
            seed=seed,
            device=device,
            threads=threads,
            workers=workers,
            weights=weights,
            fresh=fresh,
            dry_run=dry_run,
            command=shlex.join(["unienc", *sys.argv[1:]]),
            reporter=reporter,
        )
    emit({"schema": SCHEMA, "verb": "train-student", **report}, as_json, format_report(report))
