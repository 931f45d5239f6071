"""The training verbs."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unienc_cli.console import SCHEMA, emit, reporting
from unienc_cli.options import (
    DEFAULT_DATA,
    MAX_WORKERS,
    Device,
    DryRun,
    Json,
    Quiet,
    Seed,
    Sets,
    Threads,
    use_threads,
)

if TYPE_CHECKING:
    from unienc_core.contracts import Reporter


def train_student(
    stores: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Stores to train on, each for the streams of the preset that it serves (default: "
            "data/synth-city, made if absent)."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="A preset's name, or a YAML file (default: unified-tiny; with --init that of the "
            "checkpoint).",
            show_default=False,
        ),
    ] = None,
    sets: Sets = None,
    stages: Annotated[
        str | None,
        typer.Option(
            metavar="PART",
            help="Train a part of the preset's stages now: 1..3, 2, or a name. The same command "
            "with a later part, or without one, goes on.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder (default: runs/<preset>-<seed>).")
    ] = None,
    device: Device = "auto",
    seed: Seed = 0,
    threads: Threads = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that load data (default: cores to spare).",
            min=0,
            max=MAX_WORKERS,
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Safetensors file to start the encoder from.")
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(help="Checkpoint or run folder whose weights to start from: fine-tuning."),
    ] = None,
    track: Annotated[
        str | None,
        typer.Option(
            metavar="tensorboard",
            help="Write curves and pictures for TensorBoard into the run folder, too.",
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over instead of resuming.")] = False,
    force_unlock: Annotated[
        bool,
        typer.Option(
            "--force-unlock", help="Take the run over from a host that is gone for certain."
        ),
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a network from a preset; the same command again resumes it, bit for bit."""
    use_threads(threads)
    from unienc_core.presets import load_preset
    from unienc_core.training.distributed import join_world
    from unienc_core.workflows.train import format_report, train

    with (
        join_world(device) as world,
        reporting(quiet or not world.lead) as reporter,
        ExitStack() as stack,
    ):
        if not stores:
            if preset is not None:
                load_preset(preset, sets or [])  # a slip shows before a city is rendered
            stores = [stack.enter_context(_default_store(dry_run, world.lead, reporter))]
            world.agree(0)  # the others wait for it
        report = train(
            preset,
            stores,
            out=out,
            overrides=sets or [],
            stages=stages,
            seed=seed,
            device=device,
            threads=threads,
            workers=workers,
            weights=weights,
            init=init,
            track=track,
            fresh=fresh,
            force_unlock=force_unlock,
            dry_run=dry_run,
            command=shlex.join(["unienc", *sys.argv[1:]]),
            reporter=reporter,
            world=world,
        )
    if world.lead:
        emit({"schema": SCHEMA, "verb": "train-student", **report}, as_json, format_report(report))


@contextmanager
def _default_store(dry_run: bool, is_lead: bool, reporter: Reporter) -> Iterator[Path]:
    """Give the default store, rendered where it is absent; a dry run gets a small stand-in."""
    from unienc_core.workflows.prepare import prepare_synth_city

    if DEFAULT_DATA.exists() or not (dry_run or is_lead):
        yield DEFAULT_DATA
    elif dry_run:
        reporter.say(f"no store given and no {DEFAULT_DATA}: trying a small one in its place")
        with tempfile.TemporaryDirectory() as folder:
            city = Path(folder) / "city"
            prepare_synth_city(city, splits={"train": (1, 4)}, image_size=(64, 96), workers=1)
            yield city
    else:
        reporter.say(f"no store given and no {DEFAULT_DATA}: rendering one")
        prepare_synth_city(DEFAULT_DATA, reporter=reporter)
        yield DEFAULT_DATA
