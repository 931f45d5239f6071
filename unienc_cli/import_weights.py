"""The verb that takes in weights which others trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unienc_cli.console import SCHEMA, emit, reporting
from unienc_cli.options import DryRun, Force, Json, Quiet, Seed, Sets


def import_weights(
    source: Annotated[
        Path,
        typer.Argument(
            help="OneFormer of transformers, or Swin or ResNet of torchvision or timm: "
            ".safetensors, .pth, .pt or .bin."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Run folder to make.")],
    preset: Annotated[
        str, typer.Option(help="Whose network is filled; its sizes must be those of the weights.")
    ] = "oneformer-cityscapes",
    sets: Sets = None,
    seed: Seed = 0,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn weights that others trained into a checkpoint, to use or to go on training from."""
    from unienc_core.workflows.import_weights import import_weights as work

    with reporting(quiet) as reporter:
        report = work(
            source,
            out,
            preset=preset,
            overrides=sets or [],
            seed=seed,
            force=force,
            dry_run=dry_run,
            reporter=reporter,
        )
    emit(
        {"schema": SCHEMA, "verb": "import-weights", **report},
        as_json,
        f"checkpoint {report['checkpoint'] or '(dry run)'}: {', '.join(report['imported'])} of "
        f"{report['preset']}",
    )
