"""How the nodes of a preset fit together, checked before anything runs.

`connect` builds every node in order, hands it what its reads promise, and refuses what cannot work:
unknown reads, views that do not fit, keys needed before they exist or made twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from torch import nn

from unienc_core.contracts import Encoder, Neck, Node, PyramidSpec, Say, View
from unienc_core.errors import UsageError, WiringError, nearest
from unienc_core.models.site import EncoderSite, NodeSite
from unienc_core.presets import EncoderSpec, NodeSpec, Preset
from unienc_core.registry import build

Role = Literal["target", "source", "pair", "triple", "sequence"]
"""What a set of images is in a batch: `B` targets, `B*S` sources, `B*S` pairs, `B` triples, `B*N`
frames."""

HOME: dict[View, Role] = {
    "frame": "target",
    "pair": "pair",
    "triple": "triple",
    "sequence": "sequence",
}
"""The role whose outputs of a node are its predictions."""

FRAMES: dict[View, int] = {"frame": 1, "pair": 2, "triple": 3, "sequence": 1}
"""How many frames lie along the channels of the images that a node sees."""

INPUT_CHANNELS = {"image": 3, "depth_gt": 1}
"""Channels of every batch key that an encoder may read."""

KIND_KEYS = {
    "triplets": ("target_image", "source_images", "source_offsets", "K"),
    "labels": ("image", "K"),
    "sequences": ("sequence_images",),
}
"""Keys that every batch of a stream kind holds."""

Family = Literal["encoder", "neck", "head"]


@dataclass(frozen=True)
class WiredNode:
    """A node and its place: what it is called, sees and reads."""

    name: str
    family: Family
    view: View
    reads: tuple[str, ...]
    module: Any

    @property
    def path(self) -> str:
        """Where it stands in the preset, and as a submodule of the network."""
        return f"{self.family}s.{self.name}"

    @property
    def home(self) -> Role:
        """The role in which it makes its predictions."""
        return HOME[self.view]


@dataclass(frozen=True)
class BuildOptions:
    """What building needs beyond the preset."""

    load_pretrained: bool
    weights: Path | None
    say: Say


@dataclass
class Wiring:
    """All nodes in the order in which they run.

    Attributes:
        nodes: Encoders, necks, heads.
        pyramid_of: Every name that can be read, to the node that makes it.
        specs: Every name that can be read, to the pyramid promised.
        producer: Every prediction key, to the node that makes it.
    """

    nodes: list[WiredNode] = field(default_factory=list)
    pyramid_of: dict[str, WiredNode] = field(default_factory=dict)
    specs: dict[str, PyramidSpec] = field(default_factory=dict)
    producer: dict[str, WiredNode] = field(default_factory=dict)

    def add(self, node: WiredNode) -> None:
        """Append a node whose reads exist, with its pyramids and predictions.

        Raises:
            WiringError: If it makes a key that another node makes.
        """
        for key in (*node.module.produces, *node.module.train_produces):
            if key in self.producer:
                raise WiringError(
                    f"network.{node.path}: makes '{key}', which {self.producer[key].path} makes too"
                )
            self.producer[key] = node
        for name, spec in _promised(node).items():
            self.pyramid_of[name], self.specs[name] = node, spec
        self.nodes.append(node)

    def site(self, node: WiredNode, preset: Preset) -> NodeSite:
        """Return what the factory of a neck or head is told.

        Raises:
            WiringError: If it reads something unknown, or something of a view that does not fit.
        """
        frames = tuple(self._frames_read(node, read) for read in node.reads)
        pyramids = tuple(self.specs[r].times(n) for r, n in zip(node.reads, frames, strict=True))
        channels = 3 * FRAMES[node.view]
        temporal = tuple(self._is_temporal(read) for read in node.reads)
        return NodeSite(
            node.name,
            node.view,
            preset.image_size,
            channels,
            pyramids,
            frames,
            temporal,
            preset.classes,
            preset.depth,
        )

    def _is_temporal(self, read: str) -> bool:
        source = self.pyramid_of[read]
        if source.family == "encoder":
            return source.module.pair_order == "temporal"
        return any(self._is_temporal(before) for before in source.reads)

    def _frames_read(self, node: WiredNode, read: str) -> int:
        where = f"network.{node.path}.reads"
        if read not in self.pyramid_of:
            known = list(self.pyramid_of)
            hint = nearest(read, known)
            raise WiringError(f"{where}: nothing makes '{read}'{hint}; known: {', '.join(known)}")
        source = self.pyramid_of[read]
        if source.view != node.view and (source.view != "frame" or node.view == "triple"):
            raise WiringError(
                f"{where}: '{read}' sees a {source.view}, so a node with view: {node.view} cannot "
                "read it"
            )
        if source.view != node.view and (source.module.requires or source.module.train_requires):
            raise WiringError(
                f"{where}: '{read}' needs values that exist for the target only, so a node with "
                f"view: {node.view} cannot read it"
            )
        return 2 if node.view == "pair" and source.view == "frame" else 1


def connect(preset: Preset, options: BuildOptions) -> Wiring:
    """Build all nodes of a preset and check that they fit together.

    Raises:
        WiringError: One line that names the place in the preset.
        PresetError: If an option does not fit its component.
    """
    wiring = Wiring()
    network = preset.network
    for name in chain(network.encoders, network.necks, network.heads):
        if not name.isidentifier() or hasattr(nn.ModuleDict, name):
            raise WiringError(f"network: '{name}' cannot be the name of a node")
    weights = _weights_for(preset, options.weights)
    for name, spec in network.encoders.items():
        wiring.add(_build_encoder(name, spec, preset, replace(options, weights=weights.get(name))))
    for name, spec in network.necks.items():
        wiring.add(_build_node(name, "neck", spec, wiring, preset))
    for name, spec in network.heads.items():
        wiring.add(_build_node(name, "head", spec, wiring, preset))
    _check_requires(wiring, preset)
    return wiring


def _build_encoder(
    name: str, spec: EncoderSpec, preset: Preset, options: BuildOptions
) -> WiredNode:
    where = f"network.encoders.{name}"
    if spec.view == "sequence":
        raise WiringError(f"{where}: an encoder sees a frame, a pair or a triple, not a sequence")
    unknown = [read for read in spec.reads if read not in INPUT_CHANNELS]
    several = FRAMES[spec.view] > 1
    if unknown or (several and spec.reads != ("image",)):
        readable = ["image"] if several else list(INPUT_CHANNELS)
        raise WiringError(
            f"{where}.reads: an encoder with view: {spec.view} can read {', '.join(readable)}, "
            f"found {', '.join(spec.reads) or 'nothing'}"
        )
    channels = sum(INPUT_CHANNELS[r] for r in spec.reads) * FRAMES[spec.view]
    site = EncoderSite(
        name,
        preset.image_size,
        channels,
        load_pretrained=options.load_pretrained,
        weights=options.weights,
        say=options.say,
        view=spec.view,
    )
    module: Encoder = build("encoder", spec.type, site, options=spec.options, where=where)
    if module.pair_order == "temporal" and spec.view != "pair":
        raise WiringError(f"{where}: pair_order temporal is for an encoder with view: pair")
    stride = max(module.spec.strides)
    for key, size in (("image_size", preset.image_size), ("eval_size", preset.eval_size)):
        if size is not None and any(side % stride for side in size):
            raise WiringError(
                f"{key}: {list(size)} cannot be halved down to stride {stride} of encoder "
                f"'{name}'; use multiples of {stride}"
            )
    return WiredNode(name, "encoder", spec.view, spec.reads, module)


def _build_node(
    name: str, family: Family, spec: NodeSpec, wiring: Wiring, preset: Preset
) -> WiredNode:
    node = WiredNode(name, family, spec.view, spec.reads, None)
    site = wiring.site(node, preset)
    where = f"network.{node.path}"
    module: Node = build(family, spec.type, site, options=spec.options, where=where)
    return replace(node, module=module)


def _promised(node: WiredNode) -> dict[str, PyramidSpec]:
    """Return the pyramids a node makes, by the names under which they are read."""
    if isinstance(node.module, Encoder):
        return {node.name: node.module.spec}
    if isinstance(node.module, Neck):
        return {qualified(node.name, k): spec for k, spec in node.module.specs.items()}
    return {}


def qualified(neck: str, pyramid: str) -> str:
    """Return the name under which a neck's pyramid is read."""
    return f"{neck}.{pyramid}" if pyramid else neck


def _weights_for(preset: Preset, weights: Path | None) -> dict[str, Path]:
    """Return which encoder a weight file is meant for: the one that starts pretrained."""
    if weights is None:
        return {}
    options = {name: spec.options for name, spec in preset.network.encoders.items()}
    wanting = [n for n, o in options.items() if o.get("pretrained") and not o.get("weights")]
    if len(wanting) != 1:
        found = ", ".join(wanting) or "none"
        raise UsageError(
            f"--weights {weights}: exactly one encoder must start pretrained, found {found}; say "
            f"--set network.encoders.NAME.options.weights={weights}"
        )
    return {wanting[0]: weights}


def _check_requires(wiring: Wiring, preset: Preset) -> None:
    """Check that what each node needs is in the batch or made by an earlier node."""
    offered = set(_stream_keys(preset))
    made: set[str] = set()
    for node in wiring.nodes:
        for key in node.module.requires:
            if key in made or key in offered:
                continue
            where = f"network.{node.path}: needs '{key}'"
            if key in wiring.producer:
                raise WiringError(f"{where}, which {wiring.producer[key].path} makes only later")
            hint = nearest(key, [*made, *offered])
            raise WiringError(f"{where}, which no earlier node makes and no stream offers{hint}")
        for key in node.module.train_requires:
            if key not in offered:
                raise WiringError(
                    f"network.{node.path}: needs '{key}' in training; add it to the labels of a "
                    "stream"
                )
        made.update(node.module.produces)
        made.update(node.module.train_produces)


def _stream_keys(preset: Preset) -> Iterable[str]:
    for stream in preset.streams.values():
        yield from KIND_KEYS[stream.kind]
        yield from stream.labels
