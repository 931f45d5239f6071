"""`--stages`: a run in parts ends in the same bits, and no stage is left out unnoticed."""

import json
import shutil

import pytest
from tiny_store import write_tiny_store
from training_runs import MOTION, Crash, assert_same_end, crash_at

from unienc_cli.main import run as run_cli
from unienc_core.checkpoint import find_checkpoint, list_checkpoints, load_checkpoint
from unienc_core.contracts import Reporter
from unienc_core.errors import UsageError
from unienc_core.presets import load_preset
from unienc_core.training.stages import part_of
from unienc_core.workflows.inspect_runs import summarise
from unienc_core.workflows.train import train


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the preset, a store, and an uninterrupted run of all stages."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "motion.yaml").write_text(MOTION)
    write_tiny_store(folder / "store")
    go(folder, folder / "whole")
    return folder


def go(place, out, stages=None, *, crash=None, say=None, **options):
    reporter = crash_at(crash) if crash else Reporter(say=say) if say else Reporter()
    return train(
        str(place / "motion.yaml"),
        [place / "store"],
        out=out,
        stages=stages,
        device="cpu",
        threads=1,
        workers=0,
        checkpoint_every=3,
        reporter=reporter,
        **options,
    )


def log_of(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    told_by_the_clock = {"time", "step_seconds", "wait_share"}
    return [{k: v for k, v in line.items() if k not in told_by_the_clock} for line in lines]


def test_the_steps_of_a_part(place):
    stages = load_preset(str(place / "motion.yaml")).stages
    parts = {None: (0, 23), "1": (0, 11), "1..2": (0, 14), "2..3": (11, 18), "4": (18, 23)}
    parts |= {"1..4": (0, 23), "flow": (11, 14), "flow..everything": (11, 23), "02..2": (11, 14)}
    for text, (start, stop) in parts.items():
        assert part_of(stages, text) == range(start, stop)
    for text in ("0", "5", "3..2", "1..5", "", "..", "1..", "1..2..3", "flou", "1.5", "-1", "¹"):
        with pytest.raises(UsageError, match=r"1\.\.4 \(depth-pose, flow, motion, everything\)"):
            part_of(stages, text)


@pytest.mark.parametrize("parts", [("1..2", None), ("depth-pose", "2..3", "1..4")])
def test_a_run_in_parts_is_the_run_in_one_go(place, tmp_path, parts):
    reports = [go(place, tmp_path / "run", part) for part in parts]
    assert reports[-1]["steps"] == 23
    assert [bool(report["remaining_stages"]) for report in reports[-2:]] == [True, False]
    assert_same_end(tmp_path / "run", place / "whole")
    assert log_of(tmp_path / "run") == log_of(place / "whole")


@pytest.mark.parametrize(("crash", "part"), [(8, "1"), (13, "1..2"), (17, "1..3"), (22, None)])
def test_torn_in_any_stage_and_resumed(place, tmp_path, crash, part):
    """Between two checkpoints, and at the end of a part as well."""
    out = tmp_path / "run"
    with pytest.raises(Crash):
        go(place, out, part, crash=crash)
    assert load_checkpoint(out).step in (6, 12, 15, 21)
    go(place, out, part)
    go(place, out)
    assert_same_end(out, place / "whole")
    assert log_of(out) == log_of(place / "whole")


def test_what_is_trained_in_part_is_not_finished_but_can_be_used(place, tmp_path):
    out, said = tmp_path / "run", []
    report = go(place, out, "1..2")
    assert report["steps"] == 14
    assert report["remaining_stages"] == ["motion", "everything"]
    assert report["checkpoint"] == str(out / "checkpoints" / "step-0000014")
    assert (out / "curves.png").exists()
    assert summarise(out)["state"] == "interrupted"
    assert find_checkpoint(out).step == 14
    with pytest.raises(UsageError, match="no finished run"):
        find_checkpoint(runs=tmp_path)
    again = go(place, out, "1", say=said.append)
    assert again["steps"] == 14
    assert any("has these stages already" in line for line in said)
    go(place, out)
    assert find_checkpoint(runs=tmp_path).step == 23
    assert go(place, out, "2")["steps"] == 23  # what is finished stays so


def test_no_stage_is_left_out_unnoticed(place, tmp_path):
    out = tmp_path / "run"
    for options in ({}, {"dry_run": True}):
        with pytest.raises(UsageError, match="has 0 steps, these stages begin after step 11"):
            go(place, out, "2..3", **options)
    assert not out.exists()
    go(place, out, "1")
    with pytest.raises(UsageError, match="has 11 steps, these stages begin after step 14"):
        go(place, out, "3")
    with pytest.raises(UsageError, match="has 0 steps"):
        go(place, out, "2", fresh=True)
    assert list_checkpoints(out / "checkpoints"), "refused, and yet deleted"
    assert go(place, out, "2", dry_run=True)["steps"] == 3


def test_weights_enter_at_the_first_stage_of_the_part(place, tmp_path):
    """Those of the end of stage 1 of the same seed give the bits of the run in one go."""
    go(place, tmp_path / "first", "1")
    tuned = tmp_path / "tuned"
    report = go(place, tuned, "2..3", init=tmp_path / "first")
    assert report["steps"] == 7
    assert report["remaining_stages"] == ["everything"]
    assert json.loads((tuned / "run.json").read_text())["first_stage"] == "flow"
    assert log_of(tuned) == [line for line in log_of(place / "whole") if 11 < line["step"] <= 18]
    with pytest.raises(UsageError, match='first_stage is "flow" there, null asked'):
        go(place, tuned, init=tmp_path / "first")
    report = go(place, tuned, "2..4", init=tmp_path / "first")
    assert report["steps"] == 12
    assert report["remaining_stages"] == []
    assert_same_end(tuned, place / "whole")


def test_weights_of_a_network_without_motion_heads(place, tmp_path):
    """Heads that both have are taken; the others start afresh, and it is said."""
    small = (place / "motion.yaml").read_text().split("  - name: flow")[0]
    lines = [line for line in small.splitlines() if "scene_flow" not in line]
    (tmp_path / "motion.yaml").write_text("\n".join(x for x in lines if "motion_mask" not in x))
    shutil.copytree(place / "store", tmp_path / "store")
    go(tmp_path, tmp_path / "small")
    said = []
    report = go(place, tmp_path / "tuned", "2", init=tmp_path / "small", say=said.append)
    assert report["steps"] == 3
    taken = next(line for line in said if line.startswith("starting from"))
    assert "encoders.main, heads.depth, heads.pose;" in taken
    assert "heads.scene_flow starts afresh; heads.motion_mask starts afresh" in taken


def test_the_verb(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["train-student", str(place / "store"), "--preset", str(place / "motion.yaml")]
    command += ["--workers", "0", "--device", "cpu"]
    assert run_cli([*command, "--stages", "0..2"]) == 2
    assert "--stages 0..2: no part of the stages 1..4" in capsys.readouterr().err
    assert run_cli([*command, "--stages", "2"]) == 2
    assert not (tmp_path / "runs").exists()
    assert run_cli([*command, "--stages", "1"]) == 0
    assert "not finished" in capsys.readouterr().out
    assert run_cli([*command, "--stages", "1..2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["remaining_stages"] == ["motion", "everything"]
