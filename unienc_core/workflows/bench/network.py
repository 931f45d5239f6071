"""The network under the clock: every part of a frame and of a training step, by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unienc_core.contracts import StepContext
from unienc_core.inference.predictor import Predictor
from unienc_core.models.network import Network
from unienc_core.presets import Preset
from unienc_core.training.module import TrainModule
from unienc_core.training.optim import stage_optimizer
from unienc_core.training.stages import apply_stage
from unienc_core.training.step import gradient_norm, to_device
from unienc_core.training.teacher import Teacher
from unienc_core.training.weight_average import average_of
from unienc_core.view_synthesis import synthesise
from unienc_core.workflows.bench.clock import Samples, Side
from unienc_core.workflows.bench.parts import Part, detached, recorded
from unienc_core.workflows.bench.setting import Setting
from unienc_core.workflows.bench.work import Gemm, count_macs
from unienc_core.workflows.training_data import TrainingData

WHOLE = "whole"


class StepRig:
    """A training step that can be taken again and again, on one batch in memory.

    Args:
        setting: Gives store, weights and device.
        preset: In place of that of the setting.
        teacher: Whose predictions the terms read, if any does.

    Attributes:
        module: Network and objective.
        stage: The stage it stands in: the preset's last, where everything is on.
        optimizer: That of the stage.
        average: Of the weights, if the preset keeps one.
        streams: The batch.
        teacher: The teacher.
    """

    def __init__(
        self, setting: Setting, preset: Preset | None = None, teacher: Teacher | None = None
    ) -> None:
        self.preset = preset or setting.preset
        self.stage = self.preset.stages[-1]
        self.teacher = teacher
        self.module: TrainModule = setting.train_module(self.preset, teacher)
        apply_stage(self.module.network, self.stage)
        self.optimizer = stage_optimizer(self.module, self.preset, self.stage)
        self.average = average_of(self.module.network, self.preset.optimizer)
        if self.average is not None:
            self.average.enter(0)
        data = TrainingData(self.preset, [setting.store_path], seed=0, workers=0)
        self.streams = to_device(next(iter(data.draws(0))), setting.device)
        self.context = StepContext(0, self.stage.steps_per_ramp)

    @property
    def batch_size(self) -> int:
        """Items of a step, all streams together."""
        return sum(stream.batch_size for stream in self.preset.streams.values())

    def loss(self) -> Tensor:
        """Run forward and return the loss."""
        total, _ = self.module(self.streams, self.stage, self.context)
        return total

    def step(self) -> None:
        """Run forward and backward, and descend."""
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()
        self.descend()

    def descend(self) -> None:
        """Let the optimiser work on the gradients that are there."""
        gradient_norm(self.optimizer)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(0)

    def descending(self) -> Side:
        """Return `descend` on gradients of its own, whatever else clears or makes some."""
        moving = [p for group in self.optimizer.param_groups for p in group["params"]]
        gradients = [torch.full_like(p, 1e-4) for p in moving]

        def run() -> None:
            for parameter, gradient in zip(moving, gradients, strict=True):
                parameter.grad = gradient
            self.descend()

        return run


def bench_inference(setting: Setting, gemms: Mapping[str, Gemm]) -> dict[str, Any]:
    """Measure one frame of a stream (batch 1), whole and part by part.

    Args:
        setting: What with.
        gemms: Matrix products that take turns with the parts, by precision.

    Returns:
        ``{batch, parts: [row], gemm}``; see `_row`.
    """
    predictor = Predictor(setting.network(), setting.preset, setting.device)
    rng = np.random.default_rng(0)
    height, width = setting.preset.image_size
    frames = [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(2)]
    predictor.step(frames[0])
    with recorded(_nodes(predictor.network)) as calls:
        predictor.step(frames[1])
    parts = [_node_part(predictor.network, name, of_node) for name, of_node in calls.items()]
    sides: dict[str, Side] = {part.name: part.forward for part in parts}
    with torch.inference_mode():
        macs = {name: count_macs(run) for name, run in sides.items()}
        taken = setting.take_turns(
            {WHOLE: lambda: predictor.step(frames[0]), **sides, **gemms}, "inference"
        )
    rows = [_row(part.name, part.num_parameters, macs[part.name], taken, "fp32") for part in parts]
    total = sum(p.numel() for p in predictor.network.parameters())
    rows.append(_row(WHOLE, total, sum(macs.values()), taken, "fp32"))
    return {"batch": 1, "parts": rows, "gemm": _of(taken, gemms)}


def bench_training(setting: Setting, gemms: Mapping[str, Gemm]) -> dict[str, Any]:
    """Measure a training step at the preset's batch, whole and part by part.

    Args:
        setting: What with.
        gemms: Matrix products that take turns with the parts, by precision.

    Returns:
        ``{batch, stage, precision, parts: [row], gemm}``; rows count forward and backward.
    """
    rig = StepRig(setting)
    precision = rig.preset.optimizer.precision
    parts = _step_parts(rig)
    sides: dict[str, Side] = {part.name: part.step for part in parts}
    macs = {name: count_macs(run) for name, run in sides.items()}
    whole = count_macs(rig.step)
    sides["optimizer"] = rig.descending()
    taken = setting.take_turns({WHOLE: rig.step, **sides, **gemms}, "training step")
    rows = [
        _row(p.name, p.num_parameters, macs[p.name], taken, "bf16" if p.bf16 else "fp32")
        for p in parts
    ]
    total = sum(p.numel() for p in rig.module.parameters())
    rows.append(_row("optimizer", total, 0, taken, "fp32"))
    rows.append(_row(WHOLE, total, whole, taken, precision))
    return {
        "batch": rig.batch_size,
        "stage": rig.stage.name,
        "precision": precision,
        "parts": rows,
        "gemm": _of(taken, gemms),
    }


def _step_parts(rig: StepRig) -> list[Part]:
    """Cut one step into the parts that this stage runs, each with the inputs it really had."""
    network, objective = rig.module.network, rig.module.objective
    bf16 = rig.preset.optimizer.precision == "bf16"
    made: dict[str, Any] = {}
    hook = network.register_forward_hook(lambda _, __, predictions: made.update(predictions))
    terms = {f"terms.{name}": module for name, module in objective.terms.items()}
    try:
        with recorded({**_nodes(network), **terms}) as calls:
            rig.loss()
    finally:
        hook.remove()
    parts = [
        _node_part(network, name, calls[name], bf16=bf16)
        for name in _nodes(network)
        if name in calls
    ]
    views = [
        ({**rig.streams[name], **_float(of_stream)}, rig.stage.warp, rig.preset.depth)
        for name, of_stream in made.items()
    ]
    options = {
        "compose": rig.stage.compose,
        "wanted": objective.requires(rig.stage.terms),
    }
    arguments = [((*detached(view), rig.preset.image_size), options) for view in views]
    parts.append(Part("view synthesis", synthesise, arguments))
    parts += [
        Part(name, module, detached(calls[name]), list(module.parameters()))
        for name, module in terms.items()
        if name in calls
    ]
    return parts


def _nodes(network: Network) -> dict[str, nn.Module]:
    return {node.path: network.get_submodule(node.path) for node in network.wiring.nodes}


def _node_part(network: Network, path: str, calls: Any, *, bf16: bool = False) -> Part:
    module = network.get_submodule(path)
    return Part(path, module, detached(calls), list(module.parameters()), bf16)


def _float(predictions: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: [item.float() for item in value] if isinstance(value, list) else value.float()
        for key, value in predictions.items()
    }


def _of(taken: Mapping[str, Samples], gemms: Mapping[str, Gemm]) -> dict[str, Any]:
    return {name: gemm.record(taken[name]) for name, gemm in gemms.items()}


def _row(
    name: str, parameters: int, macs: int, taken: Mapping[str, Samples], precision: str
) -> dict[str, Any]:
    """Return what is known of a part; its share of the peak is added when that is known.

    Two floating-point operations make a multiply-accumulate.
    """
    samples = taken[name]
    return {
        "part": name,
        "parameters": parameters,
        "macs": macs,
        "ms": samples.record(1e3),
        "gflops": round(2e-9 * macs / samples.median, 3),
        "precision": precision,
    }
