"""What a run will take of a machine: its stages tried on one batch, weighed and timed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unienc_core.contracts import Batch, Progress, ProgressCallback, no_progress
from unienc_core.machine import peak_memory, reset_peak_memory
from unienc_core.presets import Preset, StageSpec
from unienc_core.training.module import TrainModule
from unienc_core.training.optim import stage_optimizer
from unienc_core.training.stages import apply_stage
from unienc_core.training.step import StageStepper, StepResult
from unienc_core.training.teacher import Teacher
from unienc_core.training.weight_average import average_of
from unienc_core.workflows.training_data import TrainingData

_WARM_SECONDS = 60.0
"""A first step that takes longer is not taken again, though it warmed up what others find warm."""

_FOR_EVER = 10**15
"""A number that nobody counts beyond: whole numbers have no end, floats have."""


def try_stages(
    module: TrainModule,
    preset: Preset,
    data: TrainingData,
    part: range,
    *,
    loads_itself: bool,
    teacher: Teacher | None = None,
    progress: ProgressCallback = no_progress,
) -> dict[str, Any]:
    """Take real steps of every stage on one batch, at a rate of zero: the weights stay.

    Args:
        module: Network and objective, on their device.
        preset: What is tried.
        data: Where the batch comes from.
        part: Steps of the run to do; stages outside it are not tried.
        loads_itself: Whether this process loads the data too, so that loading takes its time.
        teacher: The teacher that the module asks.
        progress: Told of each stage.

    Returns:
        ``{parameters, items, first_loss, weight_bytes, teacher_bytes, peak_bytes, stages,
        seconds}``. Of each stage: its name, `steps` within the part, `parameters` that move,
        `gradient_bytes` and `optimizer_bytes` that they need, `peak_bytes`, `seconds_per_step`, and
        `seconds` for all its steps. `peak_bytes` is the most that the process held in main memory
        at once, on CUDA the most held on the device; None where the system does not say. Times are
        those of steps alone, without checkpoints and what else a run does.

    Raises:
        WiringError: If a stage cannot be trained.
    """
    streams, load_seconds = _draw(data)
    if not loads_itself:
        load_seconds = 0.0
    average = average_of(module.network, preset.optimizer)
    held = [module, average.network] if average else [module]  # as in training, to the peak
    stages: list[dict[str, Any]] = []
    first_loss: float | None = None
    spans = _spans(preset.stages, part)
    for done, (stage, steps) in enumerate(spans):
        progress(Progress("try the stages", done, len(spans), "stage", stage.name))
        row, result = _try_stage(module, preset, stage, streams)
        draws = min(preset.optimizer.accumulate, _FOR_EVER)
        seconds = draws * (row["seconds_per_step"] + load_seconds)
        whole = seconds * min(steps, _FOR_EVER)
        row |= {"seconds_per_step": round(seconds, 4), "seconds": round(whole, 1)}
        stages.append({"stage": stage.name, "steps": steps, **row})
        if not stages[1:] and math.isfinite(result.loss):
            first_loss = result.loss
    progress(Progress("try the stages", len(spans), len(spans), "stage"))
    peaks = [row["peak_bytes"] for row in stages]
    return {
        "parameters": sum(p.numel() for p in module.network.parameters()),
        "items": sum(len(dataset) for dataset in data.datasets.values()),
        "first_loss": first_loss,
        "weight_bytes": sum(_bytes(part.state_dict().values()) for part in held),
        "teacher_bytes": _bytes(teacher.network.state_dict().values()) if teacher else 0,
        "peak_bytes": None if None in peaks else max(peaks),
        "stages": stages,
        "seconds": round(sum(row["seconds"] for row in stages), 1),
    }


def _draw(data: TrainingData) -> tuple[Mapping[str, Batch], float]:
    """Return a draw, and the seconds that one takes once the stores are open."""
    draws = data.draws(0)
    began = time.perf_counter()
    first = next(draws)
    opened = time.perf_counter()
    second = next(draws, None)
    return first, opened - began if second is None else time.perf_counter() - opened


def _spans(stages: Sequence[StageSpec], part: range) -> list[tuple[StageSpec, int]]:
    """Return the stages that a part touches, and how many of its steps lie in each."""
    spans: list[tuple[StageSpec, int]] = []
    start = 0
    for stage in stages:
        steps = min(part.stop, start + stage.steps) - max(part.start, start)
        start += stage.steps
        if steps > 0:
            spans.append((stage, steps))
    return spans


def _try_stage(
    module: TrainModule, preset: Preset, stage: StageSpec, streams: Mapping[str, Batch]
) -> tuple[dict[str, Any], StepResult]:
    """Return what a step of one draw takes, and what came of the first one."""
    device = next(module.parameters()).device
    apply_stage(module.network, stage)
    optimizer = stage_optimizer(module, preset, stage)
    for group in optimizer.param_groups:
        group["base_lr"] = 0.0  # else a rate too large would spoil what is tried next
    stepper = StageStepper(module, optimizer, stage, preset.optimizer, seed=0)
    measured = _reset_peak(device)
    with torch.random.fork_rng():
        result, seconds = _timed_step(stepper, streams, 0)
        if seconds < _WARM_SECONDS:
            _, seconds = _timed_step(stepper, streams, 1)
    moving = [p for p in module.parameters() if p in optimizer.state]
    states = [optimizer.state[p].values() for p in moving]
    row = {
        "parameters": sum(p.numel() for p in moving),
        "gradient_bytes": _bytes(moving),
        "optimizer_bytes": sum(_bytes(state) for state in states),
        "peak_bytes": _peak(device) if measured else None,
        "seconds_per_step": seconds,
    }
    return row, result


def _timed_step(
    stepper: StageStepper, streams: Mapping[str, Batch], step: int
) -> tuple[StepResult, float]:
    """Take a step, which ends with reading its loss from the device."""
    began = time.perf_counter()
    result = stepper.take([streams], step, 0)
    return result, time.perf_counter() - began


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _reset_peak(device: torch.device) -> bool:
    if device.type != "cuda":
        return reset_peak_memory()
    torch.cuda.reset_peak_memory_stats(device)
    return True


def _peak(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory()
