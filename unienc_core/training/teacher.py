"""The teacher: a trained network that says what it would predict of the student's own batches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import cast

import torch
from torch import Tensor

from unienc_core.checkpoint import Checkpoint
from unienc_core.contracts import TEACHER, Batch, Predictions
from unienc_core.models.routing import Planner, Route
from unienc_core.models.wiring import KIND_KEYS
from unienc_core.presets import StreamSpec
from unienc_core.trained import trained_network
from unienc_core.training.initial import weights_digest
from unienc_core.view_synthesis import full_size_depths


class Teacher:
    """The network of a checkpoint, frozen and in ``eval()``, which no gradient enters.

    It is no module: what holds it neither trains nor saves it. Its depth is made with the depth
    range of its own preset.

    Args:
        checkpoint: Of any preset; what only training runs is left out.
        device: Where it runs, that of the student.

    Attributes:
        preset: What it was trained with.
        digest: SHA-256 of its weights.
        network: The network.
        makes: What it predicts where a stream holds what it needs.

    Raises:
        CheckpointError: If the checkpoint is damaged or of other shapes.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device | str = "cpu") -> None:
        self.preset = checkpoint.preset
        self.digest = weights_digest(checkpoint)
        self.network = trained_network(checkpoint).to(device).eval().requires_grad_(False)
        self.makes = with_depth(self.network.produces)

    def possible(self, streams: Mapping[str, Batch]) -> dict[str, set[str]]:
        """Return what it can predict of each stream, as ``teacher/<key>``."""
        found = self.network.possible(streams)
        return {name: {TEACHER + key for key in with_depth(keys)} for name, keys in found.items()}

    @torch.no_grad()
    def predict(
        self, streams: Mapping[str, Batch], wanted: Mapping[str, Collection[str]]
    ) -> dict[str, Predictions]:
        """Predict of the batches that the student sees.

        Args:
            streams: Batch of each stream.
            wanted: ``teacher/<key>`` of each stream; on one without any it does not run.

        Returns:
            Exactly the wanted keys; `depth` as `B 1 H W` at full size. Streams without are left
            out.
        """
        asked = {n: {k.removeprefix(TEACHER) for k in keys} for n, keys in wanted.items() if keys}
        if not asked:
            return {}
        nodes = {n: {"disparity" if k == "depth" else k for k in keys} for n, keys in asked.items()}
        predictions = self.network({name: streams[name] for name in asked}, nodes)
        for made in predictions.values():
            if "disparity" in made:
                disparity = [cast(Tensor, made["disparity"])]
                depths = full_size_depths(disparity, self.preset.depth, self.preset.image_size)
                made["depth"] = depths[0]
        return {
            n: {TEACHER + key: predictions[n][key] for key in keys} for n, keys in asked.items()
        }

    def why_not(self, spec: StreamSpec, key: str) -> str | None:
        """Return what a stream lacks for it to predict `key`, or None if it lacks nothing."""
        maker = self.network.wiring.producer["disparity" if key == "depth" else key]
        planner = Planner(self.network.wiring, training=False)
        return planner.obstacle(Route.of_batch(_stand_in(spec)), maker, maker.home)


def with_depth(keys: Iterable[str]) -> tuple[str, ...]:
    """Return what heads say and, where they say the disparity, the depth that is made of it."""
    keys = tuple(keys)
    return (*keys, "depth") if "disparity" in keys else keys


def _stand_in(spec: StreamSpec) -> Batch:
    """Return a batch that has the keys of a stream, and images without a pixel."""
    image, pair = torch.empty(1, 3, 0, 0), torch.empty(1, 2, 3, 0, 0)
    images = {"target_image": image, "image": image, "source_images": pair}
    keys = (*KIND_KEYS[spec.kind], *spec.labels)
    return {key: images.get(key, pair if key == "sequence_images" else None) for key in keys}
