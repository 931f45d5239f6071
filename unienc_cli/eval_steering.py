"""`unienc eval-steering`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unienc_cli.console import emit, reporting
from unienc_cli.limits import Limits
from unienc_cli.options import (
    Checkpoint,
    Device,
    DryRun,
    FailOver,
    FailUnder,
    Force,
    Json,
    Quiet,
    Threads,
    use_threads,
)


def eval_steering(
    store: Annotated[Path, typer.Argument(help="Store with a steering label.")],
    checkpoint: Checkpoint = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="CSV of anyone's predictions in place of a checkpoint: frame,value of a store of "
            "one drive, or drive,frame,value; left positive, in the label's unit.",
            show_default=False,
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="The label that --predictions are about (default: curvature, or the only one).",
            show_default=False,
        ),
    ] = None,
    train_store: Annotated[
        Path | None,
        typer.Option(
            help="Store whose mean label is the baseline train_mean (default: 'train' beside the "
            "scored one).",
            show_default=False,
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            help="Frames from one window to the next (default: its length, the protocol's chunks).",
            min=1,
            show_default=False,
        ),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            help="Folder for a picture of predictions over the truth along time.",
            show_default=False,
        ),
    ] = None,
    fail_under: FailUnder = None,
    fail_over: FailOver = None,
    device: Device = "auto",
    threads: Threads = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score steering: a checkpoint on a store, or predictions in a CSV, with baselines beside."""
    use_threads(threads)
    from unienc_core.workflows import eval_steering as workflow

    limits = Limits(fail_under, fail_over, workflow.METRICS)
    with reporting(quiet) as reporter:
        report = workflow.eval_steering(
            store,
            checkpoint=checkpoint,
            predictions=predictions,
            label=label,
            train_store=train_store,
            stride=stride,
            plots=plots,
            device=device,
            force=force,
            dry_run=dry_run,
            reporter=reporter,
        )
    emit(report, as_json, workflow.format_report(report))
    if not dry_run:
        limits.check(report["metrics"])
