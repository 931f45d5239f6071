"""Real training in two processes: against one, through kills and signals, and under torchrun."""

import ctypes
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys

import pytest
from ranks import end_of, run_ranks, start_ranks, told
from safetensors.torch import load_file
from tiny_store import write_tiny_store

from unienc_core.checkpoint import list_checkpoints
from unienc_core.contracts import Reporter
from unienc_core.workflows.train import train

PRESET = """
name: pair
image_size: [64, 96]
network:
  encoders:
    main:
      type: timm
      options:
        name: resnet18
        model_args: {channels: [8, 8, 8, 8], stem_width: 8, drop_path_rate: 0.1}
  heads:
    depth: {type: unet, reads: [main], options: {channels: [8, 8, 8, 8, 8], scales: 1}}
    pose: {type: single_scale, reads: [main], view: pair}
streams:
  triplets: {kind: triplets, batch_size: 2, augment: {jitter: 0.0}}
terms:
  photometric: {}
  smooth: {weight: 1e-3}
optimizer: {lr: 1e-3, clip_norm: 1.0}
stages:
  - {name: start, steps: 6, terms: [photometric, smooth], trains: ["heads.*"]}
  - {name: all, steps: 9, terms: [photometric, smooth]}
"""

# Off: what differs between processes, chance and the batch that a batch norm sees. And a small
# rate, since untrained depth and pose are chaotic: rounding errors grow tenfold with every step.
NO_CHANCE = (
    "optimizer.lr=1e-5",
    "network.encoders.main.options.model_args={channels: [8, 8, 8, 8], stem_width: 8}",
    "terms.photometric.options={automask: false}",
    "stages.1.trains=[heads.*, encoders.main.net.*conv*]",
    "stages.0.steps=3",
    "stages.1.steps=3",
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("pair")
    (root / "pair.yaml").write_text(PRESET)
    return str(root / "pair.yaml"), write_tiny_store(root / "store")


def run(inputs, out, world=None, *, overrides=(), progress=None):
    preset, store = inputs
    reporter = Reporter(progress=progress) if progress else None
    common = {"device": "cpu", "threads": 1, "workers": 0, "checkpoint_every": 3}
    return train(
        preset, [store], out=out, overrides=overrides, reporter=reporter, world=world, **common
    )


def final(out):
    last = list_checkpoints(out / "checkpoints")[-1]
    return {n: load_file(last / f"{n}.safetensors") for n in ("model", "optimizer")}


def final_bytes(out):
    last = list_checkpoints(out / "checkpoints")[-1]
    return [(last / f"{name}.safetensors").read_bytes() for name in ("model", "optimizer")]


def log_of(out):
    timing = ("time", "step_seconds", "wait_share")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in timing} for line in lines]


def test_two_processes_train_what_one_does(inputs, tmp_path):
    run(inputs, tmp_path / "one", overrides=NO_CHANCE)
    codes = run_ranks(
        2, lambda world: run(inputs, tmp_path / "two", world, overrides=NO_CHANCE), tmp_path
    )
    assert codes == [0, 0]
    one, two = final(tmp_path / "one"), final(tmp_path / "two")
    for name, tensor in one["model"].items():
        gap = (two["model"][name] - tensor).double().norm()
        assert gap <= 1e-5 * tensor.double().norm(), name
    for line, other in zip(log_of(tmp_path / "one"), log_of(tmp_path / "two"), strict=True):
        assert {k: v for k, v in other.items() if k != "stage"} == pytest.approx(
            {k: v for k, v in line.items() if k != "stage"}, rel=1e-4
        )


def test_kills_and_signals_end_all_and_change_nothing(inputs, tmp_path):
    """One process alone is struck, at a step; the other ends by itself."""
    assert run_ranks(2, lambda w: run(inputs, tmp_path / "whole", w), tmp_path) == [0, 0]
    follower = multiprocessing.Value(ctypes.c_int)

    def struck(at, whom, number):
        def work(world):
            if world.rank == 1:
                follower.value = os.getpid()

            def strike(progress):
                if progress.done == at:
                    os.kill(os.getpid() if whom == "lead" else follower.value, number)

            run(inputs, tmp_path / "torn", world, progress=strike)

        return end_of(start_ranks(2, work, tmp_path))

    assert struck(4, "lead", signal.SIGKILL) == [-9, 5]
    assert struck(8, "follower", signal.SIGKILL) == [5, -9]
    assert "ended without a word" in told(tmp_path)[0]
    assert struck(10, "follower", signal.SIGTERM) == [130, 130]
    assert len(told(tmp_path)) == 3
    stopped = re.search(r"stopped by SIGTERM after step (\d+) of 15", told(tmp_path)[2])
    assert list_checkpoints(tmp_path / "torn" / "checkpoints")[-1].name.endswith(stopped[1])
    assert struck(13, "lead", signal.SIGTERM) == [130, 130]
    assert run_ranks(2, lambda w: run(inputs, tmp_path / "torn", w), tmp_path) == [0, 0]
    assert final_bytes(tmp_path / "torn") == final_bytes(tmp_path / "whole")
    assert log_of(tmp_path / "torn") == log_of(tmp_path / "whole")


def launch(inputs, folder, *arguments):
    preset, store = inputs
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    verb = ["-m", "unienc_cli.main", "train-student", str(store), "--preset", preset]
    rest = ["--device", "cpu", "--workers", "0", "--json", *arguments]
    return subprocess.run(
        [*command, *verb, *rest], cwd=folder, capture_output=True, text=True, check=False
    )


def test_under_torchrun(inputs, tmp_path):
    steps = [f"--set=stages.{i}.steps=1" for i in range(2)]
    done = launch(inputs, tmp_path, "--out", "run", *steps)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)  # one document, of one process
    assert report["steps"] == 2
    assert (tmp_path / report["checkpoint"] / "model.safetensors").is_file()
    assert done.stderr.count("each of 2 processes normalises") == 1
    record = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert record["processes"] == 2


@pytest.mark.slow
def test_a_refusal_under_torchrun_is_one_line(inputs, tmp_path):
    refused = launch(inputs, tmp_path, "--out", "run", "--set", "streams.triplets.batch_size=3")
    lines = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "3 items a step do not divide among 2 processes" in lines[0]
    assert json.loads(refused.stdout)["exit_code"] == 2
    # The launcher has one code for all faults, and names the one of the process that failed.
    assert refused.returncode == 1
    assert re.search(r"exitcode\s*: 2 ", refused.stderr)
    assert not (tmp_path / "run").exists()
