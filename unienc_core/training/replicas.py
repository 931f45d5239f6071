"""The same module in every process of a run: gradients averaged, batch statistics shared."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from unienc_core.contracts import Say
from unienc_core.models.timm_compat import convert_sync_batchnorm
from unienc_core.training.distributed import World


def replicate(module: nn.Module, world: World, trial: Callable[[nn.Module], Tensor]) -> nn.Module:
    """Return `module`, or what averages its gradients over all processes.

    Args:
        module: With what moves set to require gradients.
        world: The processes.
        trial: A forward pass of a module that returns the loss. Two are made, and one backward
            pass: only they show whether parameters stay without a gradient, which the wrapper
            must know; and after its first backward pass it regroups the gradients. With that done
            before a step counts, a resumed stage adds them up in the order of an uninterrupted one.
    """
    if world.size == 1:
        return module
    # A 1x1 convolution of channels_last input gives rise to it, and nothing comes of it.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    moving = [parameter for parameter in module.parameters() if parameter.requires_grad]
    replica = DistributedDataParallel(
        module,
        find_unused_parameters=world.agree(_unreached(trial(module), moving)) > 0,
        gradient_as_bucket_view=True,
    )
    trial(replica).backward()
    return replica


def share_batch_statistics(network: nn.Module, world: World, say: Say) -> None:
    """Let batch norms see the batch of all processes, where the device can; else say so."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if world.size == 1 or not norms:
        return
    if next(network.parameters()).is_cuda:
        convert_sync_batchnorm(network)
    else:
        say(
            f"batch norm: each of {world.size} processes normalises by its own part of the batch "
            "(only CUDA can share them)"
        )


def averaging(replica: nn.Module, yes: bool) -> contextlib.AbstractContextManager[None]:
    """Say whether a backward pass averages gradients, or keeps them for one that will."""
    if yes or not isinstance(replica, DistributedDataParallel):
        return contextlib.nullcontext()
    return replica.no_sync()


def _unreached(loss: Tensor, parameters: Iterable[nn.Parameter]) -> int:
    """Return how many of `parameters` the loss does not depend on."""
    missing = {id(parameter) for parameter in parameters}
    stack: list[Any] = [loss.grad_fn]
    seen: set[Any] = {None}
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            missing.discard(id(getattr(node, "variable", None)))
            stack.extend(before for before, _ in node.next_functions)
    return len(missing)
