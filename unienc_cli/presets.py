"""`unienc presets`: list, show, check and copy presets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unienc_cli.console import SCHEMA, emit, table
from unienc_cli.options import Force, Json, Quiet, Sets
from unienc_core.errors import ResourceError, UsageError

app = typer.Typer(help="List, show, check and copy presets.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="A preset's name, or a YAML file.")]


@app.command("ls")
def ls(as_json: Json = False, quiet: Quiet = False) -> None:
    """List the shipped presets."""
    del quiet  # nothing is said but the result, here and below
    from unienc_core.presets import load_preset, preset_names

    found = [load_preset(name) for name in preset_names()]
    rows = [[p.name, "x".join(map(str, p.image_size)), p.description] for p in found]
    document = {
        "schema": SCHEMA,
        "verb": "presets ls",
        "presets": [
            {"name": p.name, "image_size": p.image_size, "description": p.description}
            for p in found
        ],
    }
    lines = [f"{name:<34} {size:>9}  {text}" for name, size, text in rows]
    emit(document, as_json, "\n".join(lines))


@app.command("show")
def show(name: Name, sets: Sets = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Print a preset with every default and override written out."""
    del quiet
    from unienc_core.presets import dump_preset, load_preset

    preset = load_preset(name, sets or [])
    document = {"schema": SCHEMA, "verb": "presets show", "preset": preset.model_dump(mode="json")}
    emit(document, as_json, dump_preset(preset).rstrip())


@app.command("check")
def check(name: Name, sets: Sets = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Build a preset's network and objective, and count its parameters."""
    del quiet
    from unienc_core.presets import load_preset
    from unienc_core.workflows.inspect_preset import check_preset

    counts = check_preset(load_preset(name, sets or []))
    rows = [[node, f"{count:,}"] for node, count in counts.items()]
    rows.append(["total", f"{sum(counts.values()):,}"])
    document = {"schema": SCHEMA, "verb": "presets check", "preset": name, "parameters": counts}
    emit(document, as_json, table(["node", "parameters"], rows))


@app.command("cp")
def cp(
    name: Name,
    to: Annotated[Path, typer.Argument()],
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Copy a preset to a file of your own."""
    from unienc_core.presets import preset_text
    from unienc_core.safe_yaml import parse_yaml

    text, _ = preset_text(name)
    if to.exists() and not force:
        raise UsageError(f"{to} exists: choose another name, or --force")
    parse_yaml(text, str(name))
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ResourceError(f"{to}: cannot be written: {error.strerror}") from None
    document = {"schema": SCHEMA, "verb": "presets cp", "preset": name, "path": str(to)}
    if as_json or not quiet:
        emit(document, as_json, f"{to}: edit it and pass it as --preset {to}")
