"""The one module of training: batches of all streams in, one loss out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unienc_core.contracts import Batch, Predictions, StepContext
from unienc_core.losses.objective import Objective
from unienc_core.models.network import Network
from unienc_core.presets import Preset, StageSpec
from unienc_core.training.teacher import Teacher
from unienc_core.training.vital_signs import vital_signs
from unienc_core.view_synthesis import synthesise


class TrainModule(nn.Module):
    """Network, view synthesis and objective behind one `forward`, so that DDP can wrap it.

    Args:
        network: What is trained.
        objective: Its loss terms.
        preset: Gives depth range, image size and precision.
        teacher: Says what terms read as ``teacher/<key>``, of the same batches. It is no part of
            this module: neither trained, nor averaged over processes, nor saved.
    """

    def __init__(
        self,
        network: Network,
        objective: Objective,
        preset: Preset,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        self._teacher = teacher
        self._depth = preset.depth
        self._image_size = preset.image_size
        self._bf16 = preset.optimizer.precision == "bf16"

    def forward(
        self, streams: Mapping[str, Batch], stage: StageSpec, context: StepContext
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to descend and what to log (0-d, detached).

        Networks and view synthesis make of each stream only what the stage's terms read of it. The
        networks run in the preset's precision; geometry and losses run in float32, where a pixel
        coordinate of 600 still has its fractions.
        """
        values_by_stream: dict[str, dict[str, Any]] = {}
        signs: dict[str, Tensor] = {}
        read = self.objective.requires(stage.terms)
        for name, predictions in self._predict(streams, stage).items():
            # The signs of a complete flow compare it with the rigid one, which takes the depth.
            wanted = read | ({"depth"} if "complete_flow" in predictions else set())
            values = synthesise(
                {**streams[name], **predictions},
                stage.warp,
                self._depth,
                self._image_size,
                compose=stage.compose,
                wanted=wanted,
            )
            values_by_stream[name] = values
            signs |= vital_signs(values)
        total, logs = self.objective(values_by_stream, stage.terms, context, stage.warp)
        return total, {**logs, **signs}

    def _predict(self, streams: Mapping[str, Batch], stage: StageSpec) -> dict[str, dict[str, Any]]:
        """Return what network and teacher make of each stream."""
        possible = self.network.possible(streams)
        taught = self._teacher.possible(streams) if self._teacher else {}
        offered = {n: {*batch, *possible[n], *taught.get(n, ())} for n, batch in streams.items()}
        read = self.objective.reads(stage.terms, offered, stage.warp)
        wanted = {name: [k for k in keys if k in read[name]] for name, keys in possible.items()}
        lessons = {name: keys & taught.get(name, set()) for name, keys in read.items()}
        device = next(self.network.parameters()).device
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self._bf16):
            predictions: dict[str, Predictions] = self.network(dict(streams), wanted)
            told = self._teacher.predict(streams, lessons) if self._teacher else {}
        return {
            name: {k: _float32(value) for k, value in {**made, **told.get(name, {})}.items()}
            for name, made in predictions.items()
        }


def _float32(value: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    if isinstance(value, list):
        return [item.float() if item.is_floating_point() else item for item in value]
    return value.float() if value.is_floating_point() else value
