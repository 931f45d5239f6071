"""`unienc prepare-data`: make stores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unienc_cli.console import SCHEMA, emit, reporting
from unienc_cli.options import DEFAULT_DATA, DryRun, Force, Json, Quiet, Seed, parse_pair

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
    seed: Seed = 0,
    workers: Annotated[
        int | None, typer.Option(help="Processes (default: one per core).", min=1)
    ] = None,
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

    from unienc_core.workflows.prepare import format_report, prepare_synth_city

    with reporting(quiet) as reporter:
        report = prepare_synth_city(
            out,
            splits=counts,
            image_size=image_size,
            supersample=supersample,
            noise=noise,
            shadows=shadows,
            seed=seed,
            workers=workers,
            force=force,
            dry_run=dry_run,
            reporter=reporter,
        )
    emit({"schema": SCHEMA, "verb": "prepare-data", **report}, as_json, format_report(report))
