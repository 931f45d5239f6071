"""The network: a dict of encoders, optional necks, an ordered dict of heads.

Each distinct image is encoded once, images of all streams that have the same size together, and
only what the asked-for outputs need is computed. An encoder without trainable parameters records
no gradients, since nothing before it needs any.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unienc_core.contracts import (
    Batch,
    FeaturePyramid,
    NodeInputs,
    Predictions,
    PyramidSpec,
    Say,
    say_nothing,
)
from unienc_core.errors import ShapeError, WiringError, nearest
from unienc_core.models.blocks import earlier_first
from unienc_core.models.checkpointing import checkpoint_nodes
from unienc_core.models.compiling import compiled
from unienc_core.models.routing import Planner, Route, split_pyramid
from unienc_core.models.wiring import BuildOptions, Role, WiredNode, Wiring, connect, qualified
from unienc_core.presets import Preset

Outputs = Collection[str] | Mapping[str, Collection[str]]
"""Keys wanted of every stream that can make them, or keys wanted per stream."""


def build_network(
    preset: Preset,
    *,
    load_pretrained: bool = True,
    weights: Path | None = None,
    say: Say = say_nothing,
    seed: int = 0,
) -> Network:
    """Build the network of a preset and check how its nodes fit together.

    Args:
        preset: The preset.
        load_pretrained: False where a checkpoint will overwrite the weights anyway.
        weights: Pretrained weights for the one encoder that asks for them.
        say: Where to tell which weights the encoders start from.
        seed: Decides every random weight; the caller's random state is left alone.

    Raises:
        WiringError: If nodes do not fit together.
        PresetError: If an option does not fit its component.
        DataError: If pretrained weights cannot be had.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wiring = connect(preset, BuildOptions(load_pretrained, weights, say))
    network = Network(wiring, depth_max=preset.depth.max)
    checkpoint_nodes(network, preset)
    return network


class Network(nn.Module):
    """Encoders, necks and heads of one preset, as wired by `build_network`.

    Args:
        wiring: The nodes.
        depth_max: Depth, m, that an encoder reading depth sees as 1.
    """

    def __init__(self, wiring: Wiring, depth_max: float) -> None:
        super().__init__()
        self.wiring = wiring
        self.depth_max = depth_max
        families: dict[str, dict[str, nn.Module]] = {"encoder": {}, "neck": {}, "head": {}}
        for node in wiring.nodes:
            families[node.family][node.name] = node.module
        self.encoders = nn.ModuleDict(families["encoder"])
        self.necks = nn.ModuleDict(families["neck"])
        self.heads = nn.ModuleDict(families["head"])
        self._compiled: dict[str, Callable[..., Any]] = {}

    @property
    def produces(self) -> tuple[str, ...]:
        """All prediction keys, in the order in which they are made."""
        return tuple(self.wiring.producer)

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters of each node, by its path (``encoders.main``)."""
        return {n.path: sum(p.numel() for p in n.module.parameters()) for n in self.wiring.nodes}

    def drop_training_parts(self) -> tuple[str, ...]:
        """Remove what only training runs, and return where it was: the beginnings of its names.

        The network can then be used, but no longer trained.
        """
        dropped: list[str] = []
        for node in self.wiring.nodes:
            for part in node.module.training_parts:
                setattr(node.module, part, None)
                dropped.append(f"{node.path}.{part}.")
        return tuple(dropped)

    def compile_nodes(self, preset: Preset) -> None:
        """From now on run the nodes that `preset` says so through `torch.compile`, in training.

        In evaluation they run as they are, and their parameters keep their names.
        """
        for path, spec in preset.network.nodes.items():
            if spec.compile:
                self._compiled[path] = compiled(self.get_submodule(path), f"network.{path}")

    def forward(
        self, streams: Mapping[str, Batch], outputs: Outputs | None = None
    ) -> dict[str, Predictions]:
        """Run all streams.

        Args:
            streams: Batch of each stream, by name.
            outputs: Keys wanted. Given flat, each stream makes those it has the inputs for; given
                per stream, it must be able to. Default: all that each stream can make.

        Returns:
            Predictions of each stream: the wanted keys, and those made on the way to them.

        Raises:
            WiringError: If a wanted key cannot be made, with the reason.
        """
        planner = Planner(self.wiring, training=self.training)
        routes = self._routes(streams)
        for name, keys in self._wanted(planner, routes, outputs).items():
            planner.mark(routes[name], keys)
        self._run(list(routes.values()), planner)
        return {name: route.predictions for name, route in routes.items()}

    def possible(self, streams: Mapping[str, Batch]) -> dict[str, list[str]]:
        """Return the keys that can be made of each stream now, in the order of making."""
        planner = Planner(self.wiring, training=self.training)
        return {name: planner.possible(route) for name, route in self._routes(streams).items()}

    def encode(
        self, image: Tensor, values: Mapping[str, Any] | None = None
    ) -> dict[str, FeaturePyramid]:
        """Run all that depends on one frame's pixels only: frame encoders and frame necks.

        Args:
            image: `M 3 H W`, 0..1.
            values: Further inputs of encoders (``depth_gt``).

        Returns:
            Every pyramid by name, to be kept for `decode_frame` and `decode_pair`.
        """
        planner = Planner(self.wiring, training=self.training)
        route = Route(values or {}, {"target": image}, len(image))
        for node in self.wiring.nodes:
            cacheable = node.family != "head" and node.view == "frame" and not node.module.requires
            if cacheable and planner.obstacle(route, node, "target") is None:
                route.roles[node.path] = {"target"}
        self._run([route], planner)
        return route.pyramids["target"]

    def decode_frame(
        self,
        pyramids: dict[str, FeaturePyramid],
        image: Tensor,
        values: Mapping[str, Any] | None = None,
        outputs: Collection[str] | None = None,
    ) -> Predictions:
        """Run the heads that see one frame, on pyramids from `encode`.

        Args:
            pyramids: Of the frame.
            image: The frame, `M 3 H W`.
            values: Further keys that heads require (``K``).
            outputs: Keys wanted; default: all that frame heads make.
        """
        route = Route(values or {}, {"target": image}, len(image))
        route.pyramids["target"] = dict(pyramids)
        return self._decode(route, "frame", outputs)

    def decode_pair(
        self,
        pyramids_source: dict[str, FeaturePyramid],
        pyramids_target: dict[str, FeaturePyramid],
        images: Tensor,
        values: Mapping[str, Any] | None = None,
        outputs: Collection[str] | None = None,
    ) -> Predictions:
        """Run the heads that see a pair of frames, on pyramids from `encode`.

        Args:
            pyramids_source: Of the source frame.
            pyramids_target: Of the target frame.
            images: Source and target stacked along channels, target last, `B 6 H W`.
            values: Further keys that heads require, such as predictions of `decode_frame`.
            outputs: Keys wanted; default: all that pair heads make.

        Returns:
            Predictions with one source: `B 1 ...`.
        """
        source, target = images.chunk(2, 1)
        roles: dict[Role, Tensor] = {"source": source, "target": target, "pair": images}
        route = Route(values or {}, roles, len(images))
        route.pyramids |= {"source": dict(pyramids_source), "target": dict(pyramids_target)}
        return self._decode(route, "pair", outputs)

    def decode_triple(
        self,
        pyramids_sources: dict[str, FeaturePyramid],
        pyramids_target: dict[str, FeaturePyramid],
        images: Tensor,
        values: Mapping[str, Any] | None = None,
        outputs: Collection[str] | None = None,
    ) -> Predictions:
        """Run the heads that see three frames, and those of the two pairs among them.

        Args:
            pyramids_sources: Of the two sources, for each target the earlier, then the later one.
            pyramids_target: Of the target frame, which lies between them.
            images: Earlier source, target and later source along channels, `B 9 H W`.
            values: Further keys that heads require; `source_offsets`, `B 2`, among them.
            outputs: Keys wanted; default: all that heads of three frames make.

        Returns:
            Predictions with two sources, the earlier first: `B 2 ...`.
        """
        earlier, target, later = images.chunk(3, 1)
        sources = torch.stack([earlier, later], 1).flatten(0, 1)
        roles: dict[Role, Tensor] = {"source": sources, "target": target, "triple": images}
        route = Route(values or {}, roles, len(images))
        route.pyramids |= {"source": dict(pyramids_sources), "target": dict(pyramids_target)}
        return self._decode(route, "triple", outputs)

    def _routes(self, streams: Mapping[str, Batch]) -> dict[str, Route]:
        return {n: Route.of_batch(batch, self.wiring.specs) for n, batch in streams.items()}

    def _decode(self, route: Route, view: str, outputs: Collection[str] | None) -> Predictions:
        planner = Planner(self.wiring, training=self.training)
        if outputs is None:
            possible = planner.possible(route)
            heads = [n for n in self.wiring.nodes if n.family == "head" and n.view == view]
            outputs = [k for n in heads for k in planner.makes(n) if k in possible]
        planner.mark(route, outputs)
        self._run([route], planner)
        return route.predictions

    def _wanted(
        self, planner: Planner, routes: dict[str, Route], outputs: Outputs | None
    ) -> dict[str, list[str]]:
        """Return the keys that each stream shall make."""
        possible = {name: planner.possible(route) for name, route in routes.items()}
        if outputs is None:
            return possible
        if isinstance(outputs, Mapping):
            asked = {name: list(outputs.get(name, ())) for name in routes}
        else:
            anywhere = {key for keys in possible.values() for key in keys}
            for key in outputs:
                if key not in anywhere:
                    self._refuse(planner, key, routes)
            asked = {n: [k for k in outputs if k in keys] for n, keys in possible.items()}
        for name, keys in asked.items():
            for key in keys:
                if key not in possible[name]:
                    self._refuse(planner, key, {name: routes[name]})
        return asked

    def _refuse(self, planner: Planner, key: str, routes: dict[str, Route]) -> None:
        maker = self.wiring.producer.get(key)
        if maker is None:
            raise WiringError(f"no node makes '{key}'{nearest(key, list(self.produces))}")
        reasons = [f"{n}: {planner.obstacle(r, maker, maker.home)}" for n, r in routes.items()]
        raise WiringError(f"{maker.path} cannot make '{key}' ({'; '.join(reasons)})")

    def _run(self, routes: list[Route], planner: Planner) -> None:
        """Run every marked node: encoders over all routes together, the rest route by route."""
        for node in self.wiring.nodes:
            if node.family == "encoder":
                self._run_encoder(node, routes)
                continue
            for route in routes:
                for role in sorted(route.roles.get(node.path, ())):
                    self._run_node(node, role, route, planner)

    def _run_encoder(self, node: WiredNode, routes: list[Route]) -> None:
        groups: dict[torch.Size, list[tuple[Route, Role, Tensor]]] = {}
        for route in routes:
            for role in sorted(route.roles.get(node.path, ())):
                image = self._encoder_input(node, role, route)
                groups.setdefault(image.shape[1:], []).append((route, role, image))
        encoder = self._runner(node)
        for group in groups.values():
            # Convolutions on such a layout are up to a fifth faster, on the CPU too.
            images = torch.cat([image for _, _, image in group])
            encoded: FeaturePyramid = encoder(images.contiguous(memory_format=torch.channels_last))
            _check_promise(node, encoded, node.module.spec)
            parts = split_pyramid(encoded, [len(image) for _, _, image in group])
            for (route, role, _), part in zip(group, parts, strict=True):
                route.put(node.name, role, part)

    def _runner(self, node: WiredNode) -> Callable[..., Any]:
        runner = self._compiled.get(node.path) if self.training else None
        return runner or self.get_submodule(node.path)

    def _encoder_input(self, node: WiredNode, role: Role, route: Route) -> Tensor:
        parts: list[Tensor] = []
        for key in node.reads:
            part = route.image(role) if key == "image" else route.batch[key]
            parts.append((part / self.depth_max).clamp(0, 1) if key == "depth_gt" else part)
        image = torch.cat(parts, 1)
        if node.module.pair_order == "temporal":
            image = earlier_first(image, route.batch["source_offsets"])
        stride = max(node.module.spec.strides)
        if image.shape[2] % stride or image.shape[3] % stride:
            size = list(image.shape[2:])
            raise ShapeError(f"{node.path} takes images of multiples of {stride}, found {size}")
        return image

    def _run_node(self, node: WiredNode, role: Role, route: Route, planner: Planner) -> None:
        keys = planner.keys_of(node, role)
        inputs = NodeInputs(
            pyramids=[route.read(name, role) for name in node.reads],
            images=route.image(role),
            values={k: route.value_for(node, k, self.wiring.producer.get(k)) for k in keys},
            batch_size=route.batch_size,
            training=planner.training,
        )
        made = self._runner(node)(inputs)
        if node.family == "neck":
            pyramids, made = made
            for name, spec in node.module.specs.items():
                _check_promise(node, pyramids[name], spec)
                route.put(qualified(node.name, name), role, pyramids[name])
        promised = planner.makes(node)
        if set(made) != set(promised):
            raise WiringError(f"{node.path} made {sorted(made)}, but promised {sorted(promised)}")
        if role == node.home:
            route.keep_predictions(node, made)


def _check_promise(node: WiredNode, made: FeaturePyramid, promised: PyramidSpec) -> None:
    if made.spec != promised:
        raise WiringError(f"{node.path} made {made.spec}, but promised {promised}")
