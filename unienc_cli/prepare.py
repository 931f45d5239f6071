"""`unienc prepare-data`: make stores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from unienc_cli.console import SCHEMA, emit, reported_when_partial, reporting
from unienc_cli.options import (
    DEFAULT_DATA,
    DryRun,
    Force,
    Json,
    LookAhead,
    Quiet,
    Seed,
    Threads,
    Workers,
    parse_pair,
    processes,
    use_threads,
)

app = typer.Typer(help="Make stores from data sets, or render one.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command("synth-city")
def synth_city(
    out: Annotated[Path, typer.Option(help="Folder of the stores.")] = DEFAULT_DATA,
    train: Annotated[str, typer.Option(help="Drives x frames to train on.")] = "24x25",
    val: Annotated[str, typer.Option(help="Drives x frames to validate on.")] = "8x10",
    test: Annotated[str, typer.Option(help="Drives x frames to show and test on.")] = "1x75",
    size: Annotated[str, typer.Option(help="Height x width in pixels.")] = "96x320",
    supersample: Annotated[int, typer.Option(help="Samples per pixel and axis.", min=1)] = 2,
    noise: Annotated[float, typer.Option(help="Sensor noise, sd of 0..1.", min=0)] = 0.0075,
    shadows: Annotated[bool, typer.Option(help="Cast shadows (slower).")] = False,
    look_ahead: LookAhead = None,
    seed: Seed = 0,
    export_cityscapes: Annotated[
        Path | None,
        typer.Option(help="Write the same worlds here, too, as Cityscapes lays out its files."),
    ] = None,
    workers: Workers = None,
    threads: Threads = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Render a synthetic city with exact depth, poses, flow, motion and labels.

    Interrupted, it goes on where it stopped; repeated, it does nothing.
    """
    splits = {"train": train, "val": val, "test": test}
    counts = {name: parse_pair(text, f"--{name}") for name, text in splits.items()}
    image_size = parse_pair(size, "--size")
    use_threads(threads)

    from unienc_core.workflows.prepare import format_report, prepare_synth_city

    with reporting(quiet) as reporter:
        report = prepare_synth_city(
            out,
            splits=counts,
            image_size=image_size,
            supersample=supersample,
            noise=noise,
            shadows=shadows,
            look_ahead=look_ahead or (),
            seed=seed,
            export=export_cityscapes,
            workers=processes(workers, threads),
            force=force,
            dry_run=dry_run,
            reporter=reporter,
        )
    document = {"schema": SCHEMA, "verb": "prepare-data synth-city", **report}
    emit(document, as_json, format_report(report))


@app.command("video")
def video(
    clips: Annotated[list[Path], typer.Argument(help="Video files.")],
    out: Annotated[Path, typer.Option(help="Folder of the stores.")] = Path("data/drives"),
    intrinsics: Annotated[
        str | None,
        typer.Option("--K", metavar="FX,FY,CX,CY", help="Intrinsics in pixels of the clips."),
    ] = None,
    fov: Annotated[
        float | None,
        typer.Option(help="Horizontal field of view in degrees (default: 60).", min=1, max=179),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Height x width to store (default: the clip's own aspect, at most 640 wide).",
            show_default=False,
        ),
    ] = None,
    crop: Annotated[
        str,
        typer.Option(
            metavar="LEFT,TOP,RIGHT,BOTTOM", help="Pixels to cut off (a bonnet, a clock)."
        ),
    ] = "0,0,0,0",
    gap: Annotated[
        int | None,
        typer.Option(
            help="Frames between target and source (default: about 0.12 s).",
            min=1,
            show_default=False,
        ),
    ] = None,
    min_motion: Annotated[
        float,
        typer.Option(
            help="The camera stands where the picture moves less, in % of its width, from target "
            "to source; 0 keeps all frames.",
            min=0,
        ),
    ] = 0.1,
    split: Annotated[
        str, typer.Option(help="Shares of each clip in order of time: the tail is held out.")
    ] = "train=0.8,val=0.2",
    threads: Threads = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make triplets for self-supervised training out of your own drives.

    Drives end at scene cuts, at damage, and where the camera stands; black bars are cut off and
    the intrinsics follow. Interrupted, it goes on where it stopped; repeated, it does nothing.
    """
    image_size = None if size is None else parse_pair(size, "--size")
    use_threads(threads)

    from unienc_core.workflows.intrinsics import parse_camera
    from unienc_core.workflows.prepare_video import prepare_video
    from unienc_core.workflows.video_report import format_report
    from unienc_core.workflows.video_request import VideoRequest, parse_crop, parse_shares

    request = VideoRequest(
        camera=parse_camera(intrinsics, fov),
        image_size=image_size,
        crop=parse_crop(crop),
        gap=gap,
        min_motion=min_motion / 100,
        shares=parse_shares(split),
    )

    def emit_report(report: dict[str, Any]) -> None:
        document = {"schema": SCHEMA, "verb": "prepare-data video", **report}
        emit(document, as_json, format_report(report))

    with reporting(quiet) as reporter, reported_when_partial(emit_report):
        report = prepare_video(
            clips,
            out,
            request,
            threads=threads,
            force=force,
            dry_run=dry_run,
            reporter=reporter,
        )
    emit_report(report)
