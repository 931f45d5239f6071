"""Camera motion between two frames.

What a head predicts IS the motion T_source_target: a rotation vector (rad), then a translation. A
pair is (source, target), target last.
"""

from __future__ import annotations

import itertools
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from unienc_core.contracts import Head, NodeInputs, PairOrder, Predictions
from unienc_core.errors import WiringError
from unienc_core.geometry.precision import widen
from unienc_core.geometry.se3 import invert_T, make_T
from unienc_core.models.blocks import (
    ResBlock,
    earlier_first,
    source_is_later,
    start_with_differences,
)
from unienc_core.models.site import NodeSite
from unienc_core.registry import Count, register

# Keeps the first motions small. Five times as much does not train (measured), nor does 0.
OUTPUT_SCALE = 0.01


class _PoseHead(Head):
    """A pair's levels to T_source_target, whatever lies between them and six numbers.

    With `pair_order: target_last` the six numbers are T_source_target as they come. With `temporal`
    the network sees every pair as (earlier, later) and estimates T_later_earlier; where the source
    is the earlier frame that is inverted. The predictions mean the same in both. Behind an encoder
    of pairs it is the encoder that orders the frames, so the two must agree.
    """

    produces = ("axis_angle", "translation", "T_source_target")

    def __init__(self, site: NodeSite, pair_order: PairOrder) -> None:
        super().__init__()
        if site.view != "pair":
            raise WiringError(f"head '{site.name}': a pose head needs view: pair")
        self.temporal = site.pairs_in_time(pair_order)
        self.frames = site.frames[0]
        self.requires = ("source_offsets",) if self.temporal else ()

    def forward(self, inputs: NodeInputs) -> Predictions:
        """Return `axis_angle` and `translation`, `M 3`, and `T_source_target`, `M 4 4`."""
        levels = inputs.pyramids[0].levels
        if not self.temporal:
            axis_angle, translation = self.six_numbers(levels).split(3, -1)
        else:
            offsets = inputs.values["source_offsets"]
            if self.frames == 2:
                levels = [earlier_first(x, offsets) for x in levels]
            axis_angle, translation = self.six_numbers(levels).split(3, -1)
            inverse = invert_T(make_T(axis_angle, translation))
            as_they_come = source_is_later(offsets)[:, None]
            axis_angle = torch.where(as_they_come, axis_angle, -axis_angle)
            translation = torch.where(as_they_come, translation, inverse[:, :3, 3])
        return {
            "axis_angle": axis_angle,
            "translation": translation,
            "T_source_target": make_T(axis_angle, translation),
        }

    def six_numbers(self, levels: list[Tensor]) -> Tensor:
        """Map a pair's levels to axis-angle and translation, `M 6`, in at least float32."""
        raise NotImplementedError


class _SixNumbers(nn.Module):
    """Squeeze each frame's features, join them, convolve, average over the image.

    With one input the last layer has twelve outputs of which six are read: published weights of
    this layout then fit.
    """

    def __init__(self, channels: int, frames: int, width: int) -> None:
        super().__init__()
        self.frames = frames
        self.squeeze = nn.Conv2d(channels, width, 1)
        self.body = nn.Sequential(
            nn.Conv2d(frames * width, width, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 12 if frames == 1 else 6, 1),
        )
        for conv in (self.squeeze, self.body[0], self.body[2]):
            # There is no norm here: with torch's default the activations shrink threefold per
            # layer, the last layer then learns too slowly and the motion stays at zero.
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)
        if frames == 2:
            start_with_differences(cast(nn.Conv2d, self.body[0]), width)

    def forward(self, features: Tensor) -> Tensor:
        """Map `M C h w` to `M 6`."""
        squeezed = [functional.relu(self.squeeze(x)) for x in features.chunk(self.frames, 1)]
        out = self.body(torch.cat(squeezed, 1))
        return OUTPUT_SCALE * widen(out).mean((2, 3))[:, :6]


@register("head", "multi_scale")
class MultiScalePose(_PoseHead):
    """Pose from all levels of both frames, fine to coarse (Fig. 2b, Nguyen et al.).

    Stage k joins the stage before with the pair's features of level k, mixes them by a 1x1
    convolution and halves the size with residual blocks.

    Args:
        site: Where the head stands; it reads frame features of both frames.
        widths: Channels of each stage, for as many of the coarsest levels.
        blocks: Residual blocks per stage, the first with stride 2.
        squeeze: Channels of the convolutions before the average.
        pair_order: `target_last`, or `temporal` (see `_PoseHead`). In temporal order a constant
            guess of "forwards" is right for both neighbours, so that depth can start to learn
            before the motion does; from random weights that decides whether training starts.
    """

    def __init__(
        self,
        site: NodeSite,
        *,
        widths: tuple[Count, ...] = (64, 128, 256, 512),
        blocks: Count = 2,
        squeeze: Count = 256,
        pair_order: PairOrder = "target_last",
    ) -> None:
        super().__init__(site, pair_order)
        spec = site.only_pyramid()
        strides = spec.strides[-len(widths) :]
        if len(strides) < len(widths) or any(b != 2 * a for a, b in itertools.pairwise(strides)):
            raise WiringError(
                f"head '{site.name}': {len(widths)} widths need as many levels, each half the size "
                f"of the one before; the pyramid has strides {list(spec.strides)}"
            )
        self.stages = nn.ModuleList()
        before = 0
        for channels, width in zip(spec.channels[-len(widths) :], widths, strict=True):
            rest = (ResBlock(width, width) for _ in range(blocks - 1))
            mix = nn.Conv2d(before + channels, width, 1)
            if self.frames == 2:
                start_with_differences(mix, channels // 2)
            self.stages.append(nn.Sequential(mix, ResBlock(width, width, stride=2), *rest))
            before = width
        self.decode = _SixNumbers(before, frames=1, width=squeeze)

    def six_numbers(self, levels: list[Tensor]) -> Tensor:
        """Map a pair's levels to axis-angle and translation, `M 6`."""
        x: Tensor | None = None
        for stage, level in zip(self.stages, levels[-len(self.stages) :], strict=True):
            x = stage(level if x is None else torch.cat([x, level], 1))
        assert x is not None
        return self.decode(x)


@register("head", "single_scale")
class SingleScalePose(_PoseHead):
    """Pose from the coarsest level only: the field's usual head, the baseline of the ablation.

    Behind an encoder of pairs it reads one map; behind an encoder of frames it squeezes each
    frame's map by the same weights and joins them.

    Args:
        site: Where the head stands.
        squeeze: Channels of the convolutions.
        pair_order: `target_last`, or `temporal` (see `_PoseHead`).
    """

    def __init__(
        self, site: NodeSite, *, squeeze: Count = 256, pair_order: PairOrder = "target_last"
    ) -> None:
        super().__init__(site, pair_order)
        channels = site.only_pyramid().channels[-1] // self.frames
        self.decode = _SixNumbers(channels, self.frames, squeeze)

    def six_numbers(self, levels: list[Tensor]) -> Tensor:
        """Map a pair's levels to axis-angle and translation, `M 6`."""
        return self.decode(levels[-1])
