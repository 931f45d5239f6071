"""Depth by pixel-wise skip attention: the paper's decoder, with disparity as a mean over bins."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from unienc_core.contracts import Head, NodeInputs, Predictions
from unienc_core.errors import WiringError
from unienc_core.geometry.precision import widen
from unienc_core.models.decoder_steps import decoder_steps
from unienc_core.models.site import NodeSite
from unienc_core.registry import Count, register


@register("head", "transdssl")
class TransDSSLDepth(Head):
    """Decode a pyramid of any depth to disparity, the mean of a distribution over fixed bins.

    The depth decoder of the unified encoder (Fig. 2a, Nguyen et al.). All levels are brought to
    one width. From the coarsest on, each block joins what was decoded with the level of its size,
    then doubles the size, so that the last block joins a level at stride 2: a ResNet has one; for
    a Swin, which starts at stride 4, that level is enlarged in its place. `resolution: half` leaves
    the last block out and reads no level at stride 2. Levels of equal stride (a dilated encoder)
    are joined without enlarging.

    An untrained head finds all bins about equally likely: disparity starts at the middle of `grid`
    and stays within. With a depth range of 0.1 to 100, disparities of 0.01 to 1 mean depths of 0.1
    to 9.1 units where the convention is `scaled`, enough where the scale is free, and of 1 to 100
    where it is `inverse`.

    Args:
        site: Where the head stands.
        width: Channels of every level.
        bins: How many disparities the mean is over.
        grid: The least and the greatest of them; the rest lie evenly between.
        hidden: Channels between the two convolutions that lead to the bins.
        scales: How many disparity maps; each next has half the size.
        resolution: Size of the finest map: the image's, or half of it at a quarter of the cost.
    """

    produces = ("disparity", "disparity_scales")
    bin_values: Tensor

    def __init__(
        self,
        site: NodeSite,
        *,
        width: Count = 256,
        bins: Count = 32,
        grid: tuple[float, float] = (0.01, 1.0),
        hidden: Count = 128,
        scales: int = 4,
        resolution: Literal["full", "half"] = "full",
    ) -> None:
        super().__init__()
        spec = site.only_pyramid()
        finest = 1 if resolution == "full" else 2
        steps = decoder_steps(spec, 2 * finest, site.name)
        joined = [spec.strides[-1], *(stride for stride, _ in steps)]
        made = [*joined[1:], finest]
        wanted = [finest * 2**k for k in range(scales)]
        if scales < 1 or not set(wanted) <= set(made):
            raise WiringError(
                f"head '{site.name}': {scales} scales asked for, possible are 1 to {len(set(made))}"
            )
        self.skips = [level for _, level in steps]
        self.laterals = nn.ModuleList(
            _enlarge(2) if i is None else nn.Conv2d(spec.channels[i], width, 1, bias=False)
            for i in (len(spec.strides) - 1, *self.skips)
        )
        factors = [a // b for a, b in zip(joined, made, strict=True)]
        self.top = _TopBlock(width, factors[0])
        self.fusions = nn.ModuleList(_FusionBlock(width, factor) for factor in factors[1:])
        # Where several blocks end at one stride, the last of them has joined the most.
        self.outputs = [len(made) - 1 - made[::-1].index(stride) for stride in wanted]
        values = _bin_values(grid, bins, site.name)
        self.register_buffer("bin_values", values.view(-1, 1, 1), persistent=False)
        # Two convolutions with no activation between them.
        self.to_bins = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, hidden, 3, 1, 1), nn.Conv2d(hidden, bins, 3, 1, 1))
            for _ in self.outputs
        )

    def forward(self, inputs: NodeInputs) -> Predictions:
        """Return `disparity` and `disparity_scales`, `B 1 h w` within `grid`, finest first."""
        levels = inputs.pyramids[0].levels
        skip = self.laterals[0](levels[-1])
        decoded = [self.top(skip)]
        for lateral, level, fuse in zip(self.laterals[1:], self.skips, self.fusions, strict=True):
            skip = lateral(skip if level is None else levels[level])
            decoded.append(fuse(decoded[-1], skip))
        scales = [
            expectation(to_bins(decoded[i]), self.bin_values)
            for to_bins, i in zip(self.to_bins, self.outputs, strict=True)
        ]
        return {"disparity": scales[0], "disparity_scales": scales}


def expectation(logits: Tensor, values: Tensor) -> Tensor:
    """Return the mean of `values` under the softmax of `logits`, in at least float32.

    Args:
        logits: `B bins h w`.
        values: `bins 1 1`.

    Returns:
        `B 1 h w`.
    """
    return (widen(logits).softmax(1) * values).sum(1, keepdim=True)


class _ResidualUnit(nn.Module):
    """x + Conv(ReLU(Conv(ReLU x))), 3x3."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.ReLU(),  # not in place: the sum needs x
            nn.Conv2d(width, width, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.residual(x)


class _TopBlock(nn.Module):
    """Refine the coarsest level and enlarge it."""

    def __init__(self, width: int, factor: int) -> None:
        super().__init__()
        self.refine = _ResidualUnit(width)
        self.out = _project(width, factor)

    def forward(self, skip: Tensor) -> Tensor:
        return self.out(self.refine(skip))


class _FusionBlock(nn.Module):
    """Pixel-wise skip attention: what was decoded plus the skip, weighted as the skip alone says.

    With s = decoded + skip and A the softmax over channels of what the skip gives, y = s +
    refine(s A), enlarged.
    """

    def __init__(self, width: int, factor: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(_ResidualUnit(width), nn.Conv2d(width, width, 1))
        self.refine = _ResidualUnit(width)
        self.out = _project(width, factor)

    def forward(self, decoded: Tensor, skip: Tensor) -> Tensor:
        total = decoded + skip
        attention = widen(self.attention(skip)).softmax(1).to(total.dtype)
        return self.out(self.refine(total * attention) + total)


def _project(width: int, factor: int) -> nn.Sequential:
    """Mix the channels, then enlarge.

    Published the other way round. The two commute, since the weights of an interpolation sum to
    1, and at the smaller size the convolution costs a quarter.
    """
    return nn.Sequential(nn.Conv2d(width, width, 1), _enlarge(factor))


def _enlarge(factor: int) -> nn.Module:
    if factor == 1:
        return nn.Identity()
    return nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=True)


def _bin_values(grid: tuple[float, float], bins: int, name: str) -> Tensor:
    low, high = grid
    if not 0 <= low < high <= 1 or bins < 2:
        raise WiringError(
            f"head '{name}': {bins} bins over grid {list(grid)}, expected at least 2 over a range "
            "within 0..1"
        )
    return torch.linspace(low, high, bins)
