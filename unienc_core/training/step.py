"""One optimiser step: forward, backward, check, clip, descend."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import AdamW

from unienc_core.contracts import Batch, StepContext
from unienc_core.errors import WiringError
from unienc_core.presets import OptimizerSpec, StageSpec
from unienc_core.training.distributed import World
from unienc_core.training.module import TrainModule
from unienc_core.training.replicas import averaging, replicate
from unienc_core.training.stages import schedule_factor
from unienc_core.training.task_gradients import TaskGradients


@dataclass(frozen=True)
class StepResult:
    """What a step left to tell.

    Attributes:
        logs: 0-d tensors on the device: ``loss/total``, ``loss/<term>``, ``grad_norm``, ...
        loss: The loss.
        taken: False if it was thrown away because its loss or gradient was not finite.
    """

    logs: dict[str, Tensor]
    loss: float
    taken: bool


def step_seed(seed: int, step: int, rank: int = 0, draw: int = 0) -> int:
    """Return the seed of all in-model randomness of a step, from its coordinates alone."""
    text = f"unienc/{seed}/{step}/{rank}/{draw}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "little")


class StageStepper:
    """Takes the steps of one stage.

    Args:
        module: Network and objective, frozen as the stage wants them.
        optimizer: Over what moves.
        stage: The stage.
        spec: Optimiser of the preset.
        seed: Seed of the run.
        world: The processes that share each batch; gradients, losses and logs are those of all.
        task_gradients: Measures how the tasks pull at the encoders, for the logs; None: nothing.
    """

    def __init__(
        self,
        module: TrainModule,
        optimizer: AdamW,
        stage: StageSpec,
        spec: OptimizerSpec,
        *,
        seed: int,
        world: World | None = None,
        task_gradients: TaskGradients | None = None,
    ) -> None:
        self._module = module
        self._optimizer = optimizer
        self._stage = stage
        self._spec = spec
        self._seed, self._world = seed, world or World()
        self._device = next(module.network.parameters()).device
        self._statistics = _NormStatistics(module.network)
        self._task_gradients = task_gradients
        self._replica: nn.Module | None = None

    def rate(self, stage_step: int) -> float:
        """Return the scheduled rate at this step, before the backbone's factor."""
        return (self._stage.lr or self._spec.lr) * self._factor(stage_step)

    def _factor(self, stage_step: int) -> float:
        return schedule_factor(self._stage.schedule, stage_step, self._stage.steps)

    def take(self, draws: Sequence[Mapping[str, Batch]], step: int, stage_step: int) -> StepResult:
        """Accumulate gradients over `draws` and descend, unless something is not finite.

        Args:
            draws: `accumulate` draws of all streams.
            step: Step of the run, from 0.
            stage_step: Step of the stage, from 0.
        """
        self._statistics.keep()
        if self._replica is None:
            self._replica = self._replicate(draws[0], step, stage_step)
        logs: dict[str, Tensor] = {}
        watch, objective = self._task_gradients, self._module.objective
        objective.keeps_tasks = watch is not None and watch.is_due(step)
        for draw, streams in enumerate(draws):
            last = draw == len(draws) - 1
            with averaging(self._replica, last):
                total, found = self._forward(self._replica, streams, step, stage_step, draw)
                if watch is not None and objective.by_task:
                    found |= watch.measure(objective.by_task)
                    objective.by_task = {}
                (total / len(draws)).backward()
            for name, value in {**found, "loss/total": total.detach()}.items():
                part = value / len(draws)
                logs[name] = logs[name] + part if name in logs else part
        logs["grad_norm"] = gradient_norm(self._optimizer)
        logs = self._world.mean(logs)
        # The only wait for the device in a step: descending must not happen on a NaN.
        loss, norm = torch.stack([logs["loss/total"].float(), logs["grad_norm"].float()]).tolist()
        taken = math.isfinite(loss) and math.isfinite(norm)
        if taken:
            self._descend(logs["grad_norm"], stage_step)
        else:
            self._statistics.put_back()
        self._optimizer.zero_grad(set_to_none=True)
        return StepResult(logs, loss, taken)

    def _forward(
        self,
        module: nn.Module,
        streams: Mapping[str, Batch],
        step: int,
        stage_step: int,
        draw: int = 0,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        seed = step_seed(self._seed, step, self._world.rank, draw)
        torch.manual_seed(seed)
        context = StepContext(
            stage_step,
            self._stage.steps_per_ramp,
            seed,
            self._world.size,
            self._world.sum,
            self._world.rank,
        )
        total, found = module(to_device(streams, self._device), self._stage, context)
        if not total.requires_grad:
            raise WiringError(
                f"stages.{self._stage.name}: no term depends on a parameter that moves; "
                "check its trains and terms"
            )
        return total, found

    def _replicate(self, streams: Mapping[str, Batch], step: int, stage_step: int) -> nn.Module:
        """Return what takes the module's place in this stage; trials leave no trace."""

        def trial(module: nn.Module) -> Tensor:
            return self._forward(module, streams, step, stage_step)[0]

        replica = replicate(self._module, self._world, trial)
        self._optimizer.zero_grad(set_to_none=True)
        self._statistics.put_back()
        return replica

    def _descend(self, norm: Tensor, stage_step: int) -> None:
        if self._spec.clip_norm is not None:
            clip_gradients(self._optimizer, norm, self._spec.clip_norm)
        factor = self._factor(stage_step)
        for group in self._optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        self._optimizer.step()


def gradient_norm(optimizer: AdamW) -> Tensor:
    """Return the L2 norm of all gradients together, without waiting for the device."""
    grads = [p.grad for p in _parameters(optimizer) if p.grad is not None]
    return nn.utils.get_total_norm(grads, foreach=True)


def clip_gradients(optimizer: AdamW, norm: Tensor, max_norm: float) -> None:
    """Scale all gradients so that their norm, now `norm`, is at most `max_norm`."""
    nn.utils.clip_grads_with_norm_(_parameters(optimizer), max_norm, norm, foreach=True)


def _parameters(optimizer: AdamW) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def to_device(value: Any, device: torch.device) -> Any:
    """Move the tensors of nested mappings and lists, without waiting for the copies."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: to_device(item, device) for key, item in value.items()}
    if isinstance(value, list):
        return [to_device(item, device) for item in value]
    return value


class _NormStatistics:
    """Running statistics of normalisation layers: a NaN in the forward pass poisons them too."""

    def __init__(self, network: nn.Module) -> None:
        layers = [m for m in network.modules() if isinstance(m, _NormBase) and m.training]
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for buffer in (b for layer in layers for b in layer.buffers(recurse=False)):
            by_type.setdefault(buffer.dtype, []).append(buffer)
        self._pairs = [(live, [b.clone() for b in live]) for live in by_type.values()]

    def keep(self) -> None:
        for live, kept in self._pairs:
            _copy(kept, live)

    def put_back(self) -> None:
        for live, kept in self._pairs:
            _copy(live, kept)


def _copy(to: list[Tensor], source: list[Tensor]) -> None:
    torch._foreach_copy_(to, source)  # pyright: ignore[reportPrivateImportUsage]
