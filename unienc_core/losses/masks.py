"""Loss of queries for segments (Eq. 1, Nguyen et al.): class, mask by two measures, and texts.

The first three add up over all predictions of the decoder. Counts are those of all processes, so
that the average over processes is the loss of the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from unienc_core.contracts import StepContext, Term
from unienc_core.registry import register

_MOST_SCALE = 100.0


@register("term", "cls")
class ClassTerm(Term):
    """Cross-entropy of each query's class, "no object" weighted down.

    A weighted mean over the queries of the batch, summed over layers.

    Args:
        no_object: Weight of queries that were matched with nothing.
    """

    task = "segmentation"
    requires = ("class_logits_layers", "query_classes_layers")

    def __init__(self, *, no_object: Annotated[float, Field(gt=0)] = 0.1) -> None:
        super().__init__()
        self.no_object = no_object

    def forward(self, values: Mapping[str, Any], context: StepContext) -> Tensor:
        """Return the loss of the batch."""
        logits = torch.stack(values["class_logits_layers"]).flatten(1, 2)  # layers B*Q K+1
        wanted = torch.stack(values["query_classes_layers"]).flatten(1)
        no_object = logits.shape[-1] - 1
        weights = torch.ones_like(wanted, dtype=logits.dtype)
        weights = weights.masked_fill(wanted == no_object, self.no_object)
        errors = functional.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
        share = context.processes / context.sum_over_processes(weights.sum(1))
        return ((weights * errors).sum(1) * share).sum()


class _MaskTerm(Term):
    """A measure of two masks, averaged over the matched segments and summed over layers."""

    task = "segmentation"
    requires = ("point_logits_layers", "point_targets_layers")

    def forward(self, values: Mapping[str, Any], context: StepContext) -> Tensor:
        """Return the loss of the batch; 0 without any segment."""
        logits: Sequence[Tensor] = values["point_logits_layers"]
        targets: Sequence[Tensor] = values["point_targets_layers"]
        errors = [self.compare(x, t).sum() for x, t in zip(logits, targets, strict=True)]
        matched = context.sum_over_processes(errors[0].new_tensor(len(targets[0])))
        return torch.stack(errors).sum() * context.processes / matched.clamp(min=1)

    def compare(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return how far masks ``M P`` are from their targets, ``M``."""
        raise NotImplementedError


@register("term", "bce")
class MaskEntropy(_MaskTerm):
    """Binary cross-entropy of masks, the mean over points."""

    def compare(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the error of each mask, ``M``."""
        return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(
            1
        )


@register("term", "dice")
class MaskDice(_MaskTerm):
    """One minus Dice's coefficient of masks, one pixel added to both of its parts."""

    def compare(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the error of each mask, ``M``."""
        inside = logits.sigmoid()
        both = 2 * (inside * targets).sum(1)
        return 1 - (both + 1) / (inside.sum(1) + targets.sum(1) + 1)


@register("term", "contrast")
class QueryTextContrast(Term):
    """Which image's queries go with which image's texts (Eq. 1 to 3, Jain et al.).

    All queries of an image are one long vector, and so are its texts. Each is told from those of
    all other images of the batch, those of other processes too. The temperature is learned.

    Args:
        temperature: Where it starts.
    """

    task = "segmentation"
    requires = ("object_queries", "text_queries")

    def __init__(self, *, temperature: Annotated[float, Field(gt=0)] = 0.07) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, values: Mapping[str, Any], context: StepContext) -> Tensor:
        """Return the loss of the batch, both ways together; 0 for a batch of one."""
        both = torch.stack([values[key].flatten(1) for key in self.requires])
        objects, texts = gather_rows(functional.normalize(both, dim=-1), context)
        scale = self.log_scale.exp().clamp(max=_MOST_SCALE).to(objects.dtype)
        logits = scale * texts @ objects.T
        own = torch.arange(len(logits), device=logits.device)
        self.logs = {"scale": scale.detach()}
        return functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)


def gather_rows(own: Tensor, context: StepContext) -> Tensor:
    """Return the rows of all processes, in order of rank: ``... B C`` to ``... B_all C``.

    Gradients reach a process's own rows alone, times the number of processes: after averaging
    over these, parameters get the gradient of a loss that every process computes from all rows.
    """
    if context.processes == 1:
        return own
    rows = own.shape[-2]
    counts = torch.zeros(context.processes, dtype=torch.int64, device=own.device)
    counts[context.rank] = rows
    ends = context.sum_over_processes(counts).cumsum(0).tolist()
    before, after = ends[context.rank] - rows, ends[-1] - ends[context.rank]
    everyone = context.sum_over_processes(functional.pad(own.detach(), (0, 0, before, after)))
    if own.requires_grad:
        own = own * 1.0  # a tensor of its own, so that the hook is met here only
        own.register_hook(lambda gradient: gradient * context.processes)
    first, _, last = everyone.split([before, rows, after], -2)
    return torch.cat([first, own, last], -2)
