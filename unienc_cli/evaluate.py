"""The evaluators."""

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


def eval_depth(
    store: Annotated[
        Path | None, typer.Argument(help="Store to evaluate a checkpoint on.", show_default=False)
    ] = None,
    checkpoint: Checkpoint = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Folder of predictions, instead of a checkpoint.")
    ] = None,
    ground_truth: Annotated[Path | None, typer.Option(help="Folder of true depths.")] = None,
    kind: Annotated[str, typer.Option(help="What --predictions hold: depth or disparity.")] = (
        "depth"
    ),
    protocol: Annotated[
        str,
        typer.Option(
            help="synth, kitti-eigen or cityscapes; without depth: photometric for triplets, "
            "odometry for poses."
        ),
    ] = "synth",
    scale: Annotated[
        str,
        typer.Option(
            help="median (per image), none, factor=F, camera_height=M (per image, from the ground "
            "it sees) or camera_height=store (as recorded)."
        ),
    ] = "median",
    intrinsics: Annotated[
        str | None,
        typer.Option(
            "--K", metavar="FX,FY,CX,CY", help="Intrinsics in pixels, for data that has none."
        ),
    ] = None,
    train_store: Annotated[
        Path | None, typer.Option(help="Store whose depths the baselines are made of.")
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(help="Folder for the worst, median and best frame.")
    ] = None,
    pose: Annotated[
        bool, typer.Option("--pose", help="Score the camera motion, too (a store with poses).")
    ] = False,
    fail_under: FailUnder = None,
    fail_over: FailOver = None,
    device: Device = "auto",
    threads: Threads = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score depth: a checkpoint on a store, or a folder of anybody's predictions."""
    use_threads(threads)
    from unienc_core.workflows import evaluate

    limits = Limits(fail_under, fail_over, evaluate.metric_names(protocol, pose))
    with reporting(quiet) as reporter:
        report = evaluate.eval_depth(
            store=store,
            checkpoint=checkpoint,
            predictions=predictions,
            ground_truth=ground_truth,
            kind=kind,
            protocol=protocol,
            scale=scale,
            intrinsics=intrinsics,
            train_store=train_store,
            plots=plots,
            pose=pose,
            device=device,
            force=force,
            dry_run=dry_run,
            reporter=reporter,
        )
    emit(report, as_json, evaluate.format_report(report))
    if not dry_run:
        limits.check(evaluate.figures(report))
