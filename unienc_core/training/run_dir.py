"""The run folder: what a run is, what it left behind, and who is working in it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from unienc_core.checkpoint import list_checkpoints, remove_unfinished
from unienc_core.contracts import Say, say_nothing
from unienc_core.errors import Interrupted, PresetError, ResourceError, UsageError, differences
from unienc_core.files import check_writable, write_atomic
from unienc_core.presets import dump_preset, preset_from_dict
from unienc_core.training.lock import LOCK, folder_lock
from unienc_core.training.run_record import (
    BEST,
    CHECKPOINTS,
    COMMAND,
    CURVES,
    ENVIRONMENT,
    METRICS,
    PRESET,
    RUN,
    TENSORBOARD,
    VALIDATION,
    RunIdentity,
    read_record,
)


class RunFolder:
    """An opened, locked run folder."""

    def __init__(self, path: Path, record: dict[str, Any]) -> None:
        self.path = path
        self._record = record

    @property
    def checkpoints(self) -> Path:
        """Folder of its checkpoints."""
        return self.path / CHECKPOINTS

    @property
    def best(self) -> Path:
        """Folder of its best weights by validation, laid out as a run folder."""
        return self.path / BEST

    @property
    def validation(self) -> Path:
        """The log of its validations."""
        return self.path / VALIDATION

    @property
    def metrics(self) -> Path:
        """Its ``metrics.jsonl``."""
        return self.path / METRICS

    @property
    def curves(self) -> Path:
        """The picture of its training curves."""
        return self.path / CURVES

    @property
    def tensorboard(self) -> Path:
        """Folder of its TensorBoard event files, if it is tracked so."""
        return self.path / TENSORBOARD

    @property
    def report(self) -> dict[str, Any] | None:
        """The report of the finished run, or None while it is not finished.

        Its paths are those of the folder as it was opened, wherever it lay when it was written.
        """
        report = self._record["report"]
        if report is None:
            return None
        return self.place(report, self.checkpoints / Path(report["checkpoint"]).name)

    def finish(self, report: Mapping[str, Any], final: Path) -> dict[str, Any]:
        """Record that the run is done, and return its report with the places of its files.

        Args:
            report: What it has to say, JSON-able.
            final: Its last checkpoint.
        """
        record = {**report, "checkpoint": f"{CHECKPOINTS}/{final.name}", "curves": CURVES}
        self._write(finished_at=time.time(), report=record)
        return self.place(report, final)

    def place(self, report: Mapping[str, Any], last: Path) -> dict[str, Any]:
        """Return a report with the places of the run's files, `last` its newest checkpoint."""
        places = {"run": self.path, "checkpoint": last, "curves": self.curves}
        return {**report, **{name: str(path) for name, path in places.items()}}

    def note_failure(self, reason: str | None) -> None:
        """Record why the run ended before its time, or that it goes on."""
        if self._record.get("failure") != reason:
            self._write(failure=reason)

    def _write(self, **changes: Any) -> None:
        self._record |= changes
        write_atomic(self.path / RUN, _json(self._record))


def check_run_folder(path: Path, identity: RunIdentity, *, fresh: bool = False) -> None:
    """Fail where opening this run folder would, leaving nothing behind.

    Raises:
        UsageError: If another run, or something else, lies there.
        ResourceError: If it cannot be written.
    """
    if not (fresh and (path / RUN).exists()):
        _check_same(path, identity)
    check_writable(path)


@contextmanager
def open_run_folder(
    path: Path,
    identity: RunIdentity,
    *,
    command: str,
    environment: Mapping[str, Any],
    fresh: bool = False,
    force_unlock: bool = False,
    say: Say = say_nothing,
) -> Iterator[RunFolder]:
    """Make or reopen a run folder and keep others out of it; an error that leaves it is noted.

    Args:
        path: The folder.
        identity: What the run is.
        command: Command line that repeats it.
        environment: Versions, device, threads: recorded, and compared on resume.
        fresh: Start over, deleting the run that lies there.
        force_unlock: Take it over from a process of another host; see `folder_lock`.
        say: Told what was found and cleaned.

    Raises:
        UsageError: If another process works there, or another run, or something else, lies there.
        ResourceError: If it cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"{path}: cannot make this folder ({error.strerror})") from None
    with folder_lock(path, say, force_unlock=force_unlock):
        replaces = fresh and (path / RUN).exists()
        record = None if replaces else _check_same(path, identity)
        if record is None:
            _start_over(path, say)
            record = {
                "schema": 1,
                "name": identity.preset.name,
                **identity.record(),
                "started_at": time.time(),
                "finished_at": None,
                "failure": None,
                "report": None,
            }
            write_atomic(path / RUN, _json(record))
        _write_once(path, identity, command, environment, say)
        _clean(path, say)
        folder = RunFolder(path, record)
        folder.note_failure(None)
        with _noting_failure(folder):
            yield folder


@contextmanager
def _noting_failure(folder: RunFolder) -> Iterator[None]:
    try:
        yield
    except Interrupted:
        raise
    except Exception as error:
        with suppress(OSError):  # what is wrong may be the disk
            folder.note_failure(str(error) or type(error).__name__)
        raise


def _write_once(
    path: Path, identity: RunIdentity, command: str, environment: Mapping[str, Any], say: Say
) -> None:
    """Write the records that are not there yet; say where this machine differs from the first."""
    contents = {
        PRESET: dump_preset(identity.preset).encode(),
        COMMAND: f"{command}\n".encode(),
        ENVIRONMENT: _json(environment),
    }
    for name, content in contents.items():
        if not (path / name).exists():
            write_atomic(path / name, content)
    first = json.loads((path / ENVIRONMENT).read_text(encoding="utf-8"))
    differing = [
        f"{key} {first.get(key, 1)} -> {environment.get(key, 1)}"
        for key in ("torch", "device", "cpu", "threads", "processes")
        if first.get(key, 1) != environment.get(key, 1)  # an early record is of one process
    ]
    if differing:
        say(f"resuming elsewhere ({', '.join(differing)}): the last bits may differ")


def _clean(path: Path, say: Say) -> None:
    removed = remove_unfinished(path / CHECKPOINTS)
    removed += remove_unfinished(path / BEST / CHECKPOINTS)
    if removed:
        say(
            f"removed {len(removed)} unfinished checkpoint(s) of a killed run: {', '.join(removed)}"
        )
    for stale in path.glob(".tmp-*"):
        stale.unlink()


def _start_over(path: Path, say: Say) -> None:
    """Delete a run, and only what belongs to one."""
    if not (path / RUN).exists():
        return
    count = len(list_checkpoints(path / CHECKPOINTS))
    if count:
        say(f"starting over: deleting the run in {path} with its {count} checkpoint(s)")
    for name in (CHECKPOINTS, TENSORBOARD, BEST):
        shutil.rmtree(path / name, ignore_errors=True)
    for name in (METRICS, VALIDATION, CURVES, PRESET, COMMAND, ENVIRONMENT, RUN):  # the record last
        (path / name).unlink(missing_ok=True)


def _check_same(path: Path, identity: RunIdentity) -> dict[str, Any] | None:
    """Return the record of the same run in `path`, or None if the folder is free.

    A run that has not reached its first checkpoint has nothing to lose: it may be replaced, so
    that a mistake in the first command does not block the second.
    """
    if not (path / RUN).exists():
        found = [entry.name for entry in path.iterdir()] if path.is_dir() else []
        others = [name for name in found if name != LOCK and not name.startswith(".tmp-")]
        if others:
            raise UsageError(
                f"{path}: not empty and not a run folder (holds {sorted(others)[0]}); "
                "choose another --out"
            )
        return None
    record, asked = read_record(path), identity.record()
    found = {key: record.get(key) for key in asked}
    differing = list(differences({**found, "preset": _completed(record["preset"])}, asked))
    if differing and not list_checkpoints(path / CHECKPOINTS):
        return None
    if differing:
        more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
        raise UsageError(
            f"{path}: holds another run; {'; '.join(differing[:4])}{more}; "
            "repeat the first command, choose another --out, or --fresh"
        )
    return record


def _completed(preset: dict[str, Any]) -> dict[str, Any]:
    """Return a recorded preset with the defaults of settings that were not known at its time."""
    try:
        return preset_from_dict(preset).model_dump(mode="json")
    except PresetError:
        return preset


def _json(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, indent=1) + "\n").encode()
