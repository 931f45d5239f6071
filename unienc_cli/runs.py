"""`unienc runs`: look at run folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unienc_cli.console import SCHEMA, emit, table
from unienc_cli.options import Json, Quiet

app = typer.Typer(help="Look at training runs.", no_args_is_help=True)


@app.command("ls")
def ls(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of run folders (default: runs).")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List runs: how far each is, its state, its last loss and its score, the newest last."""
    del quiet  # nothing is said but the result, here and below
    from unienc_core.workflows.inspect_runs import list_runs
    from unienc_core.workflows.runs_report import LIST_HEADER, list_remarks, list_rows

    found = list_runs(folder)
    rows, remarks = list_rows(found), list_remarks(found)
    text = [table(LIST_HEADER, rows)] if rows else []
    emit({"schema": SCHEMA, "verb": "runs ls", **found}, as_json, "\n".join([*text, *remarks]))


@app.command("show")
def show(
    run: Annotated[Path, typer.Argument(help="A run folder, or the name of one in ./runs.")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what a run is, where it came from, what it last logged and what it saved."""
    del quiet
    from unienc_core.workflows.inspect_runs import describe_run
    from unienc_core.workflows.runs_report import format_run

    found = describe_run(run)
    emit({"schema": SCHEMA, "verb": "runs show", **found}, as_json, format_run(found))
