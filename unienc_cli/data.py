"""`unienc data`: look at stores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unienc_cli.console import SCHEMA, emit
from unienc_cli.options import Json

app = typer.Typer(help="Look at stores.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command("show")
def show(
    store: Annotated[Path, typer.Argument(help="A store, or a folder of stores.")],
    verify: Annotated[bool, typer.Option(help="Hash every shard as well.")] = False,
    as_json: Json = False,
) -> None:
    """Say what a store holds: drives, frames, keys with units, and where it came from."""
    from unienc_core.workflows.inspect_data import describe_store, format_description

    description = describe_store(store, verify=verify)
    document = {"schema": SCHEMA, "verb": "data show", **description}
    emit(document, as_json, format_description(description))
