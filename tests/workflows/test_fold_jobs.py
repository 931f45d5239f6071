"""Folds over processes: stopped by a signal they all save and end, and resume in the same bytes."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from sequence_toys import steering_preset, write_drives

from unienc_core.errors import UniencError
from unienc_core.presets import dump_preset
from unienc_core.workflows.finetune_steering import Folding, finetune_steering

pytestmark = pytest.mark.slow
FOLDS, STEPS = 3, 100


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A preset, and a store of six drives."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "steering.yaml").write_text(dump_preset(steering_preset(steps=STEPS)))
    write_drives(folder / "store", (24,) * 6)
    return folder / "steering.yaml", folder / "store"


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    """What one process makes of all folds, never stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    report = go(inputs, out)
    return outcome(out), report, out / "grids"


def go(inputs, out, **options):
    preset, store = inputs
    run = {"device": "cpu", "threads": 1, "workers": 0, "validate_every": 10} | options
    return finetune_steering(str(preset), [store], folding=Folding(FOLDS), out=out, **run)


def outcome(out: Path) -> dict[str, bytes]:
    """What a run ends in; one that was stopped also has the checkpoint of that moment."""
    names = (f"checkpoints/step-{STEPS:07}/*.safetensors", "best/checkpoints/*/*.safetensors")
    names = (*names, "predictions.csv", "validation.jsonl")
    files = [path for name in names for path in sorted(out.glob(f"fold-*/{name}"))]
    assert len(files) >= FOLDS * len(names)
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def command(inputs, out, grids):
    preset, store = inputs
    options = ["--folds", FOLDS, "--threads", 2, "--workers", 0, "--validate-every", 10]
    options += ["--jobs", 2, "--device", "cpu", "--out", out, "--preset", preset]
    options += ["--grids", grids]  # two threads might round them otherwise
    line = [sys.executable, "-m", "unienc_cli.main", "finetune-steering", store, *options]
    return [str(word) for word in line]


def gone(group: int, seconds: float = 10.0) -> bool:
    """Say whether no process of a group is left."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("sent", ["SIGTERM to one", "SIGINT to all", "SIGTERM to all"])
def test_a_signal_saves_all_folds_and_the_same_command_goes_on(inputs, whole, tmp_path, sent):
    out = tmp_path / "run"
    number = signal.Signals[sent.split()[0]]
    with subprocess.Popen(
        command(inputs, out, whole[2]), start_new_session=True, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            logs = [out / f"fold-{fold}" / "metrics.jsonl" for fold in range(2)]
            while not any(log.exists() and log.stat().st_size for log in logs):
                assert process.poll() is None
                time.sleep(0.01)
            (os.killpg if sent.endswith("all") else os.kill)(process.pid, number)
            error = process.communicate()[1]
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert gone(process.pid)
    assert "Traceback" not in error
    assert f"error: stopped by {number.name} after 0 of 3 folds" in error.splitlines()[-1]
    # The third fold waited for the first one's process, which took nothing new.
    assert not (out / "fold-2").exists()
    assert not list(out.glob("fold-*/predictions.csv"))
    assert list(out.glob("fold-*/checkpoints/step-*"))
    subprocess.run(command(inputs, out, whole[2]), check=True, capture_output=True)
    assert outcome(out) == whole[0]


def test_processes_find_what_one_finds(inputs, whole, tmp_path):
    report = go(inputs, tmp_path / "run", jobs=3, threads=3)
    assert outcome(tmp_path / "run") == whole[0]
    assert report["metrics"] == whole[1]["metrics"]
    assert [fold["fold"] for fold in report["folds"]] == [0, 1, 2]


def test_what_stops_one_fold_stops_all(inputs, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "fold-1").touch()  # where its folder should be
    with pytest.raises(UniencError, match="fold-1"):
        go(inputs, out, jobs=2, overrides=["stages.0.steps=5000"])
    assert not list(out.glob("fold-*/predictions.csv"))
    assert not (out / "fold-2").exists()
    # The first fold was told in time to save what it had, if it had begun.
    begun = (out / "fold-0" / "metrics.jsonl").exists()
    assert not begun or list(out.glob("fold-0/checkpoints/step-*"))
