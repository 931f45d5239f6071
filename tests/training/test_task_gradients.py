"""The log of how tasks pull at the shared encoder: by hand, against autograd, without a trace."""

import math

import pytest
import torch
from teacher_toys import go, write_toys
from torch import nn

from unienc_core.checkpoint import load_checkpoint
from unienc_core.training.history import read_log
from unienc_core.training.task_gradients import TaskGradients


class TwoEncoders(nn.Module):
    """Two weights each, multiplied by what a task says."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(
            {"main": nn.Linear(2, 1, bias=False), "pose": nn.Linear(1, 1)}
        )

    def loss(self, main: tuple[float, float], pose: float = 0.0) -> torch.Tensor:
        weights = [next(encoder.parameters()) for encoder in self.encoders.values()]
        shared = (weights[0] * torch.tensor(main)).sum()
        return shared + pose * weights[1].sum() if pose else shared


def test_norms_and_cosines_by_hand() -> None:
    toy = TwoEncoders()
    watch = TaskGradients(toy, every=3)  # type: ignore[arg-type]
    losses = {"a": toy.loss((3.0, 4.0)), "b": toy.loss((-4.0, 3.0)), "c": toy.loss((-6.0, -8.0), 2)}
    found = {name: value.item() for name, value in watch.measure(losses).items()}
    assert found == pytest.approx(
        {
            "gradient/main/a": 5.0,
            "gradient/main/b": 5.0,
            "gradient/main/c": 10.0,
            "gradient/main/a~b": 0.0,
            "gradient/main/a~c": -1.0,
            "gradient/main/b~c": 0.0,
            "gradient/pose/c": 2.0,
        }
    )
    assert [step for step in range(8) if watch.is_due(step)] == [0, 3, 6]
    # The graph is still there, and no parameter has a gradient.
    assert all(p.grad is None for p in toy.parameters())
    sum(losses.values()).backward()


def test_what_rests_is_not_measured() -> None:
    toy = TwoEncoders()
    toy.encoders["main"].requires_grad_(False)
    losses = {"a": toy.loss((1.0, 0.0)), "b": toy.loss((0.0, 1.0), 0.5)}
    found = TaskGradients(toy, 1).measure(losses)  # type: ignore[arg-type]
    assert {name: value.item() for name, value in found.items()} == {"gradient/pose/b": 0.5}
    toy.requires_grad_(False)
    assert TaskGradients(toy, 1).measure({"a": toy.loss((1.0, 0.0))}) == {}  # type: ignore[arg-type]


def test_a_task_without_pull_has_no_direction() -> None:
    toy = TwoEncoders()
    losses = {"a": toy.loss((0.0, 0.0)), "b": toy.loss((1.0, 1.0))}
    found = TaskGradients(toy, 1).measure(losses)  # type: ignore[arg-type]
    assert found["gradient/main/a"] == found["gradient/main/a~b"] == 0
    assert found["gradient/main/b"].item() == pytest.approx(math.sqrt(2))


def test_a_run_is_the_same_with_the_log_and_without(tmp_path) -> None:
    place = write_toys(tmp_path)
    go(place, "train-student", tmp_path / "plain")
    go(place, "train-student", tmp_path / "watched", task_gradients=1)
    plain, watched = (load_checkpoint(tmp_path / name) for name in ("plain", "watched"))
    for file in ("model.safetensors", "optimizer.safetensors"):
        assert (plain.path / file).read_bytes() == (watched.path / file).read_bytes()

    last = read_log(tmp_path / "watched" / "metrics.jsonl")[-1]
    pulls = {key.removeprefix("gradient/main/"): v for key, v in last.items() if "gradient/" in key}
    assert set(pulls) == {"views", "motion", "views~motion"}
    assert pulls["views"] > 0 and pulls["motion"] > 0 and abs(pulls["views~motion"]) <= 1
    # Only the last stage moves the encoder and has terms of both.
    without = read_log(tmp_path / "plain" / "metrics.jsonl")[-1]
    assert not any("gradient/" in key for key in without)
