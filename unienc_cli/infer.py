"""`unienc infer-video`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from unienc_cli.console import SCHEMA, emit, reported_when_partial, reporting
from unienc_cli.options import Checkpoint, Device, DryRun, Force, Json, Quiet, Threads, use_threads


def infer_video(
    inputs: Annotated[list[Path], typer.Argument(help="Videos, or stores.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Output file; a folder for several inputs.", show_default=False),
    ] = None,
    checkpoint: Checkpoint = None,
    intrinsics: Annotated[
        str | None,
        typer.Option("--K", metavar="FX,FY,CX,CY", help="Intrinsics in pixels of the input."),
    ] = None,
    fov: Annotated[
        float | None, typer.Option(help="Horizontal field of view in degrees.", min=1, max=179)
    ] = None,
    drive: Annotated[
        str | None, typer.Option(help="Drive of a store (default: its first).", show_default=False)
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Annotate driving video with everything the network sees; writes ./<stem>_unienc.mp4."""
    use_threads(threads)
    from unienc_core.workflows import infer

    def emit_report(report: dict[str, Any]) -> None:
        document = {"schema": SCHEMA, "verb": "infer-video", **report}
        emit(document, as_json, infer.format_report(report))

    with reporting(quiet) as reporter, reported_when_partial(emit_report):
        report = infer.infer_video(
            inputs,
            out=out,
            checkpoint=checkpoint,
            drive=drive,
            intrinsics=intrinsics,
            fov=fov,
            device=device,
            force=force,
            dry_run=dry_run,
            reporter=reporter,
        )
    emit_report(report)
