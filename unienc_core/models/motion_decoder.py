"""Small maps refined coarse to fine, from the camera's motion on (Fig. 2c, Nguyen et al.)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unienc_core.geometry.precision import widen
from unienc_core.models.blocks import ResBlock, start_with_differences
from unienc_core.models.decoder_steps import decoder_steps
from unienc_core.models.site import NodeSite

MotionBlock = Literal["paper_elu", "release_relu", "dynamo_linear"]
"""How a refinement stage computes what it adds; see `Refinement`."""

# Channels of a level that the pyramid lacks.
FINER_WIDTH = 64


class MotionDecoder(nn.Module):
    """From the camera's motion at 1x1 (F_5 of the paper) through all levels to the images' size.

    Attributes:
        strides: Stride of each map, coarse to fine.
    """

    def __init__(self, site: NodeSite, out: int, form: MotionBlock, squeeze: int | None) -> None:
        super().__init__()
        spec = site.only_pyramid()
        frames = site.frames[0]
        coarsest = len(spec.strides) - 1
        steps = [(spec.strides[-1], coarsest), *decoder_steps(spec, 2, site.name)]
        self.strides = [stride for stride, _ in steps] + [1]
        self.levels: list[int] = []
        self.laterals, self.stages = nn.ModuleList(), nn.ModuleList()
        nearest = coarsest
        for stride, level in steps:
            nearest = nearest if level is None else level
            channels = spec.channels[nearest]
            width = min(squeeze or channels, channels)
            if level is None:
                width = min(width, FINER_WIDTH)
                factor = spec.strides[nearest] // stride
                self.laterals.append(FinerLevel(channels, width, factor, frames))
            else:
                self.laterals.append(_squeeze(channels, width, frames))
            as_it_comes = level is not None and width == channels
            self.stages.append(Refinement(width, out, form, frames if as_it_comes else 1))
            self.levels.append(nearest)
        self.from_pose = nn.Conv2d(6, out, 1)
        self.from_images = Refinement(site.image_channels, out, form, site.image_channels // 3)

    def forward(self, levels: list[Tensor], images: Tensor, pose: Tensor) -> list[Tensor]:
        """Return the maps, `M out h w`, coarse to fine.

        Args:
            levels: Of the pyramid, finest first.
            images: Normalised, `M 3n H W`.
            pose: Translation, then rotation, scaled; `M 6`.
        """
        x = self.from_pose(pose[:, :, None, None])
        maps: list[Tensor] = []
        for index, lateral, refine in zip(self.levels, self.laterals, self.stages, strict=True):
            x = refine(x, lateral(levels[index]))
            maps.append(x)
        return [*maps, self.from_images(x, images)]


class Refinement(nn.Module):
    """One stage F_i, of the coarser map F_{i+1} and the level f_i (Section III-B, Nguyen et al.).

    With U the bilinear enlargement, a = Conv3x3[U(F_{i+1}), f_i] and b = Conv3x3(a):

    - ``paper_elu``: F_i = U(F_{i+1}) + ELU(Conv1x1[a, b]). A stage can lower its map by one at
      most, so that an output lies no deeper than 6 `output_scale` under what the pose gives.
    - ``release_relu``, as in the paper's released code: U(F_{i+1}) + Conv1x1[a, ReLU(b)].
    - ``dynamo_linear``, as in Dynamo-Depth: U(F_{i+1}) + Conv1x1[a, b].

    Args:
        channels: Of the level.
        out: Of the map.
        form: Which of the three.
        frames: How many frames the level holds side by side; of several, half of the first
            convolution starts as their difference.
    """

    def __init__(self, channels: int, out: int, form: MotionBlock, frames: int = 1) -> None:
        super().__init__()
        self.form = form
        self.first = nn.Conv2d(out + channels, channels, 3, 1, 1)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1)
        self.to_map = nn.Conv2d(2 * channels, out, 1)
        start_with_differences(self.first, channels // frames, frames)

    def forward(self, coarser: Tensor, level: Tensor) -> Tensor:
        """Refine `coarser`, `M out h' w'`, by `level`, `M C h w`, to `M out h w`."""
        enlarged = functional.interpolate(
            widen(coarser), level.shape[2:], mode="bilinear", align_corners=False
        )
        first = self.first(torch.cat([enlarged, level], 1))
        second = self.second(first)
        if self.form == "release_relu":
            second = functional.relu(second)
        added = widen(self.to_map(torch.cat([first, second], 1)))
        return enlarged + (functional.elu(added) if self.form == "paper_elu" else added)


class FinerLevel(nn.Module):
    """A level that the pyramid lacks (a Swin has none at stride 2), made of the nearest coarser.

    The level is detached, mixed by a 1x1 convolution, enlarged, and refined by two residual blocks
    with ELU. (Published with enlarging before mixing, which is the same: bilinear weights sum to
    one.)
    """

    def __init__(self, channels: int, width: int, factor: int, frames: int = 1) -> None:
        super().__init__()
        self.factor = factor
        self.mix = nn.Conv2d(channels, width, 1)
        start_with_differences(self.mix, channels // frames, frames)
        self.refine = nn.Sequential(*(ResBlock(width, width, act=nn.ELU) for _ in range(2)))

    def forward(self, level: Tensor) -> Tensor:
        """Map `M C h w` to `M width factor*h factor*w`."""
        mixed = self.mix(level.detach())
        larger = functional.interpolate(
            mixed, scale_factor=self.factor, mode="bilinear", align_corners=False
        )
        return self.refine(larger)


def _squeeze(channels: int, width: int, frames: int) -> nn.Module:
    """Return a 1x1 convolution to fewer channels, or nothing where there are no fewer."""
    if width == channels:
        return nn.Identity()
    conv = nn.Conv2d(channels, width, 1)
    start_with_differences(conv, channels // frames, frames)
    return conv
