"""`unienc eval-seg`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from unienc_cli.console import emit, reported_when_partial, reporting
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
    Workers,
    processes,
    use_threads,
)


def eval_seg(
    store: Annotated[
        Path | None, typer.Argument(help="Store to evaluate a checkpoint on.", show_default=False)
    ] = None,
    checkpoint: Checkpoint = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Folder of predictions in an official format, instead of a checkpoint: JSON and "
            "PNGs (panoptic), *.txt and masks (instance), *_labelIds.png (semantic)."
        ),
    ] = None,
    ground_truth: Annotated[
        Path | None,
        typer.Option(help="Folder of ground truth: gtFine, or one with its panoptic JSON."),
    ] = None,
    task: Annotated[str, typer.Option(help="panoptic, instance or semantic.")] = "panoptic",
    protocol: Annotated[str, typer.Option(help="Whose rules: cityscapes.")] = "cityscapes",
    classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="YAML table of the classes (default: those of Cityscapes)."
        ),
    ] = None,
    absent: Annotated[
        str,
        typer.Option(
            "--absent-classes",
            help="Classes neither true nor predicted: skip (Cityscapes), or zero (count 0; NYU).",
        ),
    ] = "skip",
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing",
            help="Where pictures lack a prediction, or predictions a picture, score the others "
            "and exit with 4, not 3.",
        ),
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write the checkpoint's predictions in the official format."
        ),
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(help="Folder for a confusion matrix and the worst pictures.")
    ] = None,
    fail_under: FailUnder = None,
    fail_over: FailOver = None,
    device: Device = "auto",
    workers: Workers = None,
    threads: Threads = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score segmentation: a checkpoint on a store, or a folder of anybody's predictions."""
    use_threads(threads)
    from unienc_core.workflows import eval_seg as workflow

    limits = Limits(fail_under, fail_over, workflow.metric_names(task))

    def finish(report: dict[str, Any]) -> None:
        emit(report, as_json, workflow.format_report(report))
        if not dry_run:
            limits.check(report["metrics"])

    with reporting(quiet) as reporter, reported_when_partial(finish):
        report = workflow.eval_seg(
            store=store,
            checkpoint=checkpoint,
            predictions=predictions,
            ground_truth=ground_truth,
            task=task,
            protocol=protocol,
            classes=classes,
            absent=absent,
            allow_missing=allow_missing,
            export=export,
            plots=plots,
            device=device,
            workers=processes(workers, threads),
            force=force,
            dry_run=dry_run,
            reporter=reporter,
        )
    finish(report)
