"""The training verbs: one list of options, and one workflow behind it."""

from __future__ import annotations

import inspect
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from unienc_cli.console import SCHEMA, emit, reporting
from unienc_cli.options import (
    DEFAULT_DATA,
    Device,
    DryRun,
    Fresh,
    Json,
    Loaders,
    Quiet,
    Seed,
    Sets,
    Threads,
    use_threads,
)
from unienc_core.workflows.training_verbs import (
    DISTILL,
    TRAIN_STUDENT,
    TRAIN_TEACHER,
    TrainingVerb,
)

if TYPE_CHECKING:
    from unienc_core.contracts import Reporter


def _train(
    verb: TrainingVerb,
    *,
    stores: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Stores to train on, each for the streams of the preset that it serves (default: "
            "data/synth-city, made if absent)."
        ),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint or run folder of the network to learn from; it must see images of the "
            "same size."
        ),
    ] = None,
    preset: str | None = None,  # its help names the verb's default, see `_verb`
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
        Path | None, typer.Option(help="Run folder (default: in ./runs, by preset and seed).")
    ] = None,
    device: Device = "auto",
    seed: Seed = 0,
    threads: Threads = None,
    workers: Loaders = None,
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
    task_gradients: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Every N steps log the gradients of the tasks at each encoder: their norms, and "
            "the cosines between them.",
            min=1,
            show_default=False,
        ),
    ] = None,
    fresh: Fresh = False,
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
    use_threads(threads)
    from unienc_core.contracts import Reporter
    from unienc_core.training.distributed import join_world
    from unienc_core.workflows.train import format_report, train
    from unienc_core.workflows.training_request import open_request, open_teacher

    with (
        join_world(device) as world,
        reporting(quiet or not world.lead) as reporter,
        ExitStack() as stack,
    ):
        if not stores:
            # A slip shows before a city is rendered.
            request = open_request(
                verb, preset, sets or [], weights=weights, init=init, teacher=teacher
            )
            open_teacher(request, teacher, "cpu", Reporter())
            stores = [stack.enter_context(_default_store(dry_run, world.lead, reporter))]
            world.agree(0)  # the others wait for it
        report = train(
            preset,
            stores,
            verb=verb,
            out=out,
            overrides=sets or [],
            stages=stages,
            seed=seed,
            device=device,
            threads=threads,
            workers=workers,
            weights=weights,
            init=init,
            teacher=teacher,
            track=track,
            task_gradients=task_gradients,
            fresh=fresh,
            force_unlock=force_unlock,
            dry_run=dry_run,
            command=shlex.join(["unienc", *sys.argv[1:]]),
            reporter=reporter,
            world=world,
        )
    if world.lead:
        emit({"schema": SCHEMA, "verb": verb.name, **report}, as_json, format_report(report))


def _verb(verb: TrainingVerb, text: str) -> Callable[..., None]:
    """Return the command of a training verb: the options of `_train`, as far as they are its own.

    Args:
        verb: The verb; only one with a teacher has the option, and must be given it.
        text: What its help says.
    """

    def command(**options: Any) -> None:
        _train(verb, **options)

    signature = inspect.signature(_train, eval_str=True)
    parameters = dict(signature.parameters)
    del parameters["verb"]
    if verb.has_teacher:
        parameters["teacher"] = parameters["teacher"].replace(default=inspect.Parameter.empty)
    else:
        del parameters["teacher"]
    explained = typer.Option(
        help=f"A preset's name, or a YAML file (default: {verb.preset}; with --init that of the "
        "checkpoint).",
        show_default=False,
    )
    named = Annotated[str | None, explained]
    parameters["preset"] = parameters["preset"].replace(annotation=named)
    command.__doc__ = text
    cast(Any, command).__signature__ = signature.replace(parameters=list(parameters.values()))
    return command


train_teacher = _verb(
    TRAIN_TEACHER,
    "Train a network that is to teach others; the same command again resumes it, bit for bit.",
)
train_student = _verb(
    TRAIN_STUDENT,
    "Train a network from a preset; the same command again resumes it, bit for bit.",
)
distill = _verb(
    DISTILL,
    "Train a network that also learns from the predictions of a trained one, on the same images.",
)


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
