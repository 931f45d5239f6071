"""How several weighted losses become one number to minimise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from unienc_core.errors import PresetError
from unienc_core.presets import BalancingSpec


class Balancing(nn.Module):
    """Base of the strategies.

    What a strategy learns (the log-variances of uncertainty weighting) are its parameters: they
    are optimised and saved with the objective's. What it remembers between steps are its buffers.

    Args:
        terms: Names of all terms of the preset; a stage may have only some of them on.
    """

    def __init__(self, terms: Sequence[str]) -> None:
        super().__init__()
        self.terms = tuple(terms)

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Combine the active terms' losses, weights and ramps applied, into one scalar."""
        raise NotImplementedError


class FixedBalancing(Balancing):
    """The sum: the preset's weights are all there is."""

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Add the losses up."""
        return torch.stack(list(losses.values())).sum()


def build_balancing(spec: BalancingSpec, terms: Sequence[str]) -> Balancing:
    """Return the strategy that a preset asks for.

    Raises:
        PresetError: If it is not available, or has no such option.
    """
    if spec.type != "fixed":
        raise PresetError(f"balancing.type: '{spec.type}' is not available yet; use 'fixed'")
    if spec.options:
        raise PresetError(f"balancing.options: 'fixed' has none, found {', '.join(spec.options)}")
    return FixedBalancing(terms)
