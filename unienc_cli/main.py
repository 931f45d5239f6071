"""Entry point: run a verb, and turn whatever happens into one line and the right exit code."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from unienc_cli import data, evaluate, infer, prepare, presets, train
from unienc_cli.console import SCHEMA
from unienc_core.errors import UniencError

EPILOG = (
    "Exit codes: 0 ok, 1 bug, 2 usage or preset, 3 bad input data, 4 partial success, 5 out of "
    "memory or disk, 6 integrity, 7 beyond --fail-under/--fail-over, 130 interrupted (resumable). "
    "--debug with any verb shows the traceback of an error."
)

app = typer.Typer(
    name="unienc",
    help="One shared encoder for driving perception: train, evaluate and run it.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(prepare.app, name="prepare-data")
app.command("train-student")(train.train_student)
app.command("eval-depth")(evaluate.eval_depth)
app.command("infer-video")(infer.infer_video)
app.add_typer(presets.app, name="presets")
app.add_typer(data.app, name="data")


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        typer.echo(version("unienc"))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    debug = "--debug" in arguments or bool(os.environ.get("UNIENC_DEBUG"))
    arguments = [a for a in arguments if a != "--debug"]
    try:
        return _invoke(arguments)
    except BaseException as error:
        if isinstance(error.__context__ or error, BrokenPipeError):
            # The reader has had enough (`unienc ... | head`): that is no fault of anybody's.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        if debug and not isinstance(error, KeyboardInterrupt):
            raise
        code, line = _explain(error)
        print(line, file=sys.stderr)
        if "--json" in arguments and not getattr(error, "reported", False):
            verb = next((a for a in arguments if not a.startswith("-")), None)
            document = {"schema": SCHEMA, "verb": verb, "error": line, "exit_code": code}
            print(json.dumps(document))
        return code


def _invoke(arguments: Sequence[str]) -> int:
    result = typer.main.get_command(app).main(
        list(arguments), prog_name="unienc", standalone_mode=False
    )
    if result == 130:  # how some releases of Typer report Ctrl-C
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0


def _explain(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the one line for an error."""
    if isinstance(error, UniencError):
        return error.exit_code, f"error: {error}"
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return 130, "interrupted"
    # Typer's own usage errors: from click, or from the copy of it inside newer releases.
    format_message = getattr(error, "format_message", None)
    if format_message is not None:
        if type(error).__name__ == "NoArgsIsHelpError":
            return 2, format_message()
        return 2, f"error: {' '.join(format_message().split())} (see --help)"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return 5, "error: out of memory: a smaller batch or image size needs less"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            return 5, f"error: {where}{error.strerror}: free some space or choose another folder"
        if error.errno in (errno.ENOENT, errno.EISDIR, errno.ENOTDIR):
            return 3, f"error: {where}{error.strerror}"
    return 1, f"internal error: {type(error).__name__}: {error} (--debug shows where)"


def main() -> None:
    """Run the command line of this process; SIGTERM stops it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run(sys.argv[1:]))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
