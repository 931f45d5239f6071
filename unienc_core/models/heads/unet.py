"""U-Net depth head: upsample, join the skip, convolve, down to a sigmoid disparity."""

from __future__ import annotations

import math
from typing import Literal, cast

import torch
from torch import Tensor, nn

from unienc_core.contracts import Head, NodeInputs, Predictions
from unienc_core.errors import WiringError
from unienc_core.geometry.precision import widen
from unienc_core.models.blocks import ConvELU, upsample_nearest
from unienc_core.models.decoder_steps import decoder_steps
from unienc_core.models.site import NodeSite
from unienc_core.registry import Count, register

Norm = Literal["none", "batch"]


@register("head", "unet")
class UNetDepth(Head):
    """Decode a pyramid of any depth to disparity.

    One block per level that serves as a skip, and one per doubling where the pyramid has none (a
    Swin has no level at half resolution). Levels of equal stride (a dilated encoder) are joined
    without upsampling.

    Args:
        site: Where the head stands.
        channels: Width of each block, the one nearest to the output first.
        scales: How many disparity maps; each next has half the size.
        norm: Batch norm in every block, or none as in the field's usual decoder.
        resolution: Size of the finest map: the image's, or half of it.
        initial_disparity: Where an untrained head starts. It also sets the scale that depth and
            translation settle at: from 0.5 the nearest things soon press against the end of the
            range when training starts from random weights.
    """

    produces = ("disparity", "disparity_scales")

    def __init__(
        self,
        site: NodeSite,
        *,
        channels: tuple[Count, ...] = (16, 32, 64, 128, 256),
        scales: int = 4,
        norm: Norm = "none",
        resolution: Literal["full", "half"] = "full",
        initial_disparity: float = 0.5,
    ) -> None:
        super().__init__()
        spec = site.only_pyramid()
        if min(site.image_size) < 2 * spec.strides[-1]:  # borders are reflected
            raise WiringError(
                f"head '{site.name}': image_size {list(site.image_size)} leaves less than two "
                f"pixels at stride {spec.strides[-1]}"
            )
        finest = 1 if resolution == "full" else 2
        steps = decoder_steps(spec, finest, site.name)
        if len(channels) != len(steps):
            raise WiringError(
                f"head '{site.name}': {len(channels)} widths in channels, but a pyramid of strides "
                f"{list(spec.strides)} takes {len(steps)} blocks to reach stride {finest}"
            )
        strides = [finest * 2**k for k in range(scales)]
        reached = {stride: i for i, (stride, _) in enumerate(steps)}
        if scales < 1 or not set(strides) <= set(reached):
            raise WiringError(
                f"head '{site.name}': {scales} scales asked for, possible are 1 to {len(reached)}"
            )
        self.blocks = nn.ModuleList()
        width, stride = spec.channels[-1], spec.strides[-1]
        for (step_stride, skip), out in zip(steps, reversed(channels), strict=True):
            joined = out + (0 if skip is None else spec.channels[skip])
            self.blocks.append(_UpBlock(width, out, joined, stride // step_stride, norm))
            width, stride = out, step_stride
        self.skips = [skip for _, skip in steps]
        self.outputs = [reached[s] for s in strides]
        widths = list(reversed(channels))
        if not 0 < initial_disparity < 1:
            raise WiringError(
                f"head '{site.name}': initial_disparity = {initial_disparity}, expected within 0..1"
            )
        self.to_disparity = nn.ModuleList(
            _output(widths[i], initial_disparity) for i in self.outputs
        )

    def forward(self, inputs: NodeInputs) -> Predictions:
        """Return `disparity` and `disparity_scales`, `B 1 h w` in 0..1, finest first."""
        levels = inputs.pyramids[0].levels
        x, decoded = levels[-1], []
        for block, skip in zip(self.blocks, self.skips, strict=True):
            x = block(x, None if skip is None else levels[skip])
            decoded.append(x)
        scales = [
            torch.sigmoid(widen(conv(decoded[i])))
            for conv, i in zip(self.to_disparity, self.outputs, strict=True)
        ]
        return {"disparity": scales[0], "disparity_scales": scales}


def _output(width: int, initial_disparity: float) -> nn.Conv2d:
    """Return the convolution to one map of logits, which starts near `initial_disparity`."""
    conv = nn.Conv2d(width, 1, 3, 1, 1, padding_mode="reflect")
    with torch.no_grad():
        cast(Tensor, conv.bias).fill_(math.log(initial_disparity / (1 - initial_disparity)))
    return conv


class _UpBlock(nn.Module):
    """Convolve, upsample, join the skip, convolve."""

    def __init__(self, width: int, out: int, joined: int, factor: int, norm: Norm) -> None:
        super().__init__()
        self.factor = factor
        self.before = ConvELU(width, out, norm)
        self.after = ConvELU(joined, out, norm)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = upsample_nearest(self.before(x), self.factor)
        return self.after(x if skip is None else torch.cat([x, skip], 1))
