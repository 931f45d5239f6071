"""The logbook: what a line of the log covers, whoever follows it, and across a resume."""

import json

import pytest
import torch

from unienc_core.contracts import Reporter
from unienc_core.training.history import History, read_log
from unienc_core.training.logbook import Logbook
from unienc_core.training.step import StepResult


def step(logbook, loss=1.0, seconds=2.0, waited=0.5, **logs):
    values = {"loss/total": torch.tensor(loss), **{k: torch.tensor(v) for k, v in logs.items()}}
    logbook.add(StepResult(values, loss, taken=True), seconds, waited)


def line_of(logbook, path):
    with History(path, logbook.counters.step) as history:
        logbook.write_line(history, "only", 1e-3)
    return read_log(path)[-1]


def test_a_window_that_another_process_began_is_timed_by_this_one(tmp_path):
    first = Logbook(20, Reporter())
    for _ in range(6):
        step(first, loss=1.0, seconds=1.0)
    second = Logbook(20, Reporter())
    second.restore(json.loads(json.dumps(first.state())), torch.device("cpu"))
    for _ in range(4):
        step(second, loss=2.0, seconds=3.0, waited=1.5)
    line = line_of(second, tmp_path / "metrics.jsonl")
    assert (line["step"], line["step_seconds"], line["wait_share"]) == (10, 3.0, 0.5)
    assert line["loss/total"] == pytest.approx(1.4)
    assert second.state()["window_steps"] == 0


def test_followers_get_the_line_that_is_written(tmp_path):
    logbook, seen = Logbook(20, Reporter()), []
    logbook.followers.append(seen.append)
    step(logbook, loss=3.0)
    assert line_of(logbook, tmp_path / "metrics.jsonl") == seen[0]


def test_a_warning_stands_in_the_line_that_gave_rise_to_it(tmp_path):
    said = []
    logbook = Logbook(500, Reporter(say=said.append))
    logbook.counters.step = 299
    step(logbook, mean_disparity=0.001)
    line = line_of(logbook, tmp_path / "metrics.jsonl")
    assert line["warnings"] == said
    assert "step 300, possible collapse: mean disparity is 0.0010" in said[0]
    step(logbook, mean_disparity=0.001)
    assert "warnings" not in line_of(logbook, tmp_path / "metrics.jsonl")
