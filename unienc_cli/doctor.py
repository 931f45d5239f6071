"""`unienc doctor`: what this machine has, and what it lacks."""

from __future__ import annotations

import typer

from unienc_cli.console import SCHEMA, emit
from unienc_cli.options import Json, Quiet


def doctor(as_json: Json = False, quiet: Quiet = False) -> None:
    """Say what this machine has, what is missing, and the remedy; exit 3 if it cannot work."""
    del quiet  # nothing is said but the result
    from unienc_core.workflows.doctor import examine, format_examination

    found = examine()
    emit({"schema": SCHEMA, "verb": "doctor", **found}, as_json, format_examination(found))
    if not found["ok"]:
        raise typer.Exit(3)
