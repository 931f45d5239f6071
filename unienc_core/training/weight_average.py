"""The weights of a training run averaged over its steps: smoother than those of any one step."""

from __future__ import annotations

from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from unienc_core.specs import OptimizerSpec

N = TypeVar("N", bound=nn.Module)


class WeightAverage(Generic[N]):
    """Exponential moving average of what moves in a network: parameters and running statistics.

    It begins anew with every stage, and hastily, so that the weights of the beginning are soon
    forgotten: step n of a stage, from 0, counts 9 / (n + 9) until that falls to 1 - decay.

    Args:
        live: The network that is trained.
        decay: What all steps before count, together.

    Attributes:
        network: The averaged weights, in a network of their own.
    """

    def __init__(self, live: N, decay: float) -> None:
        self.network = deepcopy(live).eval().requires_grad_(False)
        self._live, self._decay = live, decay
        self._moving: dict[str, tuple[Tensor, Tensor]] = {}

    def enter(self, stage_step: int) -> None:
        """Average what moves in the stage that the live network was set up for.

        Args:
            stage_step: The step to come, from 0: a stage that is resumed goes on with its average.
        """
        live, average = self._live.state_dict(), self.network.state_dict()
        self._moving = {n: (live[n], average[n]) for n in _moving_names(self._live) if n in live}
        if stage_step == 0:
            self.network.load_state_dict(live)

    @torch.no_grad()
    def update(self, stage_step: int) -> None:
        """Take in the live network as it is after a step."""
        share = max(1 - self._decay, 9 / (stage_step + 9))
        for live, average in self._moving.values():
            if average.is_floating_point():
                average.lerp_(live, share)
            else:  # a count of batches
                average.copy_(live)

    def live_tensors(self) -> dict[str, Tensor]:
        """Return those tensors of the live network, by name, that differ from their averages."""
        return {name: live for name, (live, _) in self._moving.items()}


def average_of(live: N, spec: OptimizerSpec) -> WeightAverage[N] | None:
    """Return the average that a preset keeps of its network, if it keeps one."""
    return None if spec.ema_decay is None else WeightAverage(live, spec.ema_decay)


def _moving_names(network: nn.Module) -> list[str]:
    """Return the parameters that are trained, and the buffers that go with them."""
    names = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    for place, module in network.named_modules():
        if module.training:
            names += [name for name, _ in module.named_buffers(place, recurse=False)]
    return names
