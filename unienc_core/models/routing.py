"""Which nodes must run for one stream, on which of its images, and what they are handed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from unienc_core.contracts import (
    SEQUENCE_GRIDS,
    FeaturePyramid,
    Predictions,
    PyramidSpec,
    Value,
    concat_pyramids,
)
from unienc_core.errors import DataError, nearest
from unienc_core.models.blocks import source_is_later
from unienc_core.models.pooling import split_grid
from unienc_core.models.wiring import Family, Role, WiredNode, Wiring

_IMAGE_KEYS = ("target_image", "image", "source_images", "sequence_images")

_MISSING: dict[Role, str] = {
    "target": "target image",
    "source": "source images",
    "pair": "source images",
    "triple": "two source images with source_offsets",
    "sequence": "sequence of images",
}


@dataclass
class Route:
    """One stream on its way through the network.

    Attributes:
        batch: The stream's batch, or what stands for it.
        images: `M C H W` per role; those of pairs and triples are made when first asked for.
        batch_size: `B`.
        roles: Roles in which each node must run, by its path.
        pyramids: What encoders and necks have made so far, by role and name.
        predictions: What necks and heads have made so far.
    """

    batch: Mapping[str, Any]
    images: dict[Role, Tensor]
    batch_size: int
    roles: dict[str, set[Role]] = field(default_factory=dict)
    pyramids: dict[Role, dict[str, FeaturePyramid]] = field(default_factory=dict)
    predictions: Predictions = field(default_factory=dict)

    @classmethod
    def of_batch(
        cls, batch: Mapping[str, Any], specs: Mapping[str, PyramidSpec] = MappingProxyType({})
    ) -> Route:
        """Start a route from a stream's batch.

        The network sees the augmented image (``<key>_aug``) where there is one, and no image where
        there are grids of a sequence.

        Args:
            batch: The batch.
            specs: Of the pyramids that the batch may hold grids of.

        Raises:
            DataError: If the batch holds no image to run on, or grids of no pyramid.
        """
        grids = {k.removeprefix(SEQUENCE_GRIDS): x for k, x in batch.items() if _is_grid(k)}
        if grids:
            return cls(
                batch, {}, len(next(iter(grids.values()))), pyramids=_sequence_of(grids, specs)
            )
        target, single, sources, sequence = (
            batch.get(f"{key}_aug", batch.get(key)) for key in _IMAGE_KEYS
        )
        target = single if target is None else target
        images: dict[Role, Tensor] = {}
        if target is not None:
            images["target"] = target
            if sources is not None:
                images["source"] = sources.flatten(0, 1)
        elif sequence is not None:
            images["sequence"] = sequence.flatten(0, 1)
        else:
            found = ", ".join(batch) or "nothing"
            raise DataError(f"a batch needs target_image, image or sequence_images, found {found}")
        return cls(batch, images, len(sequence if target is None else target))

    @property
    def num_sources(self) -> int:
        """`S`."""
        return self.images["source"].shape[0] // self.batch_size

    def can_show(self, role: Role, family: Family) -> bool:
        """Whether the batch holds the images of a role, or grids that a head takes instead."""
        if role == "sequence" and family == "head" and "sequence" in self.pyramids:
            return True
        if role == "triple":
            timed = "source" in self.images and "source_offsets" in self.batch
            return timed and self.num_sources == 2
        return ("source" if role == "pair" else role) in self.images

    def image(self, role: Role) -> Tensor:
        """Return the images of a role.

        Along the channels, a pair is (source, target), and a triple (earlier source, target, later
        source).
        """
        if role == "sequence" and role not in self.images:
            level = next(iter(self.pyramids["sequence"].values())).levels[0]
            return level.new_empty(len(level), 3, 0, 0)
        if role not in self.images:
            self.images[role] = self._triple() if role == "triple" else self._pair()
        return self.images[role]

    def _pair(self) -> Tensor:
        target = self.for_each_source(self.images["target"])
        return torch.cat([self.images["source"], target], 1)

    def _triple(self) -> Tensor:
        first, second = self.images["source"].unflatten(0, (-1, 2)).unbind(1)
        swapped = source_is_later(self.batch["source_offsets"][:, 0])[:, None, None, None]
        earlier, later = torch.where(swapped, second, first), torch.where(swapped, first, second)
        return torch.cat([earlier, self.images["target"], later], 1)

    def for_each_source(self, x: Tensor) -> Tensor:
        """Repeat each target's entry once per source: `B ...` to `B*S ...`."""
        return x if self.num_sources == 1 else x.repeat_interleave(self.num_sources, 0)

    def has(self, name: str, role: Role) -> bool:
        """Whether a pyramid is there already."""
        return name in self.pyramids.get(role, {})

    def put(self, name: str, role: Role, pyramid: FeaturePyramid) -> None:
        """Keep a pyramid."""
        self.pyramids.setdefault(role, {})[name] = pyramid

    def read(self, name: str, role: Role) -> FeaturePyramid:
        """Return a pyramid; for a pair of frames, (source, target) joined along channels."""
        if not self.has(name, role):  # a pair node that reads frame features
            target = self.pyramids["target"][name].map(self.for_each_source)
            self.put(name, role, concat_pyramids([self.pyramids["source"][name], target]))
        return self.pyramids[role][name]

    def value_for(self, node: WiredNode, key: str, maker: WiredNode | None) -> Any:
        """Return a value as a node shall see it: what nodes make has first axis `M`."""
        value = self.predictions[key] if key in self.predictions else self.batch[key]
        if maker is None or node.view != "pair":
            return value
        per_source = maker.view in ("pair", "triple")
        return _each(value, _unfold if per_source else self.for_each_source)

    def keep_predictions(self, node: WiredNode, made: Predictions) -> None:
        """Keep a node's predictions, those of pairs folded to `B S ...`."""
        for key, value in made.items():
            pair = node.view == "pair"
            self.predictions[key] = _each(value, self._fold) if pair else value

    def _fold(self, x: Tensor) -> Tensor:
        return x.unflatten(0, (self.batch_size, self.num_sources))


def _is_grid(key: str) -> bool:
    return key.startswith(SEQUENCE_GRIDS)


def _sequence_of(
    grids: Mapping[str, Tensor], specs: Mapping[str, PyramidSpec]
) -> dict[Role, dict[str, FeaturePyramid]]:
    for name in grids:
        if name not in specs:
            raise DataError(
                f"a batch holds grids of '{name}', which this network does not make"
                f"{nearest(name, list(specs))}"
            )
    return {
        "sequence": {name: split_grid(x.flatten(0, 1), specs[name]) for name, x in grids.items()}
    }


def _unfold(x: Tensor) -> Tensor:
    return x.flatten(0, 1)


def _each(value: Value, fn: Callable[[Tensor], Tensor]) -> Value:
    return [fn(x) for x in value] if isinstance(value, list) else fn(value)


def split_pyramid(pyramid: FeaturePyramid, sizes: list[int]) -> list[FeaturePyramid]:
    """Split a pyramid along its first axis.

    (One split has one backward; as many slices would each fill a whole gradient.)
    """
    levels = [x.split(sizes) for x in pyramid.levels]
    inner = [[x.split(sizes) for x in level] for level in pyramid.inner or ()]
    return [
        FeaturePyramid(
            [parts[i] for parts in levels],
            pyramid.strides,
            [[parts[i] for parts in level] for level in inner] if pyramid.inner else None,
        )
        for i in range(len(sizes))
    ]


class Planner:
    """Decides which nodes a route needs.

    Args:
        wiring: The network's nodes.
        training: Whether keys needed in training only are needed now.
    """

    def __init__(self, wiring: Wiring, *, training: bool) -> None:
        self.wiring = wiring
        self.training = training

    def keys_of(self, node: WiredNode, role: Role) -> tuple[str, ...]:
        """Return the keys that a node is handed when it runs on the images of a role."""
        if node.family == "encoder":
            return tuple(read for read in node.reads if read != "image") + node.module.requires
        if role != node.home:
            return ()
        return node.module.requires + (node.module.train_requires if self.training else ())

    def makes(self, node: WiredNode) -> tuple[str, ...]:
        """Return the keys that a node makes now."""
        return node.module.produces + (node.module.train_produces if self.training else ())

    def possible(self, route: Route) -> list[str]:
        """Return the keys that this route can make, in order."""
        able = [n for n in self.wiring.nodes if self.obstacle(route, n, n.home) is None]
        return [key for node in able for key in self.makes(node)]

    def obstacle(self, route: Route, node: WiredNode, role: Role) -> str | None:
        """Return why a node cannot run on the images of a role, or None if it can."""
        if not route.can_show(role, node.family):
            return f"the batch has no {_MISSING[role]}"
        for key in self.keys_of(node, role):
            if key in route.batch or key in route.predictions:
                continue
            maker = self.wiring.producer.get(key)
            if maker is None:
                return f"the batch has no '{key}'"
            reason = self.obstacle(route, maker, maker.home)
            if reason is not None:
                return reason
        for maker, read_role in self._missing_reads(route, node, role):
            reason = self.obstacle(route, maker, read_role)
            if reason is not None:
                return reason
        return None

    def mark(self, route: Route, outputs: Collection[str]) -> None:
        """Set `route.roles` to all that `outputs` need."""
        wanted = set(outputs)
        for node in reversed(self.wiring.nodes):
            roles = route.roles.setdefault(node.path, set())
            if wanted.intersection(self.makes(node)):
                roles.add(node.home)
                wanted.update(key for key in node.module.requires if key not in route.batch)
            for role in roles:
                for maker, read_role in self._missing_reads(route, node, role):
                    route.roles.setdefault(maker.path, set()).add(read_role)

    def _missing_reads(
        self, route: Route, node: WiredNode, role: Role
    ) -> list[tuple[WiredNode, Role]]:
        """Return the nodes whose pyramids are not there yet, each with the role to run in."""
        missing: list[tuple[WiredNode, Role]] = []
        for read in node.reads if node.family != "encoder" else ():
            maker = self.wiring.pyramid_of[read]
            split = role == "pair" and maker.view == "frame"
            needed: tuple[Role, ...] = ("source", "target") if split else (role,)
            for needed_role in needed:
                if not route.has(read, needed_role):
                    missing.append((maker, needed_role))
        return missing
