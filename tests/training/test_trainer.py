"""The loop: exact resume, clipping, accumulation, steps that are thrown away, signals, the log."""

import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from training_toys import (
    OneOutput,
    Stop,
    ToyObjective,
    dying_draws,
    final_bytes,
    toy_draws,
    toy_module,
    toy_preset,
    toy_run,
)

from unienc_core.checkpoint import list_checkpoints
from unienc_core.contracts import Reporter, StepContext
from unienc_core.errors import CheckpointError, IntegrityError, Interrupted, WiringError
from unienc_core.training.optim import build_optimizer, parameter_groups
from unienc_core.training.stages import apply_stage
from unienc_core.training.step import StageStepper, clip_gradients, gradient_norm, step_seed

TWO_STAGES = (
    {"name": "head", "steps": 7, "trains": ["heads.*"], "schedule": {"type": "poly"}},
    {"name": "all", "steps": 9, "lr": 0.02, "schedule": {"type": "tail"}},
)


def log_of(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in x.items() if k not in ("time", "step_seconds", "wait_share")}
            for x in lines]  # fmt: skip


@pytest.mark.parametrize("optimizer", [{}, {"ema_decay": 0.8}])
@pytest.mark.parametrize("deaths", [[2], [7], [8, 11], [3, 3, 6, 10, 15]])
def test_resume_ends_in_the_same_bytes(tmp_path, deaths, optimizer):
    preset = toy_preset(*TWO_STAGES, **optimizer)
    toy_run(tmp_path / "whole", preset, checkpoint_every=3)
    for at in deaths:
        with pytest.raises(Stop):
            toy_run(tmp_path / "torn", preset, checkpoint_every=3, draws=dying_draws(at))
    toy_run(tmp_path / "torn", preset, checkpoint_every=3)
    assert final_bytes(tmp_path / "torn") == final_bytes(tmp_path / "whole")
    assert log_of(tmp_path / "torn") == log_of(tmp_path / "whole")


def test_resume_within_an_accumulated_step(tmp_path):
    preset = toy_preset({"name": "s", "steps": 6}, accumulate=3)
    toy_run(tmp_path / "whole", preset)
    with pytest.raises(Stop):
        toy_run(tmp_path / "torn", preset, checkpoint_every=2, draws=dying_draws(13))
    toy_run(tmp_path / "torn", preset, checkpoint_every=2)
    assert final_bytes(tmp_path / "torn") == final_bytes(tmp_path / "whole")


def test_a_damaged_newest_checkpoint_is_passed_over_and_kept(tmp_path):
    preset = toy_preset(*TWO_STAGES)
    toy_run(tmp_path / "whole", preset, checkpoint_every=3)
    with pytest.raises(Stop):
        toy_run(tmp_path / "torn", preset, checkpoint_every=3, draws=dying_draws(13))
    model = list_checkpoints(tmp_path / "torn" / "checkpoints")[-1] / "model.safetensors"
    os.truncate(model, model.stat().st_size - 3)
    said = []
    toy_run(tmp_path / "torn", preset, checkpoint_every=3, reporter=Reporter(say=said.append))
    assert any("skipping a damaged checkpoint" in line and str(model) in line for line in said)
    assert (tmp_path / "torn" / "checkpoints" / "damaged-step-0000012").is_dir()
    assert final_bytes(tmp_path / "torn") == final_bytes(tmp_path / "whole")


def test_a_checkpoint_of_other_shapes_is_refused(tmp_path):
    with pytest.raises(Stop):
        toy_run(tmp_path, checkpoint_every=3, draws=dying_draws(4))
    with pytest.raises(CheckpointError, match=r"0.weight is \[4, 3, 3, 3\], the network has \[5,"):
        toy_run(tmp_path, width=5)


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    toy_run(tmp_path, checkpoint_every=2)
    names = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert sorted(names) == ["step-0000010", "step-0000012"]


def test_frozen_parts_are_equal_after_their_stage(tmp_path):
    preset = toy_preset({"name": "head", "steps": 5, "trains": ["heads.*"]})
    toy_run(tmp_path, preset)
    after = load_file(list_checkpoints(tmp_path / "checkpoints")[-1] / "model.safetensors")
    before = toy_module(preset).network.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"heads.out.weight", "heads.out.bias"}


def stepper_of(preset, module=None):
    module = module or toy_module(preset)
    stage = preset.stages[0]
    apply_stage(module.network, stage)
    groups = parameter_groups(module.network, module.objective, preset.optimizer, 0.01)
    optimizer = build_optimizer(module, groups)
    return module, optimizer, StageStepper(module, optimizer, stage, preset.optimizer, seed=0)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_clipping_clips(scale):
    _, optimizer, _ = stepper_of(toy_preset())
    generator = torch.Generator().manual_seed(0)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter in parameters:
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
    flat = torch.cat([p.grad.double().flatten() for p in parameters])
    norm = gradient_norm(optimizer)
    assert norm.item() == pytest.approx(flat.norm().item(), rel=1e-6)
    clip_gradients(optimizer, norm, 0.5)
    clipped = torch.cat([p.grad.double().flatten() for p in parameters])
    assert clipped.norm().item() == pytest.approx(min(0.5, flat.norm().item()), rel=1e-5)
    assert torch.allclose(clipped / clipped.norm(), flat / flat.norm(), atol=1e-7)


def test_the_step_uses_the_clipped_gradient(tmp_path, monkeypatch):
    """What AdamW is handed has the norm of `clip_norm`."""
    preset = toy_preset(clip_norm=1e-3)
    _, optimizer, stepper = stepper_of(preset)
    seen = []
    step = optimizer.step
    monkeypatch.setattr(
        optimizer, "step", lambda: (seen.append(gradient_norm(optimizer).item()), step())
    )
    result = stepper.take([next(toy_draws(0))], 0, 0)
    assert result.logs["grad_norm"].item() > 1e-3
    assert seen == [pytest.approx(1e-3, rel=1e-3)]


class WithoutChance(OneOutput):
    """A linear network: no batch statistics, no dropout."""

    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleDict({"out": nn.Linear(3, 1)})

    def forward(self, streams, outputs):
        return {"toy": {"out": self.heads["out"](streams["toy"]["image"].mean((2, 3)))}}


def test_accumulated_draws_equal_one_large_batch():
    draws = toy_draws(0)
    parts = [next(draws) for _ in range(4)]
    joined = {"toy": {k: torch.cat([p["toy"][k] for p in parts]) for k in ("image", "label")}}
    found = []
    for batches in (parts, [joined]):
        preset = toy_preset()
        module = toy_module(preset)
        torch.manual_seed(1)
        module.network = WithoutChance()
        module, _, stepper = stepper_of(preset, module)
        result = stepper.take(batches, 0, 0)
        found.append((result.loss, module.network.heads["out"].weight.detach().clone()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-5)


def poisoned_draws(*poisoned):
    def draws(start):
        for number, draw in enumerate(toy_draws(start), start):
            if number in poisoned:
                draw["toy"]["image"][0, 0, 0, 0] = float("nan")
            yield draw

    return draws


def test_a_bad_step_changes_nothing():
    preset = toy_preset()
    module, _, stepper = stepper_of(preset)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    result = stepper.take([next(poisoned_draws(0)(0))], 0, 0)
    assert not result.taken
    after = module.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)  # batch statistics too


def test_bad_steps_are_counted_and_said(tmp_path):
    said = []
    trainer = toy_run(tmp_path, draws=poisoned_draws(2, 3, 6), reporter=Reporter(say=said.append),
                      describe="toy-{}".format)  # fmt: skip
    assert trainer.logbook.counters.bad_steps == 3
    assert [line.split(":")[0] for line in said if "thrown" in line] == [
        "step 3 thrown away",
        "step 4 thrown away",
        "step 7 thrown away",
    ]
    assert "toy-2" in said[1]
    assert log_of(tmp_path)[-1]["bad_steps"] == 3


def test_too_many_bad_steps_in_a_row_stop_the_run(tmp_path):
    bad = poisoned_draws(*range(5, 100))
    with pytest.raises(IntegrityError, match="3 steps in a row .*step 8.*draw 7.*step-0000004"):
        toy_run(tmp_path, toy_preset(max_bad_steps=3), draws=bad, checkpoint_every=2)
    good = list_checkpoints(tmp_path / "checkpoints")
    assert good[-1].name == "step-0000004"
    tensors = load_file(good[-1] / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in tensors.values())


class SquareRoot(ToyObjective):
    """The loss is 0 and finite; its gradient is not."""

    def forward(self, values_by_stream, terms, context, warp):
        loss = (values_by_stream["toy"]["out"] * 0).sqrt().mean() + self.offset.sum() * 0
        return loss, {}


def test_a_bad_gradient_of_a_good_loss_is_noticed():
    module = toy_module(toy_preset())
    module.objective = SquareRoot()
    _, _, stepper = stepper_of(toy_preset(), module)
    result = stepper.take([next(toy_draws(0))], 0, 0)
    assert result.loss == 0.0
    assert not result.taken


class Constant(ToyObjective):
    def forward(self, values_by_stream, terms, context, warp):
        return torch.zeros(()), {}


def test_a_stage_whose_terms_move_nothing_is_an_error():
    module = toy_module(toy_preset())
    module.objective = Constant()
    _, _, stepper = stepper_of(toy_preset(), module)
    with pytest.raises(WiringError, match="stages.only: no term depends on a parameter"):
        stepper.take([next(toy_draws(0))], 0, 0)


def test_globs_of_later_stages_are_checked_first(tmp_path):
    preset = toy_preset({"name": "a", "steps": 1}, {"name": "b", "steps": 1, "trains": ["nope"]})
    with pytest.raises(WiringError, match=r"stages.b.trains: 'nope'"):
        toy_run(tmp_path, preset)


def test_chance_within_a_step_depends_on_its_place_only():
    places = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    assert len({step_seed(*place) for place in places}) == len(places)
    preset = toy_preset()
    losses = []
    for burnt in (0, 7):
        _, _, stepper = stepper_of(preset)
        torch.rand(burnt)  # whatever happened before does not matter
        losses.append(stepper.take([next(toy_draws(0))], 3, 3).loss)
    assert losses[0] == losses[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_can_go_on(tmp_path, number):
    def draws(start):
        for at, draw in enumerate(toy_draws(start), start):
            if at == 5:
                os.kill(os.getpid(), number)
            yield draw

    toy_run(tmp_path / "whole")
    with pytest.raises(Interrupted, match=f"{number.name} after step 6 of 12") as stopped:
        toy_run(tmp_path / "torn", draws=draws)
    assert stopped.value.exit_code == 130
    assert list_checkpoints(tmp_path / "torn" / "checkpoints")[-1].name == "step-0000006"
    toy_run(tmp_path / "torn")
    assert final_bytes(tmp_path / "torn") == final_bytes(tmp_path / "whole")
    assert log_of(tmp_path / "torn") == log_of(tmp_path / "whole")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_log(tmp_path):
    seen = []
    preset = toy_preset({"name": "s", "steps": 24, "schedule": {"type": "poly", "power": 1.0}})
    toy_run(tmp_path, preset, reporter=Reporter(progress=seen.append))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 24]
    assert lines[0]["stage"] == "s"
    assert lines[0]["lr"] == pytest.approx(1e-2 * (1 - 9 / 24))
    assert lines[0]["loss/total"] == pytest.approx(lines[0]["loss/fit"])
    assert lines[0]["grad_norm"] > 0
    assert [(p.done, p.total, p.unit) for p in seen][-1] == (24, 24, "step")


def test_the_scheduled_rate_reaches_the_optimizer():
    preset = toy_preset({"name": "s", "steps": 10, "schedule": {"type": "poly", "power": 1.0}})
    _, optimizer, stepper = stepper_of(preset)
    stepper.take([next(toy_draws(0))], 4, 4)
    assert {group["lr"] for group in optimizer.param_groups} == {0.01 * 0.6}
    assert stepper.rate(4) == pytest.approx(0.01 * 0.6)


def test_the_context_counts_within_the_stage():
    contexts = []

    class Watching(ToyObjective):
        def forward(self, values_by_stream, terms, context, warp):
            contexts.append(context)
            return super().forward(values_by_stream, terms, context, warp)

    module = toy_module(toy_preset())
    module.objective = Watching()
    preset = toy_preset({"name": "s", "steps": 9, "steps_per_ramp": 12})
    _, _, stepper = stepper_of(preset, module)
    stepper.take([next(toy_draws(0))], 1003, 2)
    assert contexts == [StepContext(2, 12, step_seed(0, 1003))]
    assert contexts[0].ramp == 0.5


def test_bf16_runs_the_network_in_bf16_and_the_loss_in_float32():
    seen = {}

    class Watching(ToyObjective):
        def forward(self, values_by_stream, terms, context, warp):
            seen["out"] = values_by_stream["toy"]["out"].dtype
            return super().forward(values_by_stream, terms, context, warp)

    preset = toy_preset(precision="bf16")
    module = toy_module(preset)
    module.objective = Watching()
    module.network.heads["out"].register_forward_hook(lambda m, i, out: seen.update(head=out.dtype))
    _, _, stepper = stepper_of(preset, module)
    result = stepper.take([next(toy_draws(0))], 0, 0)
    assert seen == {"head": torch.bfloat16, "out": torch.float32}
    assert result.taken
    assert {p.dtype for p in module.parameters()} == {torch.float32}
