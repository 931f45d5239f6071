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


def start_with_differences(conv: nn.Conv2d, frame_channels: int) -> None:
    """Let half of the outputs start as one frame minus the other.

    Two neighbouring frames are nearly equal: in random mixtures of them the motion is a few percent
    of what a batch norm then scales, and a network trained from scratch takes long to find it.

    Args:
        conv: Its last 2 `frame_channels` inputs are the two frames.
        frame_channels: Channels of each.
    """
    half = conv.out_channels // 2
    with torch.no_grad():
        first = conv.weight[:half, -2 * frame_channels : -frame_channels]
        conv.weight[:half, -frame_channels:] = -first


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
    """ReLU(BN(Conv(ReLU(BN(Conv x)))) + shortcut); 3x3 convolutions without bias."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
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
        return functional.relu(self.residual(x) + self.shortcut(x))
