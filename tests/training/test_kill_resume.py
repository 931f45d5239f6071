"""``kill -9`` at any moment, the same call again, and the final weights are the same bytes."""

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from tiny_store import write_tiny_store
from training_runs import MOTION, PRESET

from unienc_core.checkpoint import list_checkpoints
from unienc_core.contracts import Reporter
from unienc_core.errors import UniencError
from unienc_core.workflows.train import train


def run(preset: Path, store: Path, out: Path, workers: int, reached=None) -> dict:
    def tell(progress):
        if reached is not None:
            reached.value = progress.done

    return train(
        str(preset),
        [store],
        out=out,
        device="cpu",
        threads=1,
        workers=workers,
        checkpoint_every=3,
        reporter=Reporter(progress=tell),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A preset, a store, an uninterrupted run on them, and the seconds of its training."""
    root = tmp_path_factory.mktemp("kill")
    preset = root / "smallest.yaml"
    preset.write_text(PRESET)
    store = write_tiny_store(root / "store")
    report = run(preset, store, root / "whole", workers=0)
    return preset, store, root / "whole", report["seconds"]


@pytest.fixture(scope="module")
def context():
    """Starts processes that have everything imported already."""
    return multiprocessing.get_context("fork")


def final_bytes(out: Path) -> list[bytes]:
    last = list_checkpoints(out / "checkpoints")[-1]
    return [(last / f"{name}.safetensors").read_bytes() for name in ("model", "optimizer")]


def log_of(out: Path) -> list[dict]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        for key in ("time", "step_seconds", "wait_share"):
            del line[key]
    return lines


def killed(context, arguments: tuple, at: int, after: float) -> bool:
    """Start a run, kill it `after` seconds beyond step `at`, and say whether it still ran."""
    reached = context.Value("i", 0)
    process = context.Process(target=run, args=(*arguments, reached))
    process.start()
    while process.is_alive() and reached.value < at:
        time.sleep(0.001)
    process.join(after)
    alive = process.is_alive()
    process.kill()
    process.join()
    return alive


@pytest.mark.parametrize("workers", [0, 2])
def test_five_kills_change_nothing(whole, tmp_path, context, workers):
    preset, store, uninterrupted, seconds = whole
    chance = random.Random(workers)  # noqa: S311
    out = tmp_path / "torn"
    for at in sorted(chance.sample(range(4, 70), 5)):  # the first checkpoint is that of step 3
        delay = chance.uniform(0, 2) * seconds / 80  # somewhere within the next two steps
        assert killed(context, (preset, store, out, workers), at, delay), "ended before the kill"
    assert list_checkpoints(out / "checkpoints"), "killed before there was anything to resume"
    run(preset, store, out, workers)
    assert final_bytes(out) == final_bytes(uninterrupted)
    assert log_of(out) == log_of(uninterrupted)


def test_a_kill_in_every_stage_of_scene_motion(whole, tmp_path, context):
    """Each stage moves other nodes, warps by another flow and has an optimiser of its own."""
    store = whole[1]
    preset, uninterrupted, out = (tmp_path / name for name in ("motion.yaml", "whole", "torn"))
    preset.write_text(MOTION)
    run(preset, store, uninterrupted, workers=0)
    for at in (8, 12, 16, 20):  # of stages that end at 11, 14, 18 and 23
        assert killed(context, (preset, store, out, 0), at, after=0.0), "ended before the kill"
    run(preset, store, out, workers=0)
    assert final_bytes(out) == final_bytes(uninterrupted)
    assert log_of(out) == log_of(uninterrupted)


def run_in_a_group(*arguments):
    os.setsid()
    try:
        run(*arguments)
    except UniencError as error:
        sys.exit(error.exit_code)


def test_a_signal_to_the_whole_process_group_saves(whole, tmp_path, context):
    """A cluster signals the loader's workers too; they must not take the run down mid-step."""
    preset, store, uninterrupted, _ = whole
    arguments = (preset, store, tmp_path / "torn", 2)
    process = context.Process(target=run_in_a_group, args=arguments)
    process.start()
    while not list_checkpoints(tmp_path / "torn" / "checkpoints") and process.is_alive():
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == 130
    run(*arguments)
    assert final_bytes(tmp_path / "torn") == final_bytes(uninterrupted)
    assert log_of(tmp_path / "torn") == log_of(uninterrupted)


def test_a_finished_run_is_left_as_it_is(whole):
    preset, store, out, _ = whole
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    report = run(preset, store, out, workers=0)
    assert report["steps"] == 80
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before


def test_dry_run_writes_nothing_and_fails_where_the_run_would(whole, tmp_path):
    preset, store, out, _ = whole
    report = train(str(preset), [store], out=tmp_path / "new", dry_run=True, workers=0)
    assert report["dry_run"]
    assert report["items"] == 8
    assert not (tmp_path / "new").exists()
    attempts = {
        "holds another run": {"out": out, "seed": 1},
        "no CUDA|CUDA devices": {"device": "cuda:99"},
        "no preset": {"preset_name_or_path": "unified-tyni"},
        "no such folder": {"stores": [tmp_path / "nowhere"]},
        "warp 'final' needs": {"overrides": ["stages.0.warp=final"]},
        "matches no parameter": {"overrides": ["stages.1.trains=[head.*]"]},
        "no such weights": {"weights": tmp_path / "w.safetensors"},
    }
    for message, options in attempts.items():
        common = {"preset_name_or_path": str(preset), "stores": [store], "out": tmp_path / "new"}
        for dry_run in (True, False):
            with pytest.raises(UniencError, match=message):
                train(**{**common, **options, "workers": 0, "dry_run": dry_run})  # type: ignore
