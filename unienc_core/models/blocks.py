"""Small pieces that several encoders, necks and heads share."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise_images(images: Tensor) -> Tensor:
    """Normalise `M 3n H W` images in 0..1 by ImageNet's statistics (Section III, Nguyen et al.)."""
    repeats = images.shape[1] // 3
    mean = images.new_tensor(IMAGENET_MEAN * repeats).view(1, -1, 1, 1)
    std = images.new_tensor(IMAGENET_STD * repeats).view(1, -1, 1, 1)
    return (images - mean) / std


def earlier_first(pairs: Tensor, source_offsets: Tensor) -> Tensor:
    """Turn pairs (source, target) into (earlier, later).

    Args:
        pairs: `M 2c h w`, the two along the channels.
        source_offsets: `M` entries, the frames from target to source.
    """
    source, target = pairs.chunk(2, 1)
    swapped = source_is_later(source_offsets)[:, None, None, None]
    return torch.where(swapped, torch.cat([target, source], 1), pairs)


def source_is_later(source_offsets: Tensor) -> Tensor:
    """Return which of M pairs, by their `source_offsets`, have the target first; `M`, bool."""
    return source_offsets.flatten() > 0


def start_with_differences(conv: nn.Conv2d, frame_channels: int, frames: int = 2) -> None:
    """Let half of the outputs start as one frame minus the other, or others.

    Two neighbouring frames are nearly equal: in random mixtures of them the motion is a few percent
    of what a batch norm then scales, and a network trained from scratch takes long to find it.

    Args:
        conv: Its last `frames` x `frame_channels` inputs are the frames.
        frame_channels: Channels of each.
        frames: How many; of one alone nothing changes.
    """
    if frames == 1:
        return
    half = conv.out_channels // 2
    with torch.no_grad():
        joined = conv.weight[:half, -frames * frame_channels :]
        each = joined.unflatten(1, (frames, frame_channels))
        each[:, -1] = -each[:, :-1].sum(1)


def upsample_nearest(x: Tensor, factor: int) -> Tensor:
    """Repeat every pixel `factor` times in both directions."""
    return x if factor == 1 else functional.interpolate(x, scale_factor=factor, mode="nearest")


class ConvELU(nn.Sequential):
    """3x3 convolution with reflected borders, optional batch norm, ELU."""

    def __init__(
        self, in_channels: int, out_channels: int, norm: Literal["none", "batch"] = "none"
    ) -> None:
        bias = norm == "none"
        conv = nn.Conv2d(in_channels, out_channels, 3, 1, 1, bias=bias, padding_mode="reflect")
        norms = [] if norm == "none" else [nn.BatchNorm2d(out_channels)]
        super().__init__(conv, *norms, nn.ELU(inplace=True))


class ResBlock(nn.Module):
    """act(BN(Conv(act(BN(Conv x)))) + shortcut); 3x3 convolutions without bias.

    Args:
        in_channels: Of the input.
        out_channels: Of the output.
        stride: Of the first convolution.
        act: The activation, ReLU or ELU.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        act: type[nn.ReLU | nn.ELU] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.act = act(inplace=True)
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            act(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map `M C H W` to `M C_out H/stride W/stride`."""
        return self.act(self.residual(x) + self.shortcut(x))
