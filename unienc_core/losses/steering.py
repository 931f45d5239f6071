"""The loss of steering: squared errors, those of sharp turns weighted up (Eq. 5, Nguyen et al.)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from unienc_core.contracts import StepContext, Term, check_shape
from unienc_core.data.labels import measured
from unienc_core.data.steering import CURVATURE, STEERING_KINDS, kind_of
from unienc_core.errors import PresetError
from unienc_core.registry import register

PUBLISHED_CURVE_FACTOR = 0.1
"""Of Lechner et al., per 1/km: a label of 15/km counts 4.5 times, one of 60/km 400 times."""

_USUAL_GROWTH = 1.5


def suggested_curve_factor(labels: np.ndarray) -> float:
    """Return the lambda under which all but the largest hundredth of labels count up to 4.5 times.

    Args:
        labels: In any unit; NaN where unknown.
    """
    known = np.abs(labels[np.isfinite(labels)])
    large = float(np.quantile(known, 0.99)) if known.size else 0.0
    return _USUAL_GROWTH / large if large else 0.0


@register("term", "steering")
class SteeringError(Term):
    """sum w (prediction - y)^2 / sum w with w = exp(lambda |y|) (Eq. 5, Nguyen et al.).

    The sums go over the batch of all processes, and over all frames where the head predicts all of
    them; a frame whose label is NaN counts nothing.

    Args:
        predicts: The steering label, by its name in a store, as the head has it.
        curve_factor: Lambda, per unit of the label; 0 for the plain mean. None for the published
            0.1 per 1/km; labels in other units have no usual value, and must be given one.

    Raises:
        PresetError: If there is no such label, or a lambda is missing.
    """

    def __init__(
        self,
        *,
        predicts: str = CURVATURE,
        curve_factor: Annotated[float, Field(ge=0)] | None = None,
    ) -> None:
        super().__init__()
        kind = kind_of(predicts)
        if kind is None:
            raise PresetError(
                f"term steering: no label '{predicts}'; labels are {', '.join(STEERING_KINDS)}"
            )
        if curve_factor is None and kind.name != CURVATURE:
            raise PresetError(
                f"term steering: {PUBLISHED_CURVE_FACTOR:g} per 1/km says nothing of {predicts} in "
                f"{kind.unit}; give curve_factor, such as {_USUAL_GROWTH:g} over the label's 99% "
                "quantile, or 0 for the plain mean"
            )
        self.curve_factor = PUBLISHED_CURVE_FACTOR if curve_factor is None else curve_factor
        self.requires = (predicts, measured(predicts))

    def forward(self, values: Mapping[str, Any], context: StepContext) -> Tensor:
        """Return the loss of the batch."""
        predicted, labels = (values[key] for key in self.requires)
        if predicted.dim() < labels.dim():
            labels = labels[:, -1]
        check_shape(labels, "B" if predicted.dim() == 1 else "B N", "steering labels")
        known = labels.isfinite()
        labels = torch.where(known, labels, 0.0).to(predicted)
        exponents = (self.curve_factor * labels.abs()).masked_fill(~known, -torch.inf)
        # The quotient does not change with a common factor: the largest weight is 1.
        weights = (exponents - _greatest(exponents, context)).exp()
        weighted = (weights * (predicted - labels).square()).sum()
        total = context.sum_over_processes(weights.sum())
        self.logs = {"mse": _mean_square(predicted, labels, known, context)}
        return weighted * context.processes / total.clamp(min=torch.finfo(total.dtype).tiny)


def _greatest(exponents: Tensor, context: StepContext) -> Tensor:
    """Return the largest exponent of the batch of all processes; 0 if no label is known."""
    largest = exponents.amax().clamp(min=0.0)
    if context.processes == 1:
        return largest
    each = largest.new_zeros(context.processes)
    each[context.rank] = largest
    return context.sum_over_processes(each).amax()


def _mean_square(predicted: Tensor, labels: Tensor, known: Tensor, context: StepContext) -> Tensor:
    """Return the plain mean squared error; of several processes, the average over them is that."""
    errors = torch.where(known, predicted.detach() - labels, 0.0).square().sum()
    return errors * context.processes / context.sum_over_processes(known.sum()).clamp(min=1)
