"""A sandbox for command lines: everything they print and leave behind is looked at."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import typer
from hostile_values import PRESET

from unienc_cli.main import app, run
from unienc_core.presets import preset_text

DOCUMENTED = {0, 2, 3, 4, 5, 6, 7, 130}
"""Every exit code but 1, which is a bug of ours."""

WITH_REPORT = {0, 4, 7}
"""Exit codes of work that was done, if only in part: it is reported on stdout."""

CPU_SECONDS, WALL_SECONDS = 30, 300
"""Nothing in these tests may work or wait for that long; guards against hangs, not limits."""
MEMORY = 4 << 30
"""Bytes beyond what the process holds already: absurd sizes must fail, not fill the machine."""

LEFTOVERS = (".tmp-*", "*.part.mp4", "*.whole.mp4", ".lock")


@dataclass(frozen=True)
class Parameter:
    """An option or argument of a verb."""

    name: str
    spelled: str
    is_flag: bool
    is_required: bool

    @property
    def is_option(self) -> bool:
        return self.spelled.startswith("-")


def verbs() -> dict[tuple[str, ...], list[Parameter]]:
    """Return every verb with its parameters, as the command line itself knows them."""

    def walk(
        command: Any, path: tuple[str, ...]
    ) -> Iterator[tuple[tuple[str, ...], list[Parameter]]]:
        inner = getattr(command, "commands", None)
        for name, sub in (inner or {}).items():
            yield from walk(sub, (*path, name))
        if not inner:
            found = [
                Parameter(p.name, spelled, bool(getattr(p, "is_flag", False)), p.required)
                for p in command.params
                for spelled in (*p.opts, *p.secondary_opts)
            ]
            yield path, found

    return dict(walk(typer.main.get_command(app), ()))


@dataclass(frozen=True)
class Outcome:
    """What a command line did."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str
    changed: tuple[str, ...]

    @property
    def options(self) -> tuple[str, ...]:
        """What stands before ``--``, after which nothing is an option."""
        end = self.arguments.index("--") if "--" in self.arguments else None
        return self.arguments[:end]

    def __str__(self) -> str:
        return f"{self.arguments}\ncode {self.code}\nout: {self.out!r}\nerr: {self.err}"


@dataclass(frozen=True)
class Sandbox:
    """A folder to run command lines in, and a copy of what it held at first.

    Attributes:
        top: Watched as a whole: nothing in it but `here` may change.
    """

    top: Path

    @property
    def here(self) -> Path:
        """Where command lines run."""
        return self.top / "here"

    @classmethod
    def make(cls, top: Path) -> Sandbox:
        """Fill a folder with one of everything, whole and broken."""
        made = cls(top)
        made.here.mkdir()
        _make_broken(made.here)
        _make_whole(made.here)
        shutil.copytree(made.here, top / "pristine", symlinks=True)
        return made

    @contextlib.contextmanager
    def as_it_was(self) -> Iterator[None]:
        """Take back afterwards what a line wrote, so that lines do not feed each other."""
        before = snapshot(self.here)
        try:
            yield
        finally:
            if snapshot(self.here) != before:
                shutil.rmtree(self.here)
                shutil.copytree(self.top / "pristine", self.here, symlinks=True)


def _make_broken(here: Path) -> None:
    (here / "folder").mkdir()
    (here / "empty").touch()
    (here / "text.txt").write_text("some words\n")
    (here / "list.txt").write_text("clip.mp4\nnowhere.mp4\n")
    garbage = np.random.default_rng(0).integers(1, 256, 5000, dtype=np.uint8).tobytes()
    for name in ("garbage.bin", "garbage.mp4"):
        (here / name).write_bytes(garbage)
    (here / "broken.yaml").write_text("name: x\n\tdescription: [")
    (here / "latin.yaml").write_bytes("name: é\n".encode("latin-1"))
    (here / "loop").symlink_to("loop")
    (here / "dangling").symlink_to("nothing/there")
    (here / "n\nl").write_text("a name of two lines")


def _make_whole(here: Path) -> None:
    rng = np.random.default_rng(0)
    for folder in ("depths", "truths"):
        (here / folder).mkdir()
        np.save(here / folder / "0001.npy", rng.uniform(2, 40, (30, 40)).astype(np.float32))
    _write_clip(here / "clip.mp4")
    sizes = [
        "--train",
        "1x4",
        "--val",
        "1x3",
        "--test",
        "1x3",
        "--size",
        "64x96",
        "--quiet",
        "--workers",
        "1",
    ]
    assert run(["prepare-data", "synth-city", "--out", str(here / "city"), *sizes]) == 0
    text = preset_text("unified-tiny")[0].replace("[96, 320]", "[64, 96]")
    (here / PRESET).write_text(text.replace("steps: 1200", "steps: 2"))
    train = ["train-student", str(here / "city"), "--preset", str(here / PRESET), "--quiet"]
    out = ["--out", str(here / "runs" / "a"), "--device", "cpu", "--workers", "0"]
    assert run([*train, *out]) == 0


def _write_clip(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(4):
            image = np.full((64, 96, 3), 40 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode())


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Return every path below a folder, files with their size and time of change."""
    found: dict[str, tuple[int, int]] = {}
    for path in folder.rglob("*"):
        stat = path.lstat()
        is_folder = path.is_dir() and not path.is_symlink()
        found[str(path)] = (0, 0) if is_folder else (stat.st_size, stat.st_mtime_ns)
    return found


def invoke(arguments: Sequence[str], sandbox: Sandbox) -> Outcome:
    """Run a command line in this process, with guards, and see what it prints and changes."""
    before = snapshot(sandbox.top)
    threads, environment, here = torch.get_num_threads(), dict(os.environ), Path.cwd()
    os.chdir(sandbox.here)
    try:
        with _guards(), _captured() as (out, err):
            code = run(list(arguments))
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(environment)
        torch.set_num_threads(threads)
    after = snapshot(sandbox.top)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    return Outcome(tuple(arguments), code, out(), err(), tuple(sorted(changed)))


class _TooLongError(BaseException):
    pass


@contextlib.contextmanager
def _guards() -> Iterator[None]:
    """Limit time and memory and refuse the network, for as long as this is entered."""

    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        assert self.family == socket.AF_UNIX, "a command line reached for the network"
        connect(self, address)

    def stop(*_: object) -> None:
        raise _TooLongError("it does not come to an end")

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGALRM, signal.SIGPROF)}
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    socket.socket.connect = local_only  # pyright: ignore[reportAttributeAccessIssue]
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    signal.alarm(WALL_SECONDS)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        socket.socket.connect = connect


@contextlib.contextmanager
def _captured() -> Iterator[tuple[Callable[[], str], Callable[[], str]]]:
    """Catch stdout and stderr below Python, as strict as they are in a UTF-8 terminal."""
    streams, kept = (sys.stdout, sys.stderr), [os.dup(number) for number in range(3)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        quiet = os.open(os.devnull, os.O_RDONLY)
        for number, target in enumerate((quiet, out.fileno(), err.fileno())):
            os.dup2(target, number)
        sys.stdout = io.TextIOWrapper(os.fdopen(os.dup(1), "wb"), "utf-8", "strict")
        sys.stderr = io.TextIOWrapper(os.fdopen(os.dup(2), "wb"), "utf-8", "backslashreplace")
        texts: list[str] = []
        try:
            yield (lambda: texts[0]), (lambda: texts[1])
        finally:
            sys.stdout.close()
            sys.stderr.close()
            sys.stdout, sys.stderr = streams
            for number, old in enumerate(kept):
                os.dup2(old, number)
                os.close(old)
            os.close(quiet)
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode("utf-8", "replace"))


def check(outcome: Outcome, sandbox: Sandbox) -> None:
    """Assert all that is promised of any command line, whatever it asked for."""
    arguments, code = outcome.options, outcome.code
    assert code in DOCUMENTED, f"undocumented exit code\n{outcome}"
    assert "Traceback" not in outcome.out + outcome.err, f"traceback\n{outcome}"
    lines = outcome.err.splitlines()
    is_help = "Usage: unienc" in outcome.err
    if code != 0 and not is_help:
        faults = [line for line in lines if line.startswith(("error: ", "interrupted"))]
        assert len(faults) == 1, f"not one error line\n{outcome}"
        assert lines[-1] == faults[0], f"something stands after the error\n{outcome}"
        assert faults[0].isprintable(), f"not readable\n{outcome}"
        assert len(faults[0]) < 2000, f"no line for people\n{outcome}"
        assert len(lines) == 1 or "--quiet" not in arguments, f"not quiet\n{outcome}"
    if "--json" in arguments and "--help" not in arguments:
        document = json.loads(outcome.out)
        assert isinstance(document, dict), f"no document\n{outcome}"
        known = code in WITH_REPORT or is_help or document["exit_code"] == code
        assert known, f"other code\n{outcome}"
    elif code not in WITH_REPORT:
        assert outcome.out == "", f"a failure prints to stdout\n{outcome}"
    assert all(Path(path).is_relative_to(sandbox.here) for path in outcome.changed), (
        f"outside\n{outcome}"
    )
    if code not in WITH_REPORT or "--dry-run" in arguments:
        assert not outcome.changed, f"left behind {outcome.changed}\n{outcome}"
    left = [path for pattern in LEFTOVERS for path in sandbox.here.rglob(pattern)]
    assert not left, f"half-written {left}\n{outcome}"
