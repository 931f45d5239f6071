"""Where the time and memory of a training step go: encoders, heads, warps, each term, backward.

One real step of a stage at a time under torch's profiler, on a batch in memory (waiting for data is
left out). Forward: what runs between entering and leaving a part. Backward: the nodes of the
gradient graph that the part made, told by their sequence numbers. Memory: what a part leaves behind
in its forward pass, and the most that it adds while it runs; of the whole step, the most beyond
what lies there all the time. The profiler itself costs some microseconds an operation.

    python benchmarks/motion_step.py [--preset dynamo-depth-tiny] [--stage everything] [--batch N]
                                     [--steps N] [--threads N] [--store STORE]

A table goes to stderr, one JSON document to stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from unienc_core.contracts import Reporter, StepContext
from unienc_core.presets import Preset, load_preset
from unienc_core.training import module as training_module
from unienc_core.training.stages import part_of
from unienc_core.workflows.bench.network import StepRig
from unienc_core.workflows.bench.setting import Setting
from unienc_core.workflows.inspect_data import columns

SYNTHESIS, SIGNS, OPTIMIZER, WHOLE = "view synthesis", "vital signs", "optimizer", "whole step"
OTHER = "other"
"""What no part contains: routing, weighting, adding up gradients."""

_MARK = "part: "
_BACKWARD = "autograd::engine::evaluate_function: "
_COLUMNS = ("ms", "forward_ms", "backward_ms", "kept_mb", "peak_mb")

Row = dict[str, float]


def main() -> None:
    """Measure, print a table and one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--preset", default="dynamo-depth-tiny")
    parser.add_argument("--stage", help="number or name; default: the last")
    parser.add_argument("--batch", type=int, help="triplets in a step; default: the preset's")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--store", type=Path, help="default: a small city")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler talks to stderr
    preset = chosen(options)
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(
            preset, None, torch.device("cpu"), options.store, Path(folder), True, Reporter()
        )
        result = measure(setting, options.steps, Path(folder) / "trace.json")
    print(table(result), file=sys.stderr)
    print(json.dumps({"benchmark": "motion_step", "threads": options.threads, **result}, indent=1))


def chosen(options: argparse.Namespace) -> Preset:
    """Return the preset up to the stage that was asked for, with as many triplets."""
    sets = [] if options.batch is None else [f"streams.triplets.batch_size={options.batch}"]
    preset = load_preset(options.preset, sets)
    stop = part_of(preset.stages, options.stage or str(len(preset.stages))).stop
    ends = [sum(s.steps for s in preset.stages[: i + 1]) for i in range(len(preset.stages))]
    return preset.model_copy(update={"stages": preset.stages[: ends.index(stop) + 1]})


def measure(setting: Setting, steps: int, trace: Path) -> dict[str, Any]:
    """Take steps under the profiler; return a row for each part, medians over the steps."""
    rig = StepRig(setting)
    rig.context = StepContext(rig.stage.steps_per_ramp, rig.stage.steps_per_ramp)
    rig.step()  # makes the optimiser's state, and warms what has to be warm
    rig.optimizer.zero_grad(set_to_none=True)
    held = [*rig.module.state_dict().values()]
    held += [t for state in rig.optimizer.state.values() for t in state.values()]
    taken = [profiled(rig, trace) for _ in range(steps)]
    parts = {
        name: {
            key: round(statistics.median(step[name][key] for step in taken), 1)
            for key in taken[0][name]
        }
        for name in taken[0]
    }
    whole, total = parts[WHOLE]["ms"], sum(p.numel() for p in rig.module.parameters())
    return {
        "preset": rig.preset.name,
        "stage": rig.stage.name,
        "image_size": list(rig.preset.image_size),
        "batch": rig.batch_size,
        "steps": steps,
        "parameters": total,
        "resident_mb": round(sum(t.nbytes for t in held) / 1e6, 1),
        "parts": [
            {"part": name, **row, "share": round(row["ms"] / whole, 4)}
            for name, row in parts.items()
        ],
    }


def profiled(rig: StepRig, trace: Path) -> dict[str, Row]:
    """Take one step and return what became of each part."""
    with (
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record,
        named_parts(rig),
        record_function(_MARK + WHOLE),
    ):
        rig.loss().backward()
        with record_function(_MARK + OPTIMIZER):
            rig.descend()
    rig.optimizer.zero_grad(set_to_none=True)
    record.export_chrome_trace(str(trace))
    return accounts(json.loads(trace.read_bytes())["traceEvents"])


@contextmanager
def named_parts(rig: StepRig) -> Iterator[None]:
    """While entered, nodes, terms and the synthesis of views stand in the record by name."""
    network, objective = rig.module.network, rig.module.objective
    places: list[tuple[Any, str, str]] = [
        (network.get_submodule(node.path), "forward", node.path) for node in network.wiring.nodes
    ]
    places += [(objective.terms[name], "forward", f"terms.{name}") for name in rig.stage.terms]
    places += [(training_module, "synthesise", SYNTHESIS), (training_module, "vital_signs", SIGNS)]
    with ExitStack() as stack:
        for owner, attribute, name in places:
            marked = record_function(_MARK + name)(getattr(owner, attribute))
            stack.enter_context(mock.patch.object(owner, attribute, marked))
        yield


def accounts(events: Sequence[Mapping[str, Any]]) -> dict[str, Row]:
    """Share a recorded step out among its parts, in the order in which they ran.

    Returns:
        Name to ``ms``, of which ``forward_ms`` and ``backward_ms``, ``kept_mb`` and ``peak_mb``.
    """
    timed = sorted((e for e in events if "ts" in e), key=lambda e: e["ts"])
    ranges = [e for e in timed if e["name"].startswith(_MARK)]
    memory = [(e["ts"], e["args"]["Bytes"]) for e in timed if e["name"] == "[memory]"]
    rows: dict[str, Row] = {}
    for part in ranges:
        row = rows.setdefault(part["name"].removeprefix(_MARK), dict.fromkeys(_COLUMNS, 0.0))
        kept, peak = within(memory, part["ts"], part["ts"] + part["dur"])
        row["forward_ms"] += part["dur"] / 1e3
        row["kept_mb"] += kept / 1e6
        row["peak_mb"] = max(row["peak_mb"], peak / 1e6)
    whole = rows.pop(WHOLE)
    parts = [e for e in ranges if e["name"] != _MARK + WHOLE]
    for name, seconds in backward(timed, parts):
        rows[name]["backward_ms"] += 1e3 * seconds
    for row in (*rows.values(), whole):
        row["ms"] = row["forward_ms"] + row["backward_ms"]
    rows[OPTIMIZER]["forward_ms"] = 0.0
    for way in ("forward_ms", "backward_ms"):
        whole[way] = sum(row[way] for row in rows.values())
    rest = whole["ms"] - sum(row["ms"] for row in rows.values())
    return {**rows, OTHER: {**dict.fromkeys(_COLUMNS, 0.0), "ms": rest}, WHOLE: whole}


def backward(
    timed: Sequence[Mapping[str, Any]], parts: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, float]]:
    """Yield the part that made it and the seconds of each node of the gradient graph.

    An operation bears the number that the next node will get; of those that bear the same, the last
    one made it.
    """
    starts = [part["ts"] for part in parts]
    makers: dict[int, str | None] = {}
    for event in timed:
        number = event.get("args", {}).get("Sequence number")
        if number is None:
            continue
        if event["name"].startswith(_BACKWARD):
            if (name := makers.get(number)) is not None:
                yield name, event["dur"] / 1e6
        elif event["args"]["Fwd thread id"] == 0:  # forward
            part = parts[max(0, bisect_right(starts, event["ts"]) - 1)]
            inside = part["ts"] <= event["ts"] <= part["ts"] + part["dur"]
            makers[number] = part["name"].removeprefix(_MARK) if inside else None


def within(memory: Sequence[tuple[float, int]], start: float, stop: float) -> tuple[int, int]:
    """Return by how many bytes a span of time ends higher than it began, and the most between."""
    now = most = 0
    for at, change in memory:
        if start <= at <= stop:
            now += change
            most = max(most, now)
    return now, most


def table(result: Mapping[str, Any]) -> str:
    """Return the figures as text for people."""
    header = ("part", "ms", "share", "forward", "backward", "keeps, MB", "adds at most, MB")
    rows = [
        (
            row["part"],
            f"{row['ms']:.1f}",
            f"{row['share']:.1%}",
            f"{row['forward_ms']:.1f}",
            f"{row['backward_ms']:.1f}",
            f"{row['kept_mb']:.1f}",
            f"{row['peak_mb']:.1f}",
        )
        for row in result["parts"]
    ]
    height, width = result["image_size"]
    return "\n".join(
        [
            f"{result['preset']}, stage {result['stage']}, {height}x{width}, batch "
            f"{result['batch']}, {result['parameters']:,} parameters; weights, statistics and "
            f"optimiser {result['resident_mb']:.0f} MB",
            *columns([header, *rows]),
        ]
    )


if __name__ == "__main__":
    main()
