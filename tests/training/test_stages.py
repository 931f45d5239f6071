"""Stages: which step lies where, what moves, at which rate, and what rests wholly."""

import pytest
import torch
from torch import nn
from training_toys import ToyNetwork, ToyObjective, toy_module, toy_preset

from unienc_core.errors import WiringError
from unienc_core.presets import OptimizerSpec, ScheduleSpec
from unienc_core.training.optim import parameter_groups
from unienc_core.training.stages import Position, apply_stage, locate, moving_names, schedule_factor


def stage(**options):
    return toy_preset({"name": "s", "steps": 4, **options}).stages[0]


def test_locate():
    stages = toy_preset({"name": "a", "steps": 3}, {"name": "b", "steps": 2}).stages
    assert [locate(stages, i) for i in range(5)] == [
        Position(0, 0),
        Position(0, 1),
        Position(0, 2),
        Position(1, 0),
        Position(1, 1),
    ]
    with pytest.raises(IndexError):
        locate(stages, 5)


def test_schedules():
    constant, poly = ScheduleSpec(), ScheduleSpec(type="poly", power=0.9)
    tail = ScheduleSpec(type="tail", tail=0.25, final=0.05)
    assert [schedule_factor(constant, s, 10) for s in (0, 9)] == [1, 1]
    assert schedule_factor(poly, 0, 10) == 1
    assert schedule_factor(poly, 5, 10) == pytest.approx(0.5**0.9)
    assert [schedule_factor(tail, s, 100) for s in (0, 50, 75)] == [1, 1, 1]
    assert schedule_factor(tail, 87, 100) == pytest.approx(1 - 0.95 * 0.48)
    assert schedule_factor(tail, 100, 100) == pytest.approx(0.05)
    steps = ScheduleSpec(type="steps", milestones=(3, 7), gamma=0.5)
    assert [schedule_factor(steps, s, 10) for s in (0, 2, 3, 6, 7, 9)] == [
        1,
        1,
        0.5,
        0.5,
        0.25,
        0.25,
    ]


def test_globs_choose_what_moves():
    names = moving_names(ToyNetwork(), stage(trains=["heads.*", "encoders.main.0.weight"]))
    assert names == {"heads.out.weight", "heads.out.bias", "encoders.main.0.weight"}


def test_a_glob_without_a_match_names_the_nearest():
    with pytest.raises(WiringError, match=r"'heads.hed.\*' matches no .* 'heads.out.\*'"):
        moving_names(ToyNetwork(), stage(trains=["heads.hed.*"]))


def test_frozen_modules_rest():
    network = ToyNetwork()
    said = apply_stage(network, stage(trains=["heads.*"]))
    assert said == "5 parameters move (heads.out 5), 120 are frozen"
    assert [m.training for m in network.encoders["main"]] == [False] * 4  # dropout too
    assert network.heads["out"].training
    apply_stage(network, stage(trains=["*"]))
    assert all(module.training for module in network.modules())


def test_frozen_parameters_and_statistics_do_not_change():
    preset = toy_preset({"name": "s", "steps": 4, "trains": ["heads.*"]})
    module = toy_module(preset)
    apply_stage(module.network, preset.stages[0])
    before = {k: v.clone() for k, v in module.network.encoders.state_dict().items()}
    module.network({"toy": {"image": torch.rand(2, 3, 6, 6)}}, ["out"])
    after = module.network.encoders.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
        self.proj = nn.Linear(2, 2)
        self.norm = nn.LayerNorm(2)
        self.query = nn.Embedding(3, 2)


def groups_of(pretrained, factor=None):
    network = ToyNetwork()
    encoder = Attention()
    encoder.pretrained = pretrained
    network.encoders["main"] = encoder
    spec = OptimizerSpec(lr=1.0, backbone_lr_factor=0.1, weight_decay=0.05)
    groups = parameter_groups(network, ToyObjective(), spec, 0.5, {"main": factor})
    return {name: (group.lr, group.weight_decay) for group in groups for name in group.names}


def test_parameter_groups_of_a_pretrained_encoder():
    assert groups_of(pretrained=True) == {
        "network.encoders.main.relative_position_bias_table": (0.05, 0.0),
        "network.encoders.main.proj.weight": (0.05, 0.05),
        "network.encoders.main.proj.bias": (0.05, 0.0),
        "network.encoders.main.norm.weight": (0.05, 0.0),
        "network.encoders.main.norm.bias": (0.05, 0.0),
        "network.encoders.main.query.weight": (0.05, 0.0),
        "network.heads.out.weight": (0.5, 0.05),
        "network.heads.out.bias": (0.5, 0.0),
        "objective.offset": (0.5, 0.0),
    }


def test_an_encoder_from_scratch_learns_at_the_full_rate():
    assert {rate for rate, _ in groups_of(pretrained=False).values()} == {0.5}


@pytest.mark.parametrize("pretrained", [False, True])
def test_an_encoder_with_a_factor_of_its_own(pretrained):
    rates = {name: rate for name, (rate, _) in groups_of(pretrained, factor=0.6).items()}
    assert rates["network.encoders.main.proj.weight"] == pytest.approx(0.3)
    assert rates["network.heads.out.weight"] == 0.5


def test_frozen_parameters_are_in_no_group():
    network = ToyNetwork()
    apply_stage(network, stage(trains=["heads.*"]))
    groups = parameter_groups(network, ToyObjective(), OptimizerSpec(), lr=1.0)
    names = {name for group in groups for name in group.names}
    assert names == {"network.heads.out.weight", "network.heads.out.bias", "objective.offset"}
