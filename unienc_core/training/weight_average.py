"""The weights of a training run averaged over its steps: smoother than those of any one step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class WeightAverage:
    """Exponential moving average of a network's parameters and running statistics.

    It begins anew with every stage, and hastily, so that the weights of the beginning are soon
    forgotten: the n-th step after the first counts 9 / (n + 9) until that falls to 1 - decay.

    Args:
        live: The network that is trained.
        decay: What all steps before count, together.
    """

    def __init__(self, live: nn.Module, decay: float) -> None:
        self._live, self._decay = live, decay
        self._average = AveragedModel(live, multi_avg_fn=self._take_in, use_buffers=True)

    @property
    def network(self) -> nn.Module:
        """The averaged weights, in a network of their own."""
        return self._average.module

    def update(self, stage_step: int) -> None:
        """Take in the live network as it is after a step, counted from 0 in its stage."""
        self._average.n_averaged.fill_(stage_step)
        self._average.update_parameters(self._live)

    @torch.no_grad()
    def _take_in(
        self, averages: Sequence[Tensor], live: Sequence[Tensor], steps: Tensor | int
    ) -> None:
        share = max(1 - self._decay, 9 / (int(steps) + 9))
        for average, now in zip(averages, live, strict=True):
            if average.is_floating_point():
                average.lerp_(now, share)
            else:  # a count of batches
                average.copy_(now)
