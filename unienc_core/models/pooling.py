"""Self-attentive pooling, and the small grid on which a steering head sees a frame.

A frame's levels are averaged, without parameters, to the grid of the coarsest one and rounded to
half precision. A head does so with what an encoder gives it as well as with grids out of a cache,
which it leaves as they are: both roads lead to the same numbers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unienc_core.contracts import FeaturePyramid, PyramidSpec, check_shape
from unienc_core.errors import ShapeError, WiringError

MAX_CELLS = 96
"""Of a grid: self-attention compares each of them with each other."""

Grid = tuple[int, int]

_MOST_HALF = torch.finfo(torch.float16).max


def grid_of(height: int, width: int) -> Grid:
    """Return the grid for a coarsest level of this size: its own, or one of at most `MAX_CELLS`.

    Both sides shrink by the same factor.
    """
    if height * width <= MAX_CELLS:
        return height, width
    factor = math.sqrt(MAX_CELLS / (height * width))
    rows = min(max(1, int(height * factor)), MAX_CELLS)
    return rows, min(max(1, int(width * factor)), MAX_CELLS // rows)


def pool_to_grid(pyramid: FeaturePyramid) -> FeaturePyramid:
    """Average every level over the cells of one grid and round it to half precision.

    Doing so twice changes nothing. Gradients pass the rounding as if it were not there.

    Args:
        pyramid: Levels of any size, finest first.

    Returns:
        The levels, each `M C_l h w` float32 with (h, w) as `grid_of` says, under their old strides.
    """
    grid = grid_of(*pyramid.levels[-1].shape[2:])
    return FeaturePyramid([_pool_level(x.float(), grid) for x in pyramid.levels], pyramid.strides)


def _pool_level(x: Tensor, grid: Grid) -> Tensor:
    if x.shape[2:] != grid:
        # Equal bits, however it lies in memory: levels of an encoder are often channels-last.
        x = functional.adaptive_avg_pool2d(x.contiguous(), grid)
    return _RoundToHalf.apply(x)


def join_grid(pyramid: FeaturePyramid) -> Tensor:
    """Join what `pool_to_grid` returned along channels: `M C h w` float16, nothing is lost."""
    return torch.cat(pyramid.levels, 1).half()


def split_grid(joined: Tensor, spec: PyramidSpec) -> FeaturePyramid:
    """Undo `join_grid`.

    Args:
        joined: `M C h w`.
        spec: Of the pyramid before it was pooled.

    Raises:
        ShapeError: If the channels are not those of the pyramid.
    """
    check_shape(joined, "M C h w", "grids")
    if joined.shape[1] != sum(spec.channels):
        raise ShapeError(
            f"grids of {joined.shape[1]} channels, the levels {list(spec.channels)} have "
            f"{sum(spec.channels)}; they were made by another encoder"
        )
    return FeaturePyramid(list(joined.float().split(spec.channels, 1)), spec.strides)


class _RoundToHalf(torch.autograd.Function):
    """Rounding to float16, in float32, cut to its range; the gradient stays in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(-_MOST_HALF, _MOST_HALF).half().float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class SelfAttentivePooling(nn.Module):
    """Average pooling weighted by self-attention over the whole map (Chen et al., WACV 2023).

    Patches of the map become tokens, a position is added to each, and attention mixes them, without
    residual, norm or MLP. A 1x1 convolution and a sigmoid turn them back into a logit s in (0, 1)
    for each channel and place, and every window is averaged with weights exp(s): one weight is at
    most e times another, so that no place is ever lost.

    Windows lie side by side. Where their number does not divide the map, neighbours share a row or
    column, as in adaptive pooling.

    Args:
        channels: C.
        grid: (H, W) of the maps; positions are learned for this size alone.
        windows: How many there are: (h, w) of the result.
        patch: Side of a patch, p.
        ratio: r; tokens have d = heads * max(1, round(r C / heads)) numbers.
        heads: Of the attention.
        normalised: Divide by the sum of the weights, as an average does; else ("nowin") the mean of
            the weighted values stays as it is.
        position_std: Of the positions' random start, which is normal and cut at +-2. From a small
            one, what differs with the place is learnt late.

    Raises:
        WiringError: If the patches do not divide the grid.
    """

    def __init__(
        self,
        channels: int,
        grid: Grid,
        windows: Grid,
        *,
        patch: int = 1,
        ratio: float = 1.0,
        heads: int = 2,
        normalised: bool = True,
        position_std: float = 0.02,
    ) -> None:
        super().__init__()
        if grid[0] % patch or grid[1] % patch:
            raise WiringError(
                f"self-attentive pooling: a grid of {grid[0]}x{grid[1]} cells does not divide into "
                f"patches of {patch}x{patch}; choose others, or 1"
            )
        inner = heads * max(1, round(ratio * channels / heads))
        self.grid, self.windows, self.patch, self.normalised = grid, windows, patch, normalised
        self.embed = nn.Conv2d(channels, inner, patch, patch, bias=False)
        self.embed_norm = nn.BatchNorm2d(inner)
        tokens = (grid[0] // patch, grid[1] // patch)
        self.position_embedding = nn.Parameter(torch.empty(1, inner, *tokens))
        nn.init.trunc_normal_(self.position_embedding, std=position_std)
        self.attention = nn.MultiheadAttention(inner, heads, batch_first=True)
        self.restore = nn.Conv2d(inner, channels, 1, bias=False)
        self.restore_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Pool `M C H W` to `M C h w`.

        Raises:
            ShapeError: If the maps have another size than the positions were learned for.
        """
        check_shape(x, "M C H W", "maps", H=self.grid[0], W=self.grid[1])
        weights = self.logits(x).exp()
        pooled = functional.adaptive_avg_pool2d(x * weights, self.windows)
        if not self.normalised:
            return pooled
        return pooled / functional.adaptive_avg_pool2d(weights, self.windows)

    def logits(self, x: Tensor) -> Tensor:
        """Return s of each channel and place, `M C H W`, 0..1."""
        patches = functional.relu(self.embed_norm(self.embed(x))) + self.position_embedding
        tokens = patches.flatten(2).transpose(1, 2)
        mixed = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        mixed = mixed.transpose(1, 2).unflatten(2, patches.shape[2:])
        restored = self.restore(mixed)  # 1x1, so it may as well come before nearest enlarging
        if self.patch > 1:
            restored = functional.interpolate(restored, self.grid, mode="nearest")
        return self.restore_norm(restored).sigmoid()
