"""What moves between two frames: complete 3D flow and motion mask, decoded alike.

Six stages, coarse to fine, each refine a small map (three channels of flow, one of mask) by a level
of features; the finest level is the images themselves, the coarsest map is the camera's motion
(Fig. 2c, Nguyen et al.).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from unienc_core.contracts import Head, NodeInputs, PairOrder, Predictions
from unienc_core.errors import WiringError
from unienc_core.geometry.precision import widen
from unienc_core.models.blocks import earlier_first, normalise_images, source_is_later
from unienc_core.models.ego_alignment import EgoAlignment
from unienc_core.models.motion_decoder import MotionBlock, MotionDecoder
from unienc_core.models.site import NodeSite
from unienc_core.presets import DepthSpec
from unienc_core.registry import Count, register


class _MotionHead(Head):
    """A pair's features and images, and the camera's motion, to maps of several sizes.

    The maps lie on the target's pixels, whatever frame is shown first. With `pair_order:
    target_last` the decoder sees (source, target) and T_source_target, and what it makes is the
    output. With `temporal` it sees (earlier, later) and the motion forwards in time, to first
    order: the output changes its sign where the source is the earlier frame. Which of the two
    frames is the target it is then not told, so `temporal` is for an encoder of pairs that is in
    that order itself. Three frames (`view: triple`) are always in order of time, target in the
    middle: one pass gives +value for the later source and -value for the earlier one. A mask has
    no sign.

    No gradient goes into the camera's motion, nor through a level made up for the pyramid (see
    `FinerLevel`) into the encoder.

    Args:
        site: Where the head stands.
        motion_block: Form of the refinement stages (see `Refinement`).
        output_scale: Factor of the maps, which keeps the first flow small and the first mask at
            one half; Dynamo-Depth has 0.01.
        pose_scale: Factor of the camera's motion, whose numbers are small.
        squeeze: Channels to which a 1x1 convolution brings every wider level, or None: the widths
            of the decoder are those of the levels, and its size goes with their square.
        scales: How many maps, from the images' size on; each next has half the size.
        pair_order: `target_last`, or `temporal`.
        aligned: Show the decoder the source (levels and image) as the camera's own motion brings it
            onto the target's pixels, so that what has not moved by itself looks alike in both; and
            of a flow let it decode only what the rigid flow leaves: F_C = F_R + value, at the
            images' size. Published heads see the source where it lies, and decode all of F_C. No
            gradient passes into depth or motion on this way.
    """

    requires = ("axis_angle", "translation")
    key: str
    channels: int

    def __init__(
        self,
        site: NodeSite,
        *,
        motion_block: MotionBlock = "paper_elu",
        output_scale: float = 0.005,
        pose_scale: float = 100.0,
        squeeze: Count | None = None,
        scales: int = 4,
        pair_order: PairOrder = "target_last",
        aligned: bool = False,
    ) -> None:
        super().__init__()
        if site.view not in ("pair", "triple"):
            raise WiringError(f"head '{site.name}': a motion head needs view: pair or triple")
        self.triple = site.view == "triple"
        self.temporal = self.triple or site.pairs_in_time(pair_order)
        if self.temporal:
            self.requires = (*self.requires, "source_offsets")
        self.frames = site.frames[0]
        self.depth_spec = _alignable(site, self.temporal) if aligned else None
        if aligned:
            self.requires = (*self.requires, *EgoAlignment.VALUES)
        self.pose_scale, self.output_scale = pose_scale, output_scale
        self.decode = MotionDecoder(site, self.channels, motion_block, squeeze)
        strides = self.decode.strides
        wanted = [2**k for k in range(scales)]
        if scales < 1 or not set(wanted) <= set(strides):
            raise WiringError(
                f"head '{site.name}': {scales} scales asked for, possible are 1 to "
                f"{len(set(strides))}"
            )
        # Where several stages have one stride, the last of them has seen the most.
        self.outputs = [len(strides) - 1 - strides[::-1].index(stride) for stride in wanted]

    def forward(self, inputs: NodeInputs) -> Predictions:
        """Return the map, `M C H W` (`M 2 C H W` of three frames), and its scales, finest first."""
        levels, images = inputs.pyramids[0].levels, inputs.images
        translation, axis_angle = inputs.values["translation"], inputs.values["axis_angle"]
        pose = torch.cat([translation, axis_angle], -1).detach()
        signs, align = None, None
        if self.depth_spec is not None:
            align = EgoAlignment(inputs, self.depth_spec)
            levels, images = [align(level) for level in levels], align(images)
        if self.temporal:
            offsets = inputs.values["source_offsets"]
            signs = torch.where(source_is_later(offsets), 1.0, -1.0).to(pose)
            if self.triple:
                signs = signs.view(-1, 2)
                pose = (signs[..., None] * pose).mean(1)
            else:
                pose = signs[:, None] * pose
                images = earlier_first(images, offsets)
                if self.frames == 2:
                    levels = [earlier_first(x, offsets) for x in levels]
        maps = self.decode(levels, normalise_images(images), self.pose_scale * pose)
        made = [self.output_scale * maps[i] for i in self.outputs]
        if signs is not None:
            signs = signs[..., None, None, None]
            made = [self.for_sources(x[:, None] if self.triple else x, signs) for x in made]
        if align is not None:
            made = self.beyond(align, made)
        return {self.key: made[0], f"{self.key}_scales": made}

    def for_sources(self, forwards: Tensor, signs: Tensor) -> Tensor:
        """Return what holds for each source, of what holds forwards in time.

        Args:
            forwards: `M C h w`, or `M 1 C h w` of three frames.
            signs: 1 where the source is later than the target, else -1; `M 1 1 1` or `M 2 1 1 1`.
        """
        raise NotImplementedError

    def beyond(self, align: EgoAlignment, values: list[Tensor]) -> list[Tensor]:
        """Return the outputs, of what was decoded from aligned pairs, `M C h w` each."""
        return values


@register("head", "scene_flow")
class SceneFlow(_MotionHead):
    """Complete 3D flow, X_source - X_target of every target pixel, up to scale (F_C).

    See `_MotionHead` for the order of the frames.
    """

    key, channels = "complete_flow", 3
    produces = ("complete_flow", "complete_flow_scales")

    def for_sources(self, forwards: Tensor, signs: Tensor) -> Tensor:
        """Turn the flow round where the source is the earlier frame."""
        return signs * forwards

    def beyond(self, align: EgoAlignment, values: list[Tensor]) -> list[Tensor]:
        """Add the rigid flow."""
        rigid = align.rigid_flow
        size = rigid.shape[2:]
        return [
            rigid + functional.interpolate(widen(value), size, mode="bilinear", align_corners=False)
            for value in values
        ]


@register("head", "motion_mask")
class MotionMask(_MotionHead):
    """Logits of the motion mask M, of every target pixel; 0, one half, before training.

    See `_MotionHead` for the order of the frames.
    """

    key, channels = "motion_logits", 1
    produces = ("motion_logits", "motion_logits_scales")

    def for_sources(self, forwards: Tensor, signs: Tensor) -> Tensor:
        """Return the same mask for every source."""
        return forwards.expand(torch.broadcast_shapes(forwards.shape, signs.shape))


def _alignable(site: NodeSite, temporal: bool) -> DepthSpec:
    """Return the depth that aligns a head's pairs.

    Raises:
        WiringError: If what it reads is no (source, target).
    """
    if site.frames[0] != 2 or temporal:
        raise WiringError(
            f"head '{site.name}': aligned needs view: pair, pair_order: target_last and an encoder "
            "of single frames, since the features of a source are moved alone"
        )
    return site.depth
