"""`unienc eval-motion`."""

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


def eval_motion(
    store: Annotated[
        Path | None, typer.Argument(help="Store to evaluate a checkpoint on.", show_default=False)
    ] = None,
    checkpoint: Checkpoint = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="Which pixels have depth and flow that count: synth, kitti-eigen or cityscapes."
        ),
    ] = "synth",
    plots: Annotated[
        Path | None,
        typer.Option(
            help="Folder for precision over recall, and the worst, median and best triplet."
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
    """Score scene flow and motion mask of a checkpoint, and depth where something moves."""
    use_threads(threads)
    from unienc_core.workflows import eval_motion as workflow

    limits = Limits(fail_under, fail_over, workflow.metric_names())
    with reporting(quiet) as reporter:
        report = workflow.eval_motion(
            store=store,
            checkpoint=checkpoint,
            protocol=protocol,
            plots=plots,
            device=device,
            force=force,
            dry_run=dry_run,
            reporter=reporter,
        )
    emit(report, as_json, workflow.format_report(report))
    if not dry_run:
        limits.check(workflow.figures(report))
