"""`unienc data`: look at stores, and look for what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unienc_cli.console import SCHEMA, emit, reporting
from unienc_cli.options import Json, Quiet, Threads
from unienc_core.errors import DataError

app = typer.Typer(help="Look at stores, and check them.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command("show")
def show(
    store: Annotated[Path, typer.Argument(help="A store, or a folder of stores.")],
    verify: Annotated[bool, typer.Option(help="Hash every shard as well.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what a store holds: drives, frames, keys with units, and where it came from."""
    del quiet  # there is nothing to leave out
    from unienc_core.workflows.inspect_data import describe_store, format_description

    description = describe_store(store, verify=verify)
    document = {"schema": SCHEMA, "verb": "data show", **description}
    emit(document, as_json, format_description(description))


@app.command("check")
def check(
    paths: Annotated[list[Path], typer.Argument(help="Stores, or folders of images.")],
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Look through every frame for damage, nonsense and leaks; exit 3 with a list if there are any.

    Stores given together are compared by content: a drive must not be in two splits.
    """
    from unienc_core.workflows.check_data import check_data, format_check

    with reporting(quiet) as reporter:
        report = check_data(paths, workers=threads, reporter=reporter)
    emit({"schema": SCHEMA, "verb": "data check", **report}, as_json, format_check(report))
    if not report["ok"]:
        count = len(report["findings"])
        number = f"{count} finding{'s' if count > 1 else ''}"
        error = DataError(f"something is wrong with these data: {number}, listed above")
        error.reported = True  # the report is the one document on stdout
        raise error
