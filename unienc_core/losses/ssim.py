"""Structural similarity to one fixed image, fast on a single CPU thread.

Over 3 x 3 windows with reflected borders, of images in 0..1:

    S = (2 mx my + C1) (2 cov + C2) / ((mx^2 + my^2 + C1) (vx + vy + C2))
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

C1 = 1e-4
C2 = 9e-4


class SsimReference:
    """The fixed image y with its local moments, computed once for all views compared with it.

    Args:
        image: `B S C H W`; S may be 1, shared by all views of a sample. H and W are at least 2.
    """

    def __init__(self, image: Tensor) -> None:
        self.padded = _reflect(image)
        self.mean = _box_mean(self.padded)
        squared_mean = self.mean.square()
        self.luminance = squared_mean + C1
        self.contrast = _box_mean(self.padded.square()) - squared_mean + C2

    def similarity(self, views: Tensor) -> Tensor:
        """Return S of each pixel, -1..1, `B S C H W`, differentiable in `views` of that shape."""
        return _Similarity.apply(_reflect(views), self)


class _Similarity(torch.autograd.Function):
    """S with its first derivative written out: half the time of recording thirty operations."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, reference: SsimReference) -> Tensor:
        mean = _box_mean(padded)
        shared, squared = mean * reference.mean, mean.square()
        covariance = _box_mean(padded * reference.padded).sub_(shared)
        variance = _box_mean(padded.square()).sub_(squared)
        a1, a2 = shared.mul_(2).add_(C1), covariance.mul_(2).add_(C2)
        b1, b2 = squared.add_(reference.luminance), variance.add_(reference.contrast)
        similarity = (a1 * a2).div_(b1 * b2)
        ctx.save_for_backward(padded, mean, a1, a2, b1, b2, similarity)
        ctx.reference = reference
        return similarity

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, None]:
        """Chain rule through the means of x, x y and x^2; each `by_` holds a factor of 2."""
        padded, mean, a1, a2, b1, b2, similarity = ctx.saved_tensors
        reference = ctx.reference
        twice = 2 * gradient * similarity
        # Never divided by a1 or a2: a2 passes through zero where covariance is negative.
        share = (2 * gradient).div_(b1 * b2)
        by_xy, by_xx = share * a1, twice / b2
        by_mean = share.mul_(a2).sub_(by_xy).mul_(reference.mean)
        by_mean -= twice.div_(b1).sub_(by_xx).mul_(mean)
        result = _box_mean_adjoint(by_mean)
        result += _box_mean_adjoint(by_xy).mul_(reference.padded)
        result -= _box_mean_adjoint(by_xx).mul_(padded)
        return result, None


def _reflect(images: Tensor) -> Tensor:
    """Pad `B S C H W` by one reflected pixel on each side."""
    return F.pad(images.flatten(0, 1), (1, 1, 1, 1), mode="reflect").unflatten(0, images.shape[:2])


def _box_mean(padded: Tensor) -> Tensor:
    """Mean over 3 x 3 windows, `... H+2 W+2` to `... H W`.

    Shifted sums, row-wise and then column-wise, take a tenth of the time of a pooling layer.
    """
    rows = (padded[..., :-2] + padded[..., 1:-1]).add_(padded[..., 2:])
    return (rows[..., :-2, :] + rows[..., 1:-1, :]).add_(rows[..., 2:, :]).div_(9)


def _box_mean_adjoint(gradient: Tensor) -> Tensor:
    """Spread each value over its window, `... H W` to `... H+2 W+2`."""
    return _box_mean(F.pad(gradient, (2, 2, 2, 2)))
