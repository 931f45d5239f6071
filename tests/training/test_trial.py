"""What a dry run says of memory and time, from steps that it really took."""

import math

import numpy as np
import pytest
from tiny_store import write_tiny_store
from training_runs import PRESET

from unienc_core import machine
from unienc_core.contracts import StepContext
from unienc_core.models.network import build_network
from unienc_core.presets import load_preset
from unienc_core.training.module import TrainModule
from unienc_core.workflows import trial
from unienc_core.workflows.train import format_report, train


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trial")
    (folder / "smallest.yaml").write_text(PRESET)
    return folder / "smallest.yaml", write_tiny_store(folder / "store")


def dry_run(place, **options):
    preset, store = place
    out = preset.parent / "never"
    report = train(
        str(preset), [store], out=out, dry_run=True, device="cpu", workers=0, threads=1, **options
    )
    assert not out.exists()
    return report


def test_memory_is_that_of_what_moves(place):
    report = dry_run(place)
    network = build_network(load_preset(str(place[0])))
    tensors = list(network.state_dict().values())
    everything = sum(p.numel() for p in network.parameters())
    encoder = sum(p.numel() for p in network.encoders.parameters())
    assert report["weight_bytes"] == sum(x.numel() * x.element_size() for x in tensors)
    assert report["teacher_bytes"] == 0
    start, whole = report["stages"]
    assert [start["parameters"], whole["parameters"]] == [everything - encoder, everything]
    for stage, parameters in ((start, network.heads.parameters()), (whole, network.parameters())):
        tensors = len(list(parameters))
        assert stage["gradient_bytes"] == 4 * stage["parameters"]
        # Two moments of each parameter, and a count of steps of each tensor.
        assert stage["optimizer_bytes"] == 8 * stage["parameters"] + 4 * tensors
        held = stage["gradient_bytes"] + stage["optimizer_bytes"] + report["weight_bytes"]
        assert stage["peak_bytes"] > held
    assert report["peak_bytes"] == max(start["peak_bytes"], whole["peak_bytes"])


def test_averaged_weights_are_held_beside_the_live_ones(place):
    plain, averaged = dry_run(place), dry_run(place, overrides=["optimizer.ema_decay=0.9"])
    assert averaged["weight_bytes"] == 2 * plain["weight_bytes"]


def test_time_is_that_of_the_second_step_times_all_steps(place, monkeypatch):
    seconds = iter([9.0, 2.0, 70.0])  # a first step that takes a minute is the only one

    def step(stepper, streams, number):
        return trial.StepResult({}, 0.5 + number, taken=True), next(seconds)

    monkeypatch.setattr(trial, "_timed_step", step)
    monkeypatch.setattr(trial, "_draw", lambda data: ({}, 0.25))
    report = dry_run(place, overrides=["optimizer.accumulate=2"])
    assert [row["stage"] for row in report["stages"]] == ["start", "all"]
    assert [row["seconds_per_step"] for row in report["stages"]] == [4.5, 140.5]
    assert [row["seconds"] for row in report["stages"]] == [30 * 4.5, 50 * 140.5]
    assert report["seconds"] == 30 * 4.5 + 50 * 140.5
    assert report["first_loss"] == 0.5
    text = format_report(report).splitlines()
    assert text[2].split()[:3] == ["start", "30", "0"]
    assert text[2].split()[-4:] == ["4.5", "s", "2", "min"]
    assert "all steps take about 119 min on this machine" in text[-1]


def test_only_what_is_asked_for_is_tried(place):
    report = dry_run(place, stages="1")
    assert [(row["stage"], row["steps"]) for row in report["stages"]] == [("start", 30)]
    assert report["seconds"] == report["stages"][0]["seconds"] > 0
    for ever in (10**400, 10**30):
        report = dry_run(place, overrides=["optimizer.lr=1e30", f"stages.1.steps={ever}"])
        assert report["stages"][1]["steps"] == ever
        assert math.isfinite(report["seconds"])


def test_what_cannot_be_told_is_not_made_up(place, monkeypatch):
    def forward(self, streams, stage, context: StepContext):
        total = math.nan * sum(p.sum() for p in self.parameters() if p.requires_grad)
        return total, {}

    monkeypatch.setattr(trial, "reset_peak_memory", lambda: False)
    monkeypatch.setattr(TrainModule, "forward", forward)
    report = dry_run(place)
    assert report["first_loss"] is None
    assert report["peak_bytes"] is None
    text = format_report(report)
    assert "first loss not finite" in text
    assert text.endswith("all together at most unknown")


def peak() -> int:
    return machine.peak_memory() or 0


def test_the_peak_of_a_process_counts_anew_when_told_to():
    if not machine.reset_peak_memory():
        pytest.skip("the system does not say how much memory a process held")
    before = peak()
    held = np.ones(30_000_000)  # 240 MB
    assert peak() >= before + 239e6
    del held
    assert peak() >= before + 239e6  # the system counts in batches of pages
    assert machine.reset_peak_memory()
    assert peak() < before + 120e6
