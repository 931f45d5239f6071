"""`unienc infer-video`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from unienc_cli.console import SCHEMA, emit, reported_when_partial, reporting
from unienc_cli.options import (
    Checkpoint,
    Device,
    DryRun,
    Force,
    Json,
    Quiet,
    SteeringRatio,
    Threads,
    Wheelbase,
    use_threads,
)

INPUTS = (
    "Videos, pictures, a folder or quoted pattern of either (pictures make one stream in natural "
    "order), @LIST (a file with one name a line, relative to it), - (a video piped in), a number "
    "(webcam), or stores."
)
MOMENT = "a frame number (250), or a time (12.5s, 1:30, 1:02:03.5)."


def infer_video(
    inputs: Annotated[list[str], typer.Argument(help=INPUTS, metavar="INPUT...")],
    out: Annotated[
        Path | None,
        typer.Option(help="Output file; a folder for several inputs.", show_default=False),
    ] = None,
    checkpoint: Checkpoint = None,
    sink: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="What to write, with commas: mp4 (annotated; a single picture becomes a PNG), "
            "png16 (depth x 256, a folder), npz (a folder), h5, jsonl, ply (point clouds, a "
            "folder).",
        ),
    ] = "mp4",
    outputs: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="What to compute, with commas: depth, motion (the camera's), flow and mask (what "
            "moves by itself), semantic, instance, panoptic, steering (default: all that the "
            "network can say).",
        ),
    ] = None,
    start: Annotated[
        str | None, typer.Option(metavar="MOMENT", help=f"First frame: {MOMENT}")
    ] = None,
    stop: Annotated[
        str | None, typer.Option(metavar="MOMENT", help="Frame before which to stop, likewise.")
    ] = None,
    stride: Annotated[int, typer.Option(help="Take every n-th frame.", min=1)] = 1,
    fps: Annotated[
        str | None,
        typer.Option(metavar="RATE", help="Pictures a second, for pictures (default: 25)."),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            help="Depth in metres: camera_height=M (m above the road, found in each frame), "
            "factor=F, or none (it is already). Default: up to scale.",
        ),
    ] = None,
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
    max_depth: Annotated[
        float | None,
        typer.Option(
            metavar="Z",
            help="Farthest point of ply, in the unit of depth (default: 80 m; up to scale, 8 "
            "median depths of the first frame).",
            show_default=False,
        ),
    ] = None,
    camera_height: Annotated[
        float | None,
        typer.Option(
            metavar="M",
            help="Height of the camera above the road in m, for the path that steering draws "
            "(default: that of --scale, of the store, or 1.5).",
            show_default=False,
        ),
    ] = None,
    horizon: Annotated[
        float | None,
        typer.Option(
            metavar="ROW",
            help="Row of the input, in px, at which a flat road would end, for that path "
            "(default: that of the principal point: the camera is level).",
            show_default=False,
        ),
    ] = None,
    steering_ratio: SteeringRatio = None,
    wheelbase: Wheelbase = None,
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

    request = infer.VideoRequest(
        sinks=sink,
        outputs=outputs,
        start=start,
        stop=stop,
        stride=stride,
        fps=fps,
        scale=scale,
        intrinsics=intrinsics,
        fov=fov,
        drive=drive,
        max_depth=max_depth,
        camera_height=camera_height,
        horizon=horizon,
        steering_ratio=steering_ratio,
        wheelbase=wheelbase,
    )
    with reporting(quiet) as reporter, reported_when_partial(emit_report):
        report = infer.infer_video(
            inputs,
            request=request,
            out=out,
            checkpoint=checkpoint,
            device=device,
            force=force,
            dry_run=dry_run,
            reporter=reporter,
        )
    emit_report(report)
