"""Training a steering head: the frozen encoder keeps every bit, and the run resumes in the same."""

import math

import pytest
import torch
from sequence_toys import steering_network, steering_preset, write_drives
from training_runs import Crash
from training_toys import ENVIRONMENT

from unienc_core.checkpoint import load_checkpoint
from unienc_core.data.loader import StepLoader
from unienc_core.data.sequence_dataset import SequenceDataset
from unienc_core.losses.objective import Objective
from unienc_core.training.distributed import World, shared_run_folder
from unienc_core.training.module import TrainModule
from unienc_core.training.run_dir import RunIdentity
from unienc_core.training.trainer import Trainer, resume_point
from unienc_core.workflows.grid_cache import build_cache

# Chance in the encoder: it must rest with the weights.
ENCODER = {"drop_path": 0.3}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_drives(tmp_path_factory.mktemp("drives") / "s", (12, 9))


def run(path, store, *, trains=None, cached=False, stop=None, steps=3):
    preset = steering_preset(steps=steps, encoder=ENCODER)
    if trains:
        stage = preset.stages[0].model_copy(update={"trains": trains})
        preset = preset.model_copy(update={"stages": (stage,)})
    module = TrainModule(steering_network(preset), Objective(preset), preset)
    caches = [build_cache(store, module.network, preset, path / "grids")] if cached else []
    stream = preset.streams["drives"]
    drives = SequenceDataset(store, stream, preset.image_size, seed=1, name="drives", caches=caches)

    def draws(start):
        for step, batch in StepLoader(drives).steps(start, steps):
            if step == stop:
                raise Crash
            yield {"drives": batch}

    before = everything(module.network.encoders["main"])
    identity = RunIdentity(preset, seed=0, data=())
    with shared_run_folder(
        World(), path / "run", identity, command="t", environment=ENVIRONMENT, fresh=False, say=str
    ) as folder:
        resume = resume_point(folder, str)
        trainer = Trainer(module, preset, draws, folder, seed=0, resume=resume, checkpoint_every=1)
        trainer.run()
    return module, before, trainer


def everything(module) -> dict[str, torch.Tensor]:
    """All parameters and buffers, those that no checkpoint holds, too."""
    named = (*module.named_parameters(), *module.named_buffers())
    return {name: tensor.detach().clone() for name, tensor in named}


def test_frozen_means_frozen(store, tmp_path):
    module, before, trainer = run(tmp_path, store)
    encoder, head = module.network.encoders["main"], module.network.heads["steering"]
    after = everything(encoder)
    assert "mean" in after and any(name.endswith("running_var") for name in after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(part.training for part in encoder.modules())
    assert all(p.grad is None for p in encoder.parameters())
    fresh = steering_network(steering_preset(encoder=ENCODER)).heads["steering"]
    moved = [
        not torch.equal(a, b) for a, b in zip(fresh.parameters(), head.parameters(), strict=True)
    ]
    assert all(moved)
    assert math.isfinite(trainer.logbook.counters.loss)
    saved = load_checkpoint(tmp_path / "run").model_tensors()
    for name in encoder.state_dict():
        assert torch.equal(saved[f"encoders.main.{name}"], before[name])


def test_unfrozen_moves_the_encoder(store, tmp_path):
    module, before, _ = run(tmp_path, store, trains=("*",), steps=1)
    after = everything(module.network.encoders["main"])
    assert not all(torch.equal(before[name], after[name]) for name in before)


def test_a_stopped_run_on_grids_ends_in_the_same_bits(store, tmp_path):
    whole, _, _ = run(tmp_path / "whole", store, cached=True)
    with pytest.raises(Crash):
        run(tmp_path / "torn", store, cached=True, stop=2)
    resumed, _, trainer = run(tmp_path / "torn", store, cached=True)
    assert trainer.logbook.counters.step == 3
    ends = [m.network.state_dict() for m in (whole, resumed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
