"""What `runs ls` and `runs show` found, as text for people."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from unienc_core.workflows.inspect_data import columns

LIST_HEADER = ["run", "preset", "seed", "state", "steps", "loss", "abs_rel", "changed", "size"]

_HEADLINES = ("step", "stage", "time", "warnings")
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def list_rows(document: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of a list of runs, one row each, in the order of `LIST_HEADER`."""
    return [_row(run) for run in document["runs"]]


def list_remarks(document: Mapping[str, Any]) -> list[str]:
    """Return a line for each run of a list that is broken or has failed, and for an empty list."""
    if not document["runs"]:
        return [f"no run in {document['folder']}; 'unienc train-student' makes one"]
    return [_remark(run) for run in document["runs"] if run["failure"]]


def format_run(run: Mapping[str, Any]) -> str:
    """Return the description of one run as text."""
    score = "" if run["abs_rel"] is None else f", abs_rel {run['abs_rel']:.3f} (depth)"
    lines = [
        f"{run['path']}: {run['preset']}, seed {run['seed']}, {_state(run)}, last change "
        f"{_age(run['updated_at'])} ago",
        f"  {run['step']:,} of {run['total_steps']:,} steps{_resumes(run)}, "
        f"loss {_number(run['loss'])}{score}, {size(run['num_bytes'])}",
        "",
        *_facts(run),
        "",
        *columns([("stage", "steps", "rate", "moves", "terms"), *map(_stage, run["stages"])]),
        "",
        *_logged(run["logged"]),
    ]
    if run["checkpoints"]:
        rows = [(c["name"], size(c["num_bytes"])) for c in run["checkpoints"]]
        lines += ["", *columns([("checkpoint", "size"), *rows])]
    if run["remarks"]:
        lines += ["", "  remarks", *(f"    {text}" for text in run["remarks"])]
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Return a span of time in the largest unit of which it holds two."""
    unit, length = next((u for u in _UNITS if seconds >= 2 * u[1]), _UNITS[-1])
    return f"{seconds / length:.0f} {unit}"


def size(num_bytes: int) -> str:
    """Return a number of bytes in megabytes."""
    return f"{num_bytes / 1e6:,.1f} MB"


def _remark(run: Mapping[str, Any]) -> str:
    if run["state"] == "broken":
        return f"broken: {run['failure']}"
    return f"{run['name']} {run['state']}: {run['failure']}"


def _row(run: Mapping[str, Any]) -> list[str]:
    if run["state"] == "broken":
        return [run["name"], "", "", "broken", "", "", "", "", ""]
    return [
        run["name"],
        run["preset"],
        str(run["seed"]),
        run["state"],
        f"{run['step']}/{run['total_steps']}",
        _number(run["loss"]),
        _number(run["abs_rel"]),
        f"{_age(run['updated_at'])} ago",
        size(run["num_bytes"]),
    ]


def _state(run: Mapping[str, Any]) -> str:
    holder = run["holder"]
    if run["state"] != "running":
        return run["state"]
    doubt = "" if holder["verified"] else ", which cannot be looked for from this host"
    return f"running (process {holder['pid']} on {holder['host']}{doubt})"


def _resumes(run: Mapping[str, Any]) -> str:
    if run["state"] in ("finished", "running"):
        return ""
    return f" (the same command goes on after step {run['saved_step']:,})"


def _facts(run: Mapping[str, Any]) -> list[str]:
    made = run["environment"] or {}
    machine = [f"{name} {made[name]}" for name in ("torch", "python") if name in made]
    machine += [str(made[name]) for name in ("cpu", "device", "platform") if name in made]
    facts = {
        "command": run["command"],
        "made with": ", ".join(dict.fromkeys(machine)),
        "threads": made.get("threads"),
        "data": ", ".join(str(digest) for digest in run["data"]),
        "weights": run["weights"],
        "teacher": run["teacher"],
        "score": run["eval_report"],
        "curves": run["curves"],
        "tensorboard": run["tensorboard"],
    }
    return columns([(name, str(fact)) for name, fact in facts.items() if fact])


def _stage(stage: Mapping[str, Any]) -> tuple[str, ...]:
    done = f"{stage['done']}/{stage['steps']}"
    return (stage["name"], done, f"{stage['lr']}", _words(stage["trains"]), _words(stage["terms"]))


def _words(names: object) -> str:
    return ", ".join(map(str, names)) if isinstance(names, list) else str(names)


def _logged(line: Mapping[str, Any]) -> list[str]:
    if not line:
        return ["  nothing logged yet"]
    values = [(name, _number(value)) for name, value in line.items() if name not in _HEADLINES]
    return [f"  logged at step {line['step']:,}, stage {line['stage']}", *columns(values)]


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "-"


def _age(moment: float) -> str:
    return duration(max(0.0, time.time() - moment))
