"""Gradient checkpointing: blocks keep their inputs only and run again in the backward pass.

A block is what stands in a list of composite modules: a residual or transformer block, an
upsampling step. The numbers stay what they are: chance is repeated, and batch norms do not count
the second pass.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from unienc_core.errors import WiringError
from unienc_core.presets import Preset


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """Return the outermost blocks of a module."""
    in_a_list = isinstance(module, nn.Sequential | nn.ModuleList)
    found: list[nn.Module] = []
    for child in module.children():
        composite = next(child.children(), None) is not None
        found += [child] if in_a_list and composite else blocks_of(child)
    return found


def checkpoint_nodes(network: nn.Module, preset: Preset) -> None:
    """Checkpoint the blocks of the nodes for which a preset says so, in place.

    They change their class, not their contents: parameters, buffers and their names stay.

    Raises:
        WiringError: If such a node has no blocks.
    """
    for path, spec in preset.network.nodes.items():
        if not spec.checkpointing:
            continue
        blocks = blocks_of(network.get_submodule(path))
        if not blocks:
            raise WiringError(
                f"network.{path}.checkpointing: it has no blocks to checkpoint; set it to false"
            )
        for block in blocks:
            name = f"Checkpointed{type(block).__name__}"
            block.__class__ = type(name, (_Checkpointed, type(block)), {})


class _Checkpointed(nn.Module):
    """What the class of a checkpointed block derives from first."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the block; where gradients are recorded, keep its inputs only."""
        run = super().forward
        if not torch.is_grad_enabled():
            return run(*args, **kwargs)
        return checkpoint(
            run,
            *args,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _ScratchStatistics(self)),
            **kwargs,
        )


class _ScratchStatistics:
    """Lets batch norms update copies of their running statistics, which are then thrown away.

    It can be entered as often as gradients are taken of one graph.
    """

    def __init__(self, block: nn.Module) -> None:
        self._block = block
        self._kept: list[tuple[nn.Module, dict[str, Tensor | None]]] = []

    def __enter__(self) -> None:
        norms = [m for m in self._block.modules() if isinstance(m, _NormBase) and m.training]
        self._kept = [(norm, dict(norm._buffers)) for norm in norms]
        for norm, buffers in self._kept:
            copies = {name: x.clone() for name, x in buffers.items() if x is not None}
            norm._buffers.update(copies)

    def __exit__(self, *raised: object) -> None:
        for norm, buffers in self._kept:
            norm._buffers.update(buffers)
