"""What a benchmark is made with: preset, weights, device, data, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from unienc_core.checkpoint import Checkpoint, load_tensors
from unienc_core.contracts import Progress, Reporter
from unienc_core.data.store import Store, resolve_store
from unienc_core.losses.objective import Objective
from unienc_core.models.network import Network, build_network
from unienc_core.presets import Preset
from unienc_core.training.module import TrainModule
from unienc_core.training.teacher import Teacher
from unienc_core.workflows.bench.clock import QUICK, THOROUGH, Pace, Samples, Side, take_turns
from unienc_core.workflows.prepare import prepare_synth_city


@dataclass
class Setting:
    """What all sections of a benchmark share.

    Attributes:
        preset: The system.
        checkpoint: Its weights; random ones without it, which are as fast.
        device: Where networks run.
        store: Store of images, or a folder of stores; a small city is rendered if None.
        folder: Where temporary things lie.
        quick: A look at everything in seconds, in place of figures to quote.
        reporter: Told of progress.
    """

    preset: Preset
    checkpoint: Checkpoint | None
    device: torch.device
    store: Path | None
    folder: Path
    quick: bool
    reporter: Reporter

    @property
    def pace(self) -> Pace:
        """How long each section measures."""
        return QUICK if self.quick else THOROUGH

    def network(self, preset: Preset | None = None) -> Network:
        """Build the network, on the CPU, with the checkpoint's weights if there is one."""
        network = build_network(preset or self.preset, load_pretrained=False)
        if self.checkpoint is not None:
            where = str(self.checkpoint.path)
            load_tensors(network, self.checkpoint.model_tensors(), where)
        return network

    def train_module(
        self, preset: Preset | None = None, teacher: Teacher | None = None
    ) -> TrainModule:
        """Build network and objective for training, on the device."""
        preset = preset or self.preset
        module = TrainModule(self.network(preset), Objective(preset), preset, teacher)
        return module.to(self.device)

    @cached_property
    def store_path(self) -> Path:
        """A store to train on: the given one, or a small city of the preset's image size."""
        if self.store is not None:
            return resolve_store(self.store, "train")
        self.reporter.progress(Progress("render a city", 0, None, "frame"))
        drives, frames = (1, 4) if self.quick else (4, 12)
        prepare_synth_city(
            self.folder / "city",
            splits={"train": (drives, frames)},
            image_size=self.preset.image_size,
            supersample=1 if self.quick else 2,
            workers=1,
        )
        return self.folder / "city" / "train"

    @cached_property
    def opened_store(self) -> Store:
        """The store, opened."""
        return Store(self.store_path)

    def take_turns(self, sides: dict[str, Side], task: str) -> dict[str, Samples]:
        """Time `sides` in turn at this setting's pace."""
        return take_turns(sides, self.pace, self.device, self.reporter.progress, task)
