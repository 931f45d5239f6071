"""From an encoder's pyramid to features for masks, and to maps for queries to look at."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from unienc_core.contracts import PyramidSpec
from unienc_core.models.masks.deformable import MultiScaleDeformableAttention
from unienc_core.models.masks.layers import (
    FeedForward,
    conv,
    flatten_map,
    full_type,
    map_size,
    unflatten_map,
)
from unienc_core.models.masks.position import Size, pixel_centres, sine_positions

STRIDES = (4, 8, 16, 32)
"""Strides of the levels that the decoder reads, the last ones of the pyramid."""

_NORM_GROUPS = 32


class PixelDecoder(nn.Module):
    """Mix the levels at strides 8, 16 and 32 by deformable attention, then refine to stride 4.

    The pixel decoder of Mask2Former and OneFormer (Sec. 3.2, Cheng et al.).

    Args:
        spec: The pyramid; its last four levels have the strides `STRIDES`.
        width: Channels of all maps inside and out, a multiple of 4.
        layers: Layers of deformable attention.
        heads: Heads of each.
        points: Places per head and level that a place reads.
        hidden: Width inside the feed-forward parts.
        dropout: Share dropped in each layer in training.
    """

    def __init__(
        self,
        spec: PyramidSpec,
        *,
        width: int = 256,
        layers: int = 6,
        heads: int = 8,
        points: int = 4,
        hidden: int = 1024,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        fine, *coarse = spec.channels[-len(STRIDES) :]
        self.projections = nn.ModuleList(
            nn.Sequential(_projection(channels, width), _group_norm(width))
            for channels in reversed(coarse)
        )
        self.level_embed = nn.Parameter(torch.randn(len(coarse), width))
        self.layers = nn.ModuleList(
            _Layer(width, len(coarse), heads, points, hidden, dropout) for _ in range(layers)
        )
        self.lateral = nn.Sequential(conv(fine, width, bias=False), _group_norm(width))
        self.refine = nn.Sequential(
            conv(width, width, 3, bias=False), _group_norm(width), nn.ReLU()
        )
        self.to_masks = conv(width, width)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the features that masks are made of, and three maps, coarsest first.

        Args:
            levels: A pyramid ``B C_l H/s W/s``, finest first.

        Returns:
            ``B C H/4 W/4``; and ``B C H/s W/s`` for s = 32, 16, 8.
        """
        fine, *coarse = levels[-len(STRIDES) :]
        maps = [project(x) for project, x in zip(self.projections, reversed(coarse), strict=True)]
        sizes = tuple(map_size(x) for x in maps)
        places = torch.cat([flatten_map(x) for x in maps], 1)
        kind = full_type(places)
        references = pixel_centres(sizes, places.device, kind)
        positions = self._positions(sizes, places.device, kind)
        for layer in self.layers:
            places = layer(places, positions, references, sizes)
        parts = places.split([h * w for h, w in sizes], 1)
        maps = [unflatten_map(part, size) for part, size in zip(parts, sizes, strict=True)]
        lateral = self.lateral(fine)
        raised = functional.interpolate(maps[-1], map_size(lateral), mode="bilinear")
        return self.to_masks(self.refine(lateral + raised)), maps

    def _positions(
        self, sizes: tuple[Size, ...], device: torch.device, kind: torch.dtype
    ) -> Tensor:
        """Return the code of each place and its level, ``N C``."""
        width = self.level_embed.shape[1]
        codes = [
            sine_positions(size, width, device, kind) + level
            for size, level in zip(sizes, self.level_embed, strict=True)
        ]
        return torch.cat(codes)


class _Layer(nn.Module):
    """Each place reads a few places of all levels, then a feed-forward part; norms come last."""

    def __init__(
        self, width: int, levels: int, heads: int, points: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.attention = MultiScaleDeformableAttention(
            width, heads=heads, levels=levels, points=points
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = FeedForward(width, hidden, dropout)

    def forward(
        self, places: Tensor, positions: Tensor, references: Tensor, sizes: tuple[Size, ...]
    ) -> Tensor:
        read = self.attention(places + positions, references, places, sizes)
        return self.feed_forward(self.norm(places + self.dropout(read)))


def _projection(channels: int, width: int) -> nn.Conv2d:
    made = conv(channels, width)
    nn.init.xavier_uniform_(made.weight)
    return made


def _group_norm(width: int) -> nn.GroupNorm:
    """Return a norm of 32 groups, or of as many as the width allows."""
    return nn.GroupNorm(math.gcd(_NORM_GROUPS, width), width)
