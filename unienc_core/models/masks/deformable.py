"""Multi-scale deformable attention in plain torch: each query reads a few places of each level."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from unienc_core.geometry.precision import full_precision
from unienc_core.models.masks.position import Size


class MultiScaleDeformableAttention(nn.Module):
    """Attention over a few places of each level, found by the query itself.

    Eq. 3, Zhu et al. (Deformable DETR), for maps without padding. Computed in single precision or
    better, whatever autocast is on outside: a place among a few hundred columns does not survive
    half precision.

    An untrained head looks from its query in one of `heads` directions, 1, 2, ... pixels far, and
    weighs all places alike.

    Args:
        channels: Width of queries, values and output.
        heads: Number of heads, which share the channels.
        levels: Number of maps that are read.
        points: Places per head and level.
    """

    def __init__(self, channels: int, *, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.offsets = nn.Linear(channels, heads * levels * points * 2)
        self.weights = nn.Linear(channels, heads * levels * points)
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the initial state."""
        for linear in (self.offsets, self.weights):
            nn.init.zeros_(linear.weight)
        for linear in (self.value, self.output):
            nn.init.xavier_uniform_(linear.weight)
        for linear in (self.weights, self.value, self.output):
            nn.init.zeros_(linear.bias)
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        direction = torch.stack([angle.cos(), angle.sin()], -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        steps = direction[:, None, None] * torch.arange(1, self.points + 1)[:, None]
        with torch.no_grad():
            self.offsets.bias.copy_(steps.expand(-1, self.levels, -1, -1).flatten())

    @full_precision
    def forward(
        self, query: Tensor, references: Tensor, value: Tensor, sizes: tuple[Size, ...]
    ) -> Tensor:
        """Return ``B N C``.

        Args:
            query: ``B N C``.
            references: ``N 2`` or ``B N 2``, where each query stands: x and y, as shares of the
                width and height of any level.
            value: ``B M C``, the places of all levels one after another, each row by row.
            sizes: Height and width of each level, in that order.
        """
        batch, count, _ = query.shape
        places = (batch, count, self.heads, self.levels, self.points)
        shift = self.offsets(query).view(*places, 2)
        weights = self.weights(query).view(batch, count, self.heads, -1).softmax(-1).view(places)
        extent = _extents(sizes, query.device, query.dtype)[:, None]
        # From shares of the size to pixels whose centres are integers.
        pixels = references[..., None, None, None, :] * extent - 0.5 + shift
        values = self.value(value).unflatten(-1, (self.heads, -1))
        return self.output(sample_weighted(values, sizes, pixels, weights))


def sample_weighted(
    values: Tensor, sizes: tuple[Size, ...], pixels: Tensor, weights: Tensor
) -> Tensor:
    """Return the weighted sum of bilinear samples of several maps, ``B N heads*D``.

    A sample is a weighted sum of four values, so the whole is a weighted sum of rows of a table:
    gathered and added in one pass, without the samples ever lying in memory.

    Args:
        values: ``B M heads D``, the places of all levels one after another.
        sizes: Height and width of each level.
        pixels: ``B N heads levels points 2``, x and y with pixel centres at integers; beyond the
            border is zero.
        weights: ``B N heads levels points``.
    """
    batch, places, heads, _ = values.shape
    # A pixel's values of all heads lie side by side in the table.
    width, height, first = _table(sizes, heads, weights.shape[-1], pixels.device)
    first = (
        first + torch.arange(batch, device=first.device).int().view(-1, 1, 1, 1) * places * heads
    )
    x, y = pixels.flatten(3, 4).unbind(-1)
    rows, shares = [], []
    for row, share_y in _neighbours(y, height):
        start = row * (width * heads) + first
        weight = share_y * weights.flatten(3)
        for column, share_x in _neighbours(x, width):
            rows.append(column * heads + start)
            shares.append(share_x * weight)
    summed = functional.embedding_bag(
        torch.cat(rows, -1).flatten(0, 2),
        values.flatten(0, 2),
        per_sample_weights=torch.cat(shares, -1).flatten(0, 2),
        mode="sum",
    )
    return summed.view(batch, -1, heads * values.shape[-1])


def _neighbours(place: Tensor, extent: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return index and share of the pixels before and after each place along one axis.

    Beyond the border the share is zero, and the index that of the border.
    """
    before = place.detach().floor()
    after = before + 1
    share = after - place
    # Clamped as integers: a place that is no number must not become an index out of the table.
    return [
        (
            pixel.int().clamp(min=0).minimum(extent - 1),
            part * ((pixel >= 0) & (pixel < extent)),
        )
        for pixel, part in ((before, share), (after, 1 - share))
    ]


@lru_cache(16)
def _table(
    sizes: tuple[Size, ...], heads: int, points: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return width, height and first row of the level of each sample, ``heads levels*points``.

    Spelled out for each sample, since to broadcast along axes of a few entries is slow.
    """
    with torch.inference_mode(False):
        height, width = torch.tensor(sizes, dtype=torch.int32).T
        first = (height * width).cumsum(0).int() - height * width
        samples = [v.repeat_interleave(points).repeat(heads, 1) for v in (width, height, first)]
        samples[2] = samples[2] * heads + torch.arange(heads).int()[:, None]
        return (samples[0].to(device), samples[1].to(device), samples[2].to(device))


@lru_cache(16)
def _extents(sizes: tuple[Size, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return width and height of each level, ``L 2``."""
    with torch.inference_mode(False):
        return torch.tensor([(w, h) for h, w in sizes], dtype=dtype).to(device)
