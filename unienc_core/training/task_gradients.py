"""How strongly each task pulls at the encoders, and where tasks pull against each other.

The paper explains by unlike gradients why a shared encoder learns motion badly without a teacher
(Sec. V, Nguyen et al.); here they can be seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from unienc_core.models.network import Network


class TaskGradients:
    """Measures gradients of the tasks at each encoder, every so many steps.

    It reads the graph of a step and leaves no trace in it: the weights do not depend on it. A
    measurement costs a backward pass for each task.

    Args:
        network: Whose encoders are looked at.
        every: Steps from one measurement to the next.
    """

    def __init__(self, network: Network, every: int) -> None:
        self._encoders = network.encoders
        self._every = every

    def is_due(self, step: int) -> bool:
        """Say whether a step (from 0) is measured."""
        return step % self._every == 0

    def measure(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return norms and cosines of the gradients of each encoder that moves.

        Args:
            losses: Weighted loss of each task, a scalar with its graph.

        Returns:
            ``gradient/<encoder>/<task>``, the L2 norm over all its parameters that move; and
            ``gradient/<encoder>/<task>~<task>``, the cosine between two, 0 where either has none.
            0-d each. Of several processes, each sees its own part of the batch.
        """
        logs: dict[str, Tensor] = {}
        moving = {name: _moving(encoder) for name, encoder in self._encoders.items()}
        parameters = [parameter for part in moving.values() for parameter in part]
        if not parameters:
            return logs
        by_task = {
            task: torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            for task, loss in losses.items()
            if loss.requires_grad
        }
        start = 0
        for name, part in moving.items():
            own = {t: grads[start : start + len(part)] for t, grads in by_task.items()}
            logs |= {f"gradient/{name}/{key}": value for key, value in _compare(own).items()}
            start += len(part)
        return logs


def _moving(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _compare(gradients: Mapping[str, tuple[Tensor | None, ...]]) -> dict[str, Tensor]:
    """Return the norm of each task's gradient and the cosine of each two; nothing of none."""
    reaching = {t: g for t, g in gradients.items() if any(part is not None for part in g)}
    norms = {task: _dot(g, g).sqrt() for task, g in reaching.items()}
    found: dict[str, Tensor] = dict(norms)
    for a, b in itertools.combinations(reaching, 2):
        length = norms[a] * norms[b]
        cosine = _dot(reaching[a], reaching[b]) / torch.where(length > 0, length, 1.0)
        found[f"{a}~{b}"] = cosine
    return found


def _dot(one: tuple[Tensor | None, ...], other: tuple[Tensor | None, ...]) -> Tensor:
    products = [
        (a.double() * b.double()).sum()
        for a, b in zip(one, other, strict=True)
        if a is not None and b is not None
    ]
    return torch.stack(products).sum() if products else torch.zeros((), dtype=torch.float64)
