"""`unienc bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unienc_cli.console import SCHEMA, emit, reporting
from unienc_cli.options import Device, DryRun, Json, Quiet, Sets, Threads, use_threads


def bench(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            help="gemm, inference, training, memory, render, store, loader, video (default: all)."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="A preset's name, or a YAML file (default: unified-tiny).", show_default=False
        ),
    ] = None,
    sets: Sets = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A trained system, in place of a preset.")
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(help="Images to read and train on (default: a small city, rendered)."),
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A look at everything in seconds; rough figures.")
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure this machine, and each part of a system against what the machine can do."""
    use_threads(threads)
    from unienc_core.workflows.bench.report import format_report
    from unienc_core.workflows.bench.run import bench as measure

    with reporting(quiet) as reporter:
        report = measure(
            parts or [],
            preset=preset,
            overrides=sets or [],
            checkpoint=checkpoint,
            store=store,
            device=device,
            threads=threads,
            quick=quick,
            dry_run=dry_run,
            reporter=reporter,
        )
    emit({"schema": SCHEMA, "verb": "bench", **report}, as_json, format_report(report))
