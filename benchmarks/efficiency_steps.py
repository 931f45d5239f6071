"""The cost of a training step: of each task, and of a teacher (the second half of `efficiency`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from unienc_core.checkpoint import load_checkpoint, save_checkpoint
from unienc_core.models.network import build_network
from unienc_core.presets import Preset, preset_from_dict
from unienc_core.training.distillation import without_teacher
from unienc_core.training.teacher import Teacher
from unienc_core.workflows.bench.clock import Pace, take_turns
from unienc_core.workflows.bench.memory import step_memory
from unienc_core.workflows.bench.network import StepRig
from unienc_core.workflows.bench.setting import Setting
from unienc_core.workflows.inspect_data import columns

MOTION, SEGMENTS = "motion", "segmentation"
BELONGS = {
    MOTION: {
        "heads": ("scene_flow", "motion_mask"),
        "terms": ("flow_smooth", "mask_smooth", "consistency", "sparsity"),
        "streams": (),
    },
    SEGMENTS: {
        "heads": ("masks",),
        "terms": ("cls", "bce", "dice", "contrast"),
        "streams": ("labels",),
    },
}
"""What a preset has for the sake of a task."""

ALL, DISTILLED = "all tasks", "all, under the teacher"


def compare_steps(setting: Setting, teacher: Preset, rounds: int) -> dict[str, Any]:
    """Take training steps of the setting's preset, whole, in part, and under a teacher.

    Returns:
        ``{stage, batch, image_size, sides}``; a row for each side: `terms`, `parameters`, `ms`,
        memory (see `step_memory`), and the ratios of time and peak memory to all tasks without a
        teacher.
    """
    student = setting.preset
    sides = {
        "depth and pose": without(student, (MOTION, SEGMENTS)),
        "without motion": without(student, (MOTION,)),
        "without segmentation": without(student, (SEGMENTS,)),
        ALL: without(student, ()),
    }
    rigs = {name: StepRig(setting, preset) for name, preset in sides.items()}
    rigs[DISTILLED] = StepRig(setting, student, untrained_teacher(teacher, setting))
    memory: dict[str, dict[str, int]] = {}
    for name, rig in rigs.items():
        memory[name] = step_memory(rig, setting.device)
        rig.optimizer.zero_grad(set_to_none=True)
    steps = {name: partial(_step, rig) for name, rig in rigs.items()}
    taken = take_turns(steps, pace(rounds), setting.device)
    return {
        "stage": student.stages[-1].name,
        "batch": {name: stream.batch_size for name, stream in student.streams.items()},
        "image_size": list(student.image_size),
        "sides": [
            {
                "side": name,
                "terms": list(rig.stage.terms),
                "parameters": sum(p.numel() for p in rig.module.network.parameters()),
                "ms": taken[name].record(1e3),
                **memory[name],
                "ratios": {
                    "time": taken[name].over(taken[ALL]).record(),
                    "peak": round(memory[name]["peak_bytes"] / memory[ALL]["peak_bytes"], 4),
                },
            }
            for name, rig in rigs.items()
        ],
    }


def _step(rig: StepRig) -> None:
    """Take a step and keep no gradients: those of all sides at once may not fit."""
    rig.step()
    rig.optimizer.zero_grad(set_to_none=True)


def without(preset: Preset, tasks: Collection[str]) -> Preset:
    """Return the last stage of a preset, for training without a teacher and without some tasks."""
    data = without_teacher(preset).model_dump(mode="json")
    stage = data["stages"][-1]
    data["stages"] = [stage]
    for task in tasks:
        left_out = BELONGS[task]
        for part, owner in (("heads", data["network"]), ("terms", data), ("streams", data)):
            owner[part] = {k: v for k, v in owner[part].items() if k not in left_out[part]}
        stage["terms"] = [term for term in stage["terms"] if term not in left_out["terms"]]
    if MOTION in tasks:
        stage |= {"warp": "ego", "compose": "add_independent"}
    return preset_from_dict(data, preset.name)


def untrained_teacher(preset: Preset, setting: Setting) -> Teacher:
    """Return a teacher of random weights."""
    weights = build_network(preset, load_pretrained=False).state_dict()
    saved = save_checkpoint(
        setting.folder / "teacher", preset=preset, model=weights, optimizer={}, state={"step": 0}
    )
    return Teacher(load_checkpoint(saved), setting.device)


def pace(rounds: int) -> Pace:
    """Return so many rounds, however long they take."""
    return Pace(seconds=0.0, min_rounds=rounds, max_rounds=rounds)


def step_table(result: Mapping[str, Any]) -> str:
    """Return what `compare_steps` found as text."""
    header = ("a step", "parameters", "ms", "time, all = 1", "stays, MB", "adds, MB", "memory")
    rows = [
        (
            row["side"],
            f"{row['parameters']:,}",
            f"{row['ms']['median']:.0f}",
            ratio(row["ratios"]["time"]),
            f"{row['resident_bytes'] / 1e6:.1f}",
            f"{row['step_bytes'] / 1e6:.1f}",
            f"{row['ratios']['peak']:.3f}",
        )
        for row in result["sides"]
    ]
    return "\n".join(columns([header, *rows]))


def ratio(record: Mapping[str, float]) -> str:
    """Return a recorded ratio as text."""
    return f"{record['median']:.3f} ({record['low']:.3f} to {record['high']:.3f})"
