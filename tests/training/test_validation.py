"""Weights chosen by validation: the least error, whatever was killed when."""

import json
import math

import pytest
import torch
from torch import nn
from training_toys import toy_preset

from unienc_core.checkpoint import list_checkpoints
from unienc_core.data.folds import Span
from unienc_core.errors import UsageError
from unienc_core.training.run_dir import RunFolder
from unienc_core.training.validation import Holdout, Validation, best_checkpoint


class Run:
    """A network whose one weight is the step it is at, scored from a list."""

    def __init__(self, path, errors):
        self.folder, self.errors = RunFolder(path, {"report": None}), errors
        self.network = nn.Linear(1, 1, bias=False)
        self.step, self.scored = 0, []

    def validation(self):
        preset = toy_preset({"name": "only", "steps": 45})
        return Validation(
            self.network, preset, self.folder, self._score, every=10, logged="fit/mse"
        )

    def _score(self):
        self.scored.append(self.step)
        return self.errors[self.step]

    def go(self, validation, first, last):
        for self.step in range(first, last + 1):
            nn.init.constant_(self.network.weight, self.step)
            if self.step % 10 == 0 or self.step == 45:
                with self.folder.metrics.open("a") as log:
                    line = {"step": self.step, "stage": "only", "fit/mse": self.step / 10}
                    log.write(json.dumps(line) + "\n")
            validation(self.step)

    def best(self):
        return best_checkpoint(self.folder)


ERRORS = {10: 3.0, 20: 1.0, 30: 2.0, 40: 1.0, 45: math.nan}


def test_the_least_error_is_kept_and_the_first_of_equal_ones(tmp_path):
    run = Run(tmp_path, ERRORS)
    assert run.best() is None
    run.go(run.validation(), 1, 45)
    assert run.scored == [10, 20, 30, 40, 45]
    best = run.best()
    assert (best.step, best.state["validation"], best.state["train"]) == (20, 1.0, 2.0)
    assert best.model_tensors()["weight"].item() == 20
    assert len(list_checkpoints(run.folder.best / "checkpoints")) == 1
    lines = [json.loads(line) for line in run.folder.validation.read_text().splitlines()]
    assert [line["validation"] for line in lines] == [3, 1, 2, 1, None]
    assert [line["train"] for line in lines] == [1, 2, 3, 4, 4.5]


def test_a_best_from_beyond_the_step_to_resume_from_stays(tmp_path):
    run = Run(tmp_path, {10: 3.0, 20: 2.0, 30: 1.0, 40: 5.0, 45: 4.0})
    run.go(run.validation(), 1, 33)  # killed here, with the last checkpoint at 12
    weights = run.best().path / "model.safetensors"
    bytes_before, written = weights.read_bytes(), weights.stat().st_mtime_ns
    again = run.validation()
    again.catch_up(12)
    run.go(again, 13, 45)
    assert run.best().step == 30
    assert (weights.read_bytes(), weights.stat().st_mtime_ns) == (bytes_before, written)
    steps = [json.loads(x)["step"] for x in run.folder.validation.read_text().splitlines()]
    assert steps == [10, 20, 30, 40, 45]


def test_a_validation_lost_between_checkpoint_and_kill_is_made_up_for_once(tmp_path):
    run = Run(tmp_path, ERRORS)
    run.go(run.validation(), 1, 19)
    run.step = 20
    nn.init.constant_(run.network.weight, 20)
    for _ in range(2):
        run.validation().catch_up(20)
    assert run.scored == [10, 20]
    assert torch.equal(run.best().model_tensors()["weight"], run.network.weight)


def test_nothing_finite_is_no_best(tmp_path):
    run = Run(tmp_path, dict.fromkeys(ERRORS, math.inf))
    run.go(run.validation(), 1, 45)
    assert run.best() is None


def test_what_is_held_out_makes_the_run(tmp_path):
    spans = (Span(0, 0, 30),), (Span(1, 0, 16),)
    holdout = Holdout(*spans, every=10)
    assert holdout.digest == Holdout(*spans, every=10).digest
    others = [Holdout(*spans, every=20), Holdout(spans[1], spans[0], every=10)]
    assert len({holdout.digest, *(other.digest for other in others)}) == 3
    with pytest.raises(UsageError, match="multiple of 10"):
        Holdout(*spans, every=15)
