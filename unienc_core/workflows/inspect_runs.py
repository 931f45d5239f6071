"""`runs ls` and `runs show`: what run folders hold, from their own records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unienc_core.checkpoint import list_checkpoints, step_of
from unienc_core.errors import DataError, nearest
from unienc_core.training.history import last_line, plain, read_log
from unienc_core.training.lock import Holder, lock_holder
from unienc_core.training.run_record import (
    CHECKPOINTS,
    COMMAND,
    CURVES,
    ENVIRONMENT,
    METRICS,
    RUN,
    TENSORBOARD,
    read_record,
)

DEFAULT_RUNS = Path("runs")
EVAL_REPORTS = "eval-depth*.json"
"""Where `runs` looks for a score: in the run folder, what ``eval-depth --json`` printed."""

MAX_REPORT_BYTES = 1 << 22


def list_runs(folder: Path | None = None) -> dict[str, Any]:
    """Summarise every run of a folder; one that cannot be read is listed as broken.

    Args:
        folder: Folder of run folders, or one run folder; default: ``runs``, which may be absent.

    Returns:
        ``{"folder": ..., "runs": [...]}``, the run that changed last at the end; see `summarise`.

    Raises:
        DataError: If there is no such folder.
    """
    where = folder or DEFAULT_RUNS
    if not where.is_dir():
        if folder is not None or where.exists():
            raise DataError(f"{where}: no such folder")
        return {"folder": str(where), "runs": []}
    found = [where] if (where / RUN).exists() else [p for p in where.iterdir() if _is_run(p)]
    runs = [_summarise_or_say(path) for path in sorted(found)]
    return {"folder": str(where), "runs": sorted(runs, key=lambda run: run["updated_at"] or 0.0)}


def summarise(path: Path) -> dict[str, Any]:
    """Return the state of one run.

    Returns:
        ``state`` is ``finished``, ``running`` (its lock is held; `holder` says by whom, and
        whether that could be verified), ``failed`` (an error ended it; `failure` says which) or
        ``interrupted`` (stopped or killed; the same command resumes it from `saved_step`).

    Raises:
        DataError: If it is no run folder, or its records are damaged.
    """
    record, line = read_record(path), last_line(path / METRICS)
    report, checkpoints = record["report"], list_checkpoints(path / CHECKPOINTS)
    saved = step_of(checkpoints[-1]) if checkpoints else 0
    holder, failure = lock_holder(path), record.get("failure")
    times = (record["started_at"], record["finished_at"], line.get("time"))
    loss = line.get("loss/total")
    return {
        "name": path.absolute().name,
        "path": str(path),
        "preset": record["name"],
        "seed": record["seed"],
        "state": _state(report is not None, holder, failure),
        "holder": None if holder is None or holder.state == "dead" else _holder(holder),
        "failure": failure,
        "step": max(saved, line.get("step", 0)),
        "saved_step": saved,
        "total_steps": sum(stage["steps"] for stage in record["preset"]["stages"]),
        "loss": loss if isinstance(loss, int | float) else None,
        **_score(path),
        "started_at": record["started_at"],
        "updated_at": max(t for t in times if isinstance(t, int | float)),
        "num_bytes": _size(path),
    }


def describe_run(path: Path) -> dict[str, Any]:
    """Describe one run: its summary, and where it came from and got to in detail.

    Args:
        path: A run folder, or the name of one in ``runs``.

    Raises:
        DataError: If there is no such run, or its records are damaged.
    """
    path = _find(path)
    summary, record = summarise(path), read_record(path)
    log = read_log(path / METRICS) if (path / METRICS).exists() else []
    remarks = [str(warning) for line in log for warning in line.get("warnings", ())]
    logged = log[-1] if log else {}
    if logged.get("bad_steps"):
        remarks.append(f"{logged['bad_steps']} steps thrown away: loss or gradient not finite")
    if summary["failure"]:
        remarks.append(f"failed: {summary['failure']}")
    pictures = {"curves": path / CURVES, "tensorboard": path / TENSORBOARD}
    return {
        **summary,
        "command": _text(path / COMMAND),
        "environment": _document(path / ENVIRONMENT),
        "data": record["data"],
        "weights": record["weights"],
        "teacher": record.get("teacher"),
        "stages": _stages(record["preset"], summary["step"]),
        "logged": logged,
        "checkpoints": [
            {"name": p.name, "step": step_of(p), "num_bytes": _size(p)}
            for p in list_checkpoints(path / CHECKPOINTS)
        ],
        **{name: str(p) if p.exists() else None for name, p in pictures.items()},
        "remarks": remarks,
    }


def _is_run(path: Path) -> bool:
    """Whether a folder is one of a run, or what is left of one."""
    return path.is_dir() and any((path / name).exists() for name in (RUN, METRICS, CHECKPOINTS))


def _summarise_or_say(path: Path) -> dict[str, Any]:
    try:
        return summarise(path)
    except DataError as error:
        fault = str(error)
    except OSError as error:
        fault = f"{error.filename or path}: cannot be read ({error.strerror})"
    return {
        "name": path.absolute().name,
        "path": str(path),
        "state": "broken",
        "failure": fault,
        "updated_at": None,
    }


def _find(path: Path) -> Path:
    if path.exists():
        return path
    beside = DEFAULT_RUNS / path
    if beside.exists():
        return beside
    known = [p.name for p in DEFAULT_RUNS.iterdir()] if DEFAULT_RUNS.is_dir() else []
    raise DataError(f"{path}: no such run{nearest(str(path), known)}; 'unienc runs ls' lists them")


def _state(finished: bool, holder: Holder | None, failure: str | None) -> str:
    if finished:
        return "finished"
    if holder is not None and holder.state != "dead":
        return "running"
    return "failed" if failure else "interrupted"


def _holder(holder: Holder) -> dict[str, Any]:
    return {"pid": holder.pid, "host": holder.host, "verified": holder.state == "alive"}


def _score(path: Path) -> dict[str, Any]:
    """The newest score of depth that lies in the run folder, and the file that it is from."""
    for report in sorted(path.glob(EVAL_REPORTS), key=lambda p: p.lstat().st_mtime, reverse=True):
        document = _document(report) or {}
        metrics = document.get("metrics")
        value = metrics.get("abs_rel") if isinstance(metrics, Mapping) else None
        if isinstance(value, int | float):
            return {"abs_rel": value, "eval_report": str(report)}
    return {"abs_rel": None, "eval_report": None}


def _stages(preset: Mapping[str, Any], step: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    begin = 0
    for stage in preset["stages"]:
        done = min(max(0, step - begin), stage["steps"])
        rows.append(
            {
                "name": stage["name"],
                "steps": stage["steps"],
                "done": done,
                "lr": stage.get("lr") or preset["optimizer"]["lr"],
                "trains": stage.get("trains", []),
                "terms": stage.get("terms", []),
            }
        )
        begin += stage["steps"]
    return rows


def _size(folder: Path) -> int:
    """Bytes of all files of a folder; one that vanishes while we look counts as nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            status = path.lstat()
        except OSError:
            continue
        total += 0 if path.is_dir() else status.st_size
    return total


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None


def _document(path: Path) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > MAX_REPORT_BYTES:
            return None
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return plain(document) if isinstance(document, dict) else None
