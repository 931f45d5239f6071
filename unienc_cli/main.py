"""Entry point: run a verb, and turn whatever happens into one line and the right exit code."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from unienc_cli import (
    bench,
    data,
    doctor,
    eval_motion,
    eval_seg,
    eval_steering,
    evaluate,
    finetune_steering,
    import_weights,
    infer,
    prepare,
    prepare_kitti,
    prepare_sets,
    prepare_steering,
    presets,
    runs,
    train,
)
from unienc_cli.console import SCHEMA, one_line
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
prepare.app.command("cityscapes")(prepare_sets.cityscapes)
prepare.app.command("kitti-raw")(prepare_kitti.kitti_raw)
prepare.app.command("kitti-odometry")(prepare_kitti.kitti_odometry)
prepare.app.command("folders")(prepare_sets.folders)
prepare.app.command("donkey")(prepare_steering.donkey)
prepare.app.command("csv")(prepare_steering.frame_table)
prepare.app.command("udacity")(prepare_steering.udacity)
prepare.app.command("sullychen")(prepare_steering.sullychen)
prepare.app.command("comma2k19")(prepare_steering.comma2k19)
prepare.app.command("mit-driving")(prepare_steering.mit_driving)
app.command("train-teacher")(train.train_teacher)
app.command("train-student")(train.train_student)
app.command("distill")(train.distill)
app.command("finetune-steering")(finetune_steering.finetune_steering)
app.command("eval-depth")(evaluate.eval_depth)
app.command("eval-seg")(eval_seg.eval_seg)
app.command("eval-motion")(eval_motion.eval_motion)
app.command("eval-steering")(eval_steering.eval_steering)
app.command("infer-video")(infer.infer_video)
app.command("import-weights")(import_weights.import_weights)
app.add_typer(presets.app, name="presets")
app.add_typer(data.app, name="data")
app.add_typer(runs.app, name="runs")
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)


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
    options, operands = _split(arguments)
    debug = "--debug" in options or bool(os.environ.get("UNIENC_DEBUG"))
    options = [a for a in options if a != "--debug"]
    arguments = [*options, *operands]
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
        # Of several processes one speaks; each finds the same wrong with the command line.
        lead = os.environ.get("RANK", "0") == "0"
        if not getattr(error, "told", not lead and hasattr(error, "format_message")):
            print(line, file=sys.stderr)
        if "--json" in options and lead and not getattr(error, "reported", False):
            document = {"schema": SCHEMA, "verb": _verb(arguments), "error": line}
            document["exit_code"] = code
            print(json.dumps({**document, **getattr(error, "details", {})}))
        return code


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split at ``--``: what follows it are operands, whatever they look like."""
    at = list(arguments).index("--") if "--" in arguments else len(arguments)
    return list(arguments[:at]), list(arguments[at:])


def _verb(arguments: Sequence[str]) -> str | None:
    """Return the verb with its second word where it has one ("presets ls"), None for no verb."""
    command, words = typer.main.get_command(app), []
    for word in (a for a in arguments if not a.startswith("-")):
        known = getattr(command, "commands", {})
        if word not in known:
            break
        words.append(word)
        command = known[word]
    return " ".join(words) or None


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
        return error.exit_code, one_line(f"error: {error}")
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return 130, "interrupted"
    # Typer's own usage errors: from click, or from the copy of it inside newer releases.
    format_message = getattr(error, "format_message", None)
    if format_message is not None:
        if type(error).__name__ == "NoArgsIsHelpError":
            return 2, format_message()
        return 2, one_line(f"error: {' '.join(format_message().split())} (see --help)")
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return 5, "error: out of memory: a smaller batch or image size needs less"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            remedy = "free some space or choose another folder"
            return 5, one_line(f"error: {where}{error.strerror}: {remedy}")
        missing = (errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
        if error.errno in missing:
            return 3, one_line(f"error: {where}{error.strerror}")
    return 1, one_line(f"internal error: {type(error).__name__}: {error} (--debug shows where)")


def main() -> None:
    """Run the command line of this process; SIGTERM stops it as Ctrl-C does."""
    # What torch's C++ logs of lost connections, with stacks, our errors say in a line.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # a broken picture, likewise
    signal.signal(signal.SIGTERM, _interrupt)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # what libraries tell their developers
    sys.exit(run(sys.argv[1:]))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
