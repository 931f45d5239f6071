"""The run folder: what a run is, what it left behind, and who is working in it."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unienc_core.checkpoint import list_checkpoints, remove_unfinished
from unienc_core.contracts import Say, say_nothing
from unienc_core.errors import ResourceError, UsageError
from unienc_core.files import write_atomic
from unienc_core.presets import Preset, dump_preset
from unienc_core.training.lock import LOCK, folder_lock

RUN, PRESET, COMMAND, ENVIRONMENT = "run.json", "preset.yaml", "command.txt", "environment.json"
METRICS, CURVES, CHECKPOINTS = "metrics.jsonl", "curves.png", "checkpoints"


@dataclass(frozen=True)
class RunIdentity:
    """What makes a run the same run: repeat these and it resumes.

    Attributes:
        preset: Resolved preset.
        seed: Seed of everything.
        data: SHA-256 of each store's manifest, in order.
        weights: SHA-256 of the file of initial weights, if one was given.
    """

    preset: Preset
    seed: int
    data: tuple[str, ...]
    weights: str | None = None

    def record(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {
            "preset": self.preset.model_dump(mode="json"),
            "seed": self.seed,
            "data": list(self.data),
            "weights": self.weights,
        }


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
    def metrics(self) -> Path:
        """Its ``metrics.jsonl``."""
        return self.path / METRICS

    @property
    def curves(self) -> Path:
        """The picture of its training curves."""
        return self.path / CURVES

    @property
    def report(self) -> dict[str, Any] | None:
        """The report of the finished run, or None while it is not finished."""
        return self._record["report"]

    def finish(self, report: Mapping[str, Any]) -> None:
        """Record that the run is done."""
        self._record |= {"finished_at": time.time(), "report": dict(report)}
        write_atomic(self.path / RUN, _json(self._record))


def check_run_folder(path: Path, identity: RunIdentity, *, fresh: bool = False) -> None:
    """Fail where opening this run folder would, leaving nothing behind.

    Raises:
        UsageError: If another run, or something else, lies there.
        ResourceError: If it cannot be written.
    """
    if not (fresh and (path / RUN).exists()):
        _check_same(path, identity)
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):  # permissions alone do not tell
            pass
    except OSError as error:
        raise ResourceError(f"{path}: cannot be written ({error.strerror})") from None


@contextmanager
def open_run_folder(
    path: Path,
    identity: RunIdentity,
    *,
    command: str,
    environment: Mapping[str, Any],
    fresh: bool = False,
    say: Say = say_nothing,
) -> Iterator[RunFolder]:
    """Make or reopen a run folder and keep others out of it.

    Args:
        path: The folder.
        identity: What the run is.
        command: Command line that repeats it.
        environment: Versions, device, threads: recorded, and compared on resume.
        fresh: Start over, deleting the run that lies there.
        say: Told what was found and cleaned.

    Raises:
        UsageError: If another process works there, or another run, or something else, lies there.
        ResourceError: If it cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"{path}: cannot make this folder ({error.strerror})") from None
    with folder_lock(path, say):
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
                "report": None,
            }
            write_atomic(path / RUN, _json(record))
        _write_once(path, identity, command, environment, say)
        _clean(path, say)
        yield RunFolder(path, record)


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
        f"{key} {first.get(key)} -> {environment[key]}"
        for key in ("torch", "device", "cpu", "threads")
        if first.get(key) != environment[key]
    ]
    if differing:
        say(f"resuming elsewhere ({', '.join(differing)}): the last bits may differ")


def _clean(path: Path, say: Say) -> None:
    removed = remove_unfinished(path / CHECKPOINTS)
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
    shutil.rmtree(path / CHECKPOINTS, ignore_errors=True)
    for name in (METRICS, CURVES, PRESET, COMMAND, ENVIRONMENT, RUN):  # the record last
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
    try:
        record = json.loads((path / RUN).read_text(encoding="utf-8"))
        differing = list(_differences(identity.record(), {k: record[k] for k in identity.record()}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path / RUN}: not the record of a run ({error})") from None
    if differing and not list_checkpoints(path / CHECKPOINTS):
        return None
    if differing:
        more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
        raise UsageError(
            f"{path}: holds another run; {'; '.join(differing[:4])}{more}; "
            "repeat the first command, choose another --out, or --fresh"
        )
    return record


def _differences(wanted: Any, found: Any, where: str = "") -> Iterator[str]:
    """Yield ``path: found there, asked now`` for every leaf that differs."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in sorted({*wanted, *found}):
            yield from _differences(wanted.get(key), found.get(key), f"{where}.{key}".lstrip("."))
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for index, pair in enumerate(zip(wanted, found, strict=True)):
            yield from _differences(*pair, f"{where}.{index}")
    elif wanted != found:
        yield f"{where}: {_short(found)} there, {_short(wanted)} asked"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 24 else f"{text[:20]}..."


def _json(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, indent=1) + "\n").encode()
