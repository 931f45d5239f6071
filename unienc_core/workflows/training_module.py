"""The network and the objective that a training run begins with."""

from __future__ import annotations

from pathlib import Path

import torch

from unienc_core.checkpoint import Checkpoint
from unienc_core.contracts import Reporter, Say, say_nothing
from unienc_core.losses.objective import Objective
from unienc_core.models.network import Network, build_network
from unienc_core.presets import Preset
from unienc_core.training.initial import has_all_encoders, start_from
from unienc_core.training.module import TrainModule
from unienc_core.training.stages import check_stages
from unienc_core.training.teacher import Teacher


def first_network(
    preset: Preset,
    seed: int,
    weights: Path | None = None,
    started: Checkpoint | None = None,
    resume: Checkpoint | None = None,
    say: Say = say_nothing,
) -> Network:
    """Build the network that a run begins with, or, to resume, one to be filled.

    Args:
        preset: Of the run.
        seed: Of the run.
        weights: File that the pretrained encoder starts from.
        started: Whose weights it starts from.
        resume: The checkpoint that will fill it.
        say: Told what it starts from.
    """
    covered = resume is not None or (started is not None and has_all_encoders(started, preset))
    network = build_network(
        preset, load_pretrained=not covered, weights=weights, say=say, seed=seed
    )
    if started is not None and resume is None:
        start_from(network, started, say)
    return network


def build_module(
    preset: Preset,
    seed: int,
    weights: Path | None,
    started: Checkpoint | None,
    resume: Checkpoint | None,
    teacher: Teacher | None,
    reporter: Reporter,
) -> TrainModule:
    """Build what is trained, network and objective; the trainer loads weights to resume from.

    Args:
        preset: Of the run.
        seed: Of the run.
        weights: File that the pretrained encoder starts from.
        started: Whose weights it starts from.
        resume: The checkpoint that will fill it.
        teacher: The teacher, if there is one.
        reporter: Told what it starts from.
    """
    network = first_network(preset, seed, weights, started, resume, reporter.say)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        objective = Objective(preset)
    check_stages(network, objective, preset)
    network.compile_nodes(preset)
    return TrainModule(network, objective, preset, teacher)
