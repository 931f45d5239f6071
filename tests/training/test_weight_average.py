"""Averaged weights: what they are, that a run keeps them, and that a resume goes on with them."""

import pytest
import torch
from safetensors.torch import load_file
from training_toys import toy_draws, toy_module, toy_preset, toy_run

from unienc_core.checkpoint import list_checkpoints
from unienc_core.training.weight_average import WeightAverage


def kept(run, name="model"):
    return load_file(list_checkpoints(run / "checkpoints")[-1] / f"{name}.safetensors")


def shares(decay, steps):
    """What each step counts in the end, in closed form: of n steps that were all there are."""
    taken = [1.0] + [max(1 - decay, 9 / (n + 9)) for n in range(1, steps)]
    return [
        share * float(torch.tensor([1 - s for s in taken[n + 1 :]], dtype=torch.float64).prod())
        for n, share in enumerate(taken)
    ]


@pytest.mark.parametrize("decay", [0.5, 0.98])
def test_it_is_the_sum_of_all_steps_by_their_shares(decay):
    steps, network = 12, torch.nn.BatchNorm1d(3)
    average = WeightAverage(network, decay)
    average.enter(0)
    seen = []
    for step in range(steps):
        torch.manual_seed(step)
        torch.nn.init.normal_(network.weight)
        network(torch.randn(5, 3))  # running statistics, and how many batches
        average.update(step)
        seen.append({k: v.double().clone() for k, v in network.state_dict().items()})
    assert sum(shares(decay, steps)) == pytest.approx(1)
    for name in ("weight", "running_mean", "running_var"):
        expected = sum(w * s[name] for w, s in zip(shares(decay, steps), seen, strict=True))
        found = average.network.state_dict()[name].double()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert average.network.num_batches_tracked == steps


def test_what_does_not_move_keeps_its_bits():
    network = torch.nn.Sequential(torch.nn.Linear(50, 50), torch.nn.BatchNorm1d(50))
    torch.nn.init.constant_(network[0].bias, -0.0)
    network.requires_grad_(False).eval()
    before = {k: v.numpy().tobytes() for k, v in network.state_dict().items()}
    average = WeightAverage(network, 0.9)
    average.enter(0)
    for step in range(30):
        average.update(step)
    assert before == {k: v.numpy().tobytes() for k, v in average.network.state_dict().items()}
    assert average.live_tensors() == {}


def test_a_run_keeps_the_average_and_beside_it_what_training_goes_on_from(tmp_path):
    plain, averaged = toy_preset(), toy_preset(ema_decay=0.9)
    live = toy_run(tmp_path / "plain", plain).network.state_dict()
    trainer = toy_run(tmp_path / "averaged", averaged)
    model, rest = kept(tmp_path / "averaged"), kept(tmp_path / "averaged", "optimizer")
    beside = {k.removeprefix("live/"): v for k, v in rest.items() if k.startswith("live/")}
    assert all(torch.equal(live[k], v) for k, v in {**model, **beside}.items())
    assert all(torch.equal(model[k], v) for k, v in trainer.network.state_dict().items())
    assert {"heads.out.weight", "encoders.main.1.running_var"} <= set(beside)
    assert not any(k.startswith("live/") for k in kept(tmp_path / "plain", "optimizer"))


def test_weights_that_rest_are_kept_once(tmp_path):
    preset = toy_preset({"name": "head", "steps": 5, "trains": ["heads.*"]}, ema_decay=0.9)
    toy_run(tmp_path, preset)
    first = toy_module(preset).network.state_dict()
    model, rest = kept(tmp_path), kept(tmp_path, "optimizer")
    assert {k for k in rest if k.startswith("live/")} == {
        "live/heads.out.weight",
        "live/heads.out.bias",
    }
    assert {k for k in model if not torch.equal(model[k], first[k])} == {
        "heads.out.weight",
        "heads.out.bias",
    }


def nan_at(bad):
    """Draws of which some make a step that is thrown away."""

    def draws(start):
        for number, draw in enumerate(toy_draws(start), start):
            if number in bad:
                draw["toy"]["label"] = draw["toy"]["label"] * float("nan")
            yield draw

    return draws


@pytest.mark.parametrize(("bad", "share"), [([], 1.0), ([5], 0.9), ([5, 6], 9 / 11)])
def test_every_stage_averages_its_own_steps(tmp_path, bad, share):
    """After the first step that counts only the weights before it count besides."""
    stages = [{"name": "a", "steps": 5}, {"name": "b", "steps": 1 + len(bad)}]
    trainer = toy_run(tmp_path / "both", toy_preset(*stages, ema_decay=0.99), draws=nan_at(bad))
    before = toy_run(tmp_path / "a", toy_preset(stages[0]))._module.network.state_dict()
    after = trainer._module.network.state_dict()
    for name, found in trainer.network.state_dict().items():
        if found.is_floating_point():
            expected = torch.lerp(before[name], after[name], share)
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    assert not torch.allclose(before["heads.out.bias"], after["heads.out.bias"])


def test_a_step_thrown_away_does_not_count(tmp_path):
    stages = {"name": "s", "steps": 4}
    toy_run(tmp_path / "bad", toy_preset(stages, ema_decay=0.5), draws=nan_at([3]))
    toy_run(tmp_path / "short", toy_preset({**stages, "steps": 3}, ema_decay=0.5))
    bad, short = kept(tmp_path / "bad"), kept(tmp_path / "short")
    assert all(torch.equal(bad[k], v) for k, v in short.items())
