"""Several processes as one: the same weights, the same decisions, and no process left waiting."""

import json

import pytest
import torch
from ranks import run_ranks, told
from safetensors.torch import load_file
from torch import nn
from training_toys import OneOutput, toy_draws, toy_preset, toy_run

from unienc_core.checkpoint import list_checkpoints
from unienc_core.contracts import Reporter, StepContext, Term
from unienc_core.errors import DataError, UsageError
from unienc_core.losses.objective import Objective
from unienc_core.presets import preset_from_dict
from unienc_core.registry import register
from unienc_core.training.distributed import World, join_world
from unienc_core.training.module import TrainModule


@register("term", "test_ranks_fit")
class Fit(Term):
    """Squared error of each sample, at a learned scale."""

    requires = ("out", "label")

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, values, context):
        error = (self.scale * values["out"] - values["label"]).square().flatten(1).mean(1)
        self.logs = {"mean_out": values["out"].mean()}
        return error


class SmoothNetwork(OneOutput):
    """No chance and no batch statistics; one head of two is used."""

    def __init__(self):
        super().__init__()
        self.encoders = nn.ModuleDict({"main": nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh())})
        self.heads = nn.ModuleDict({"out": nn.Linear(6, 1), "unused": nn.Linear(6, 1)})

    def forward(self, streams, outputs):
        features = self.encoders["main"](streams["toy"]["image"]).mean((2, 3))
        return {"toy": {"out": self.heads["out"](features)}}


STAGES = (
    {"name": "head", "steps": 4, "trains": ["heads.out.*"]},
    {"name": "all", "steps": 6, "lr": 0.02, "schedule": {"type": "poly"}},
)


def smooth_preset(**optimizer):
    raw = toy_preset(*STAGES, **optimizer).model_dump(mode="json")
    raw["terms"]["fit"]["type"] = "test_ranks_fit"
    return preset_from_dict(raw)


def masked_draws(world: World):
    """Draws of six samples of which some have no label, shared out among the processes."""

    def draws(start):
        for number, _ in enumerate(toy_draws(start), start):
            generator = torch.Generator().manual_seed(number)
            image = torch.rand(6, 3, 6, 6, generator=generator, dtype=torch.float64)
            valid = torch.tensor([True, True, True, False, number % 2 == 0, False])
            label = torch.where(valid[:, None], image.mean((1, 2, 3))[:, None], 99.0)
            whole = {"image": image, "label": label, "valid_label": valid}
            mine = slice(world.rank * 6 // world.size, (world.rank + 1) * 6 // world.size)
            yield {"toy": {key: value[mine] for key, value in whole.items()}}

    return draws


def smooth_run(path, world=None, **optimizer):
    preset = smooth_preset(clip_norm=0.05, ema_decay=0.8, **optimizer)
    torch.manual_seed(0)
    module = TrainModule(SmoothNetwork(), Objective(preset), preset)  # type: ignore[arg-type]
    module.double()  # in float32, sums in another order already differ by 1e-5 on some processors
    world = world or World()
    return toy_run(path, preset, module=module, draws=masked_draws(world), world=world)


def final(path, name="model"):
    return load_file(list_checkpoints(path / "checkpoints")[-1] / f"{name}.safetensors")


def log_of(path):
    timing = ("time", "step_seconds", "wait_share", "stage")
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in timing} for line in lines]


@pytest.mark.parametrize(("size", "accumulate"), [(2, 1), (2, 2), (3, 1)])
def test_several_processes_equal_one(tmp_path, size, accumulate):
    smooth_run(tmp_path / "one", accumulate=accumulate)
    codes = run_ranks(
        size, lambda world: smooth_run(tmp_path / "many", world, accumulate=accumulate), tmp_path
    )
    assert codes == [0] * size
    for part in ("model", "optimizer"):
        expected, found = final(tmp_path / "one", part), final(tmp_path / "many", part)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            gap = (found[key] - value).double().norm() / value.double().norm().clamp(min=1e-12)
            assert gap < 1e-7, (part, key)
    alone, together = log_of(tmp_path / "one"), log_of(tmp_path / "many")
    assert len(alone) == len(together) == 2
    for one, many in zip(alone, together, strict=True):
        assert many == pytest.approx(one, rel=1e-6)


def chance_run(path, world, *, poisoned=(), dies=None, reporter=None):
    """The toy with dropout and batch norm; `dies`: (draw, rank, error) of what goes wrong."""

    def draws(start):
        for number, draw in enumerate(toy_draws(100 * world.rank + start), start):
            if dies is not None and (number, world.rank) == dies[:2]:
                raise dies[2]
            if (number, world.rank) in poisoned:
                draw["toy"]["image"][:] = torch.nan
            yield draw

    stages = ({"name": "a", "steps": 5}, {"name": "b", "steps": 7, "trains": ["heads.*"]})
    preset = toy_preset(*stages, ema_decay=0.8)
    return toy_run(path, preset, draws=draws, world=world, checkpoint_every=2, reporter=reporter)


@pytest.mark.parametrize("size", [2, 3])
def test_resume_ends_in_the_same_bytes(tmp_path, size):
    """Of three processes the order of a sum matters; that it is kept is checked here."""
    fault = UsageError("stands for a kill")
    assert run_ranks(size, lambda w: chance_run(tmp_path / "whole", w), tmp_path) == [0] * size
    for at in (3, 8):
        codes = run_ranks(
            size, lambda w, at=at: chance_run(tmp_path / "torn", w, dies=(at, 0, fault)), tmp_path
        )
        assert codes == [2] * size
    assert run_ranks(size, lambda w: chance_run(tmp_path / "torn", w), tmp_path) == [0] * size
    for part in ("model", "optimizer"):
        whole, torn = final(tmp_path / "whole", part), final(tmp_path / "torn", part)
        assert all(torch.equal(whole[key], torn[key]) for key in whole)
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "torn")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_fault_of_one_ends_all_with_its_code_and_one_line(tmp_path, rank):
    fault = DataError("store/drive-3 frame 7: damaged")
    codes = run_ranks(2, lambda w: chance_run(tmp_path / "run", w, dies=(7, rank, fault)), tmp_path)
    assert codes == [3, 3]
    assert told(tmp_path) == [str(fault)]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["failure"] == str(fault)
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_fault_in_the_middle_of_a_step_ends_all(tmp_path):
    """The others wait for gradients that never come."""

    class Failing(OneOutput):
        def __init__(self, world):
            super().__init__()
            self.heads = nn.ModuleDict({"out": nn.Linear(3, 1)})
            self.world, self.calls = world, 0

        def forward(self, streams, outputs):
            self.calls += 1
            if self.calls == 7 and self.world.rank == 1:
                raise DataError("cannot go on")
            return {"toy": {"out": self.heads["out"](streams["toy"]["image"].mean((2, 3)))}}

    def work(world):
        preset = smooth_preset()
        module = TrainModule(Failing(world), Objective(preset), preset).double()  # type: ignore[arg-type]
        toy_run(tmp_path / "run", preset, module=module, draws=masked_draws(world), world=world)

    assert run_ranks(2, work, tmp_path) == [3, 3]
    assert told(tmp_path) == ["cannot go on"]


def test_what_all_find_at_once_is_told_once(tmp_path):
    def work(world):
        world.require_same("seed 1", "a seed")
        raise UsageError(f"process {world.rank} says so")

    assert run_ranks(3, work, tmp_path) == [2, 2, 2]
    assert told(tmp_path) == ["process 0 says so"]


def test_a_process_of_another_run_is_found(tmp_path):
    def work(world):
        world.require_same(f"seed {world.rank}", "a seed")
        world.agree(0)

    assert run_ranks(2, work, tmp_path) == [2, 2]
    assert told(tmp_path) == ["process 1 has a seed other than process 0"]


def test_a_step_that_is_bad_in_one_process_is_bad_in_all(tmp_path):
    said = []

    def work(world):
        trainer = chance_run(
            tmp_path / "run", world, poisoned={(2, 1), (6, 0)}, reporter=Reporter(say=said.append)
        )
        thrown = [line for line in said if "thrown away" in line]
        assert len(thrown) == trainer.logbook.counters.bad_steps == 2
        norms = trainer._module.network.encoders["main"][1]
        assert norms.running_mean.isfinite().all()
        assert all(p.isfinite().all() for p in trainer._module.parameters())

    assert run_ranks(2, work, tmp_path) == [0, 0]


def test_without_a_launcher_a_process_is_alone(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with join_world("cpu") as world:
        assert world == World()
    assert world.lead
    assert world.agree(7) == 7
    assert world.share("x") == "x"
    x = torch.ones(2)
    assert world.sum(x) is x


def test_one_device_is_not_for_two_processes(monkeypatch):
    world = World(1, 2, 1, 2)
    assert world.device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="2 processes but 1 CUDA device"):
        world.device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="--device cuda:1 is one device for 2 processes"):
        world.device("cuda:1")
    assert world.device("auto") == torch.device("cuda", 1)


def test_losses_are_means_over_the_valid_samples_of_all():
    """Uneven shares: three valid samples here, one there."""
    preset = smooth_preset()
    objective = Objective(preset)
    out = torch.tensor([[1.0], [2.0], [4.0], [9.0], [7.0]])
    valid = torch.tensor([True, True, True, True, False])
    values = {"out": out, "label": torch.zeros_like(out), "valid_label": valid}
    expected = objective({"toy": values}, ["fit"], StepContext())[0].item()
    parts = []
    for mine in (slice(0, 3), slice(3, 5)):
        share = {"toy": {key: value[mine] for key, value in values.items()}}
        context = StepContext(processes=2, sum_over_processes=lambda count: 0 * count + 4)
        parts.append(objective(share, ["fit"], context)[0].item())
    assert sum(parts) / 2 == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx((1 + 4 + 16 + 81) / 4)
