"""What one encoder for everything saves, against the teacher's three and a network for each task.

Frames: each network runs as a stream, through the predictor, so that a frame is encoded once and
what looks at two frames keeps the one before. Networks for one task have an encoder of their own,
that of the student, and no more heads than the task needs: the camera's motion without depth,
segments alone, but flow and mask with the depth and the motion that they are made of. A set of
networks takes as long as all of them one after the other.

Steps: a training step of the student's last stage at the preset's batch; then without the terms,
heads and data of a task; and under the teacher.

All sides take turns in one process, and a ratio is taken in each round. Weights are random, which
costs as much as trained ones up to the objects that are found.

    python benchmarks/efficiency.py [frame] [step] [--student unified-all-tiny] [--teacher
        teacher-tiny] [--rounds N] [--threads N] [--device cpu] [--store STORE]

Tables go to stderr, one JSON document to stdout.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from efficiency_steps import compare_steps, pace, ratio, step_table

from unienc_core.contracts import Reporter
from unienc_core.device import resolve_device
from unienc_core.inference.predictor import Predictor
from unienc_core.models.network import build_network
from unienc_core.presets import Preset, load_preset, preset_from_dict
from unienc_core.workflows.bench.clock import Samples, take_turns
from unienc_core.workflows.bench.setting import Setting
from unienc_core.workflows.bench.work import count_macs
from unienc_core.workflows.inspect_data import columns

STUDENT, TEACHER = "student", "teacher"
TASKS = {
    "depth": ("depth",),
    "pose": ("pose",),
    "motion": ("depth", "pose", "scene_flow", "motion_mask"),
    "segmentation": ("masks",),
}
"""Heads of the networks for one task."""

SETS = {
    STUDENT: (STUDENT,),
    TEACHER: (TEACHER,),
    "motion and segmentation": ("motion", "segmentation"),
    "a network a task": tuple(TASKS),
}
"""Networks that say everything together."""


def main() -> None:
    """Measure, print tables and one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", choices=("frame", "step"), metavar="frame|step")
    parser.add_argument("--student", default="unified-all-tiny")
    parser.add_argument("--teacher", default="teacher-tiny")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--store", type=Path, help="default: a small city")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler talks to stderr
    student, teacher = load_preset(options.student), load_preset(options.teacher)
    device, parts = resolve_device(options.device), options.parts or ("frame", "step")
    result: dict[str, Any] = {"benchmark": "efficiency", "threads": options.threads}
    result |= {"device": str(device), "student": student.name, "teacher": teacher.name}
    if "frame" in parts:
        result["frame"] = compare_frames(student, teacher, device, options.rounds)
        print(frame_table(result["frame"]), file=sys.stderr)
    if "step" in parts:
        with tempfile.TemporaryDirectory() as folder:
            setting = Setting(student, None, device, options.store, Path(folder), False, Reporter())
            result["step"] = compare_steps(setting, teacher, options.rounds)
        print(step_table(result["step"]), file=sys.stderr)
    print(json.dumps(result, indent=1))


def compare_frames(
    student: Preset, teacher: Preset, device: torch.device, rounds: int
) -> dict[str, Any]:
    """Run all networks on frames of a stream.

    Returns:
        ``{image_size, networks, sets}``, a row for each. Rows have `parameters`, `encoder_passes`
        and `macs` a frame, `ms`, and of a set the ratios to the student's of all of them.
    """
    presets = {STUDENT: student, TEACHER: teacher}
    presets |= {task: with_heads(student, heads) for task, heads in TASKS.items()}
    streams = {name: Stream(preset, device) for name, preset in presets.items()}
    facts = {name: stream.facts() for name, stream in streams.items()}
    taken = take_turns(streams, pace(rounds), device)
    rows = [
        {"network": name, **fact, "ms": taken[name].record(1e3)} for name, fact in facts.items()
    ]
    return {
        "image_size": list(student.image_size),
        "networks": rows,
        "sets": [_set_row(name, facts, taken) for name in SETS],
    }


def _set_row(
    name: str, facts: Mapping[str, Mapping[str, int]], taken: Mapping[str, Samples]
) -> dict[str, Any]:
    members, alone = SETS[name], facts[STUDENT]
    sums = {key: sum(facts[member][key] for member in members) for key in alone}
    seconds = together([taken[member] for member in members])
    return {
        "set": name,
        "networks": list(members),
        **sums,
        "ms": seconds.record(1e3),
        "ratios": {
            **{key: round(value / alone[key], 4) for key, value in sums.items()},
            "time": seconds.over(taken[STUDENT]).record(),
        },
    }


def together(samples: Sequence[Samples]) -> Samples:
    """Return how long all of them take one after the other, round by round."""
    return Samples(tuple(sum(values) for values in zip(*(s.values for s in samples), strict=True)))


class Stream:
    """A network that takes frame after frame and says all it can of each.

    Args:
        preset: Of the network.
        device: Where it runs.
    """

    def __init__(self, preset: Preset, device: torch.device) -> None:
        network = build_network(preset, load_pretrained=False)
        network.requires_grad_(False).drop_training_parts()
        self._predictor = Predictor(network, preset, device)
        height, width = preset.image_size
        rng = np.random.default_rng(0)
        pictures = [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(2)]
        self._frames = itertools.cycle(pictures)
        self._K = np.array([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1]])
        self()

    def __call__(self) -> None:
        """Take a frame."""
        predictor = self._predictor
        predictor.step(next(self._frames), predictor.outputs, self._K)

    def facts(self) -> dict[str, int]:
        """Return `parameters`, and `encoder_passes` (images encoded) and `macs` of a frame."""
        network, passes = self._predictor.network, 0

        def count(_: object, images: tuple[torch.Tensor, ...]) -> None:
            nonlocal passes
            passes += len(images[0])

        hooks = [e.register_forward_pre_hook(count) for e in network.encoders.values()]
        macs = count_macs(self)
        for hook in hooks:
            hook.remove()
        parameters = sum(p.numel() for p in network.parameters())
        return {"parameters": parameters, "encoder_passes": passes, "macs": macs}


def with_heads(preset: Preset, heads: Collection[str]) -> Preset:
    """Return a preset that has no other heads than these; its stages are not fit for training."""
    data = preset.model_dump(mode="json")
    network = data["network"]
    network["heads"] = {name: head for name, head in network["heads"].items() if name in heads}
    return preset_from_dict(data, preset.name)


def frame_table(result: Mapping[str, Any]) -> str:
    """Return what `compare_frames` found as text."""
    header = ("a frame", "parameters", "encodes", "GMAC", "ms", "time, student = 1")
    rows = [
        (
            row.get("set", row.get("network")),
            f"{row['parameters']:,}",
            str(row["encoder_passes"]),
            f"{row['macs'] / 1e9:.2f}",
            f"{row['ms']['median']:.1f}",
            ratio(row["ratios"]["time"]) if "ratios" in row else "",
        )
        for row in (*result["sets"], *(r for r in result["networks"] if r["network"] in TASKS))
    ]
    return "\n".join(columns([header, *rows]))


if __name__ == "__main__":
    main()
