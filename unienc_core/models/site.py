"""What a component's factory is told about the place in the network where its node will stand.

A factory is called as ``factory(site, **options)``: encoders get an `EncoderSite`, necks and heads
a `NodeSite`. So decoders are sized by asking the pyramids they read, never from a fixed list.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from unienc_core.class_tables import ClassTable, cityscapes_table
from unienc_core.contracts import PairOrder, PyramidSpec, Say, View, say_nothing
from unienc_core.errors import WiringError
from unienc_core.presets import DepthSpec


@dataclass(frozen=True)
class EncoderSite:
    """Where an encoder stands.

    Attributes:
        name: The node's name in the preset.
        image_size: Height and width that it will mostly see.
        in_channels: Channels of its input, all frames and inputs together.
        load_pretrained: False where a checkpoint will overwrite the weights anyway.
        weights: File of pretrained weights in place of a download.
        say: Where to tell which weights it starts from.
        view: What it sees: a frame, a pair, or a triple.
    """

    name: str
    image_size: tuple[int, int]
    in_channels: int = 3
    load_pretrained: bool = True
    weights: Path | None = None
    say: Say = say_nothing
    view: View = "frame"


@dataclass(frozen=True)
class NodeSite:
    """Where a neck or head stands.

    Attributes:
        name: The node's name in the preset.
        view: What it sees.
        image_size: Height and width of one image.
        image_channels: Channels of the images it is given: 3, 6 for pairs, 9 for triples.
        pyramids: One spec per entry of `reads`, frames already concatenated.
        frames: How many frames lie concatenated in each of these pyramids: 2 where a pair node
            reads frame features, else 1.
        temporal: Whether each of them comes from pairs encoded as (earlier, later).
        classes: The classes to tell apart: the evaluated ones, in order.
        depth: How disparity becomes depth.
    """

    name: str
    view: View
    image_size: tuple[int, int]
    image_channels: int
    pyramids: tuple[PyramidSpec, ...]
    frames: tuple[int, ...]
    temporal: tuple[bool, ...] = (False,)
    classes: ClassTable = field(default_factory=cityscapes_table)
    depth: DepthSpec = field(default_factory=DepthSpec)

    def only_pyramid(self) -> PyramidSpec:
        """Return the pyramid of a node that reads exactly one.

        Raises:
            WiringError: If it reads another number of pyramids.
        """
        if len(self.pyramids) != 1:
            raise WiringError(f"'{self.name}' reads {len(self.pyramids)} pyramids, it takes one")
        return self.pyramids[0]

    def pairs_in_time(self, pair_order: PairOrder) -> bool:
        """Return whether a head with this option works on pairs (earlier, later).

        Behind an encoder of pairs it is the encoder that orders the frames, so the two must agree.

        Raises:
            WiringError: If they do not.
        """
        temporal = pair_order == "temporal"
        if self.frames[0] == 1 and temporal != self.temporal[0]:
            found = "temporal" if self.temporal[0] else "target_last"
            raise WiringError(
                f"head '{self.name}': pair_order {pair_order}, but the encoder of pairs that it "
                f"reads has pair_order {found}; give both the same"
            )
        return temporal
