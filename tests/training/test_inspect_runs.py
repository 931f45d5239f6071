"""`runs ls` and `runs show`: the state of each run from its records, whatever became of it."""

import json
import os
import shutil

import pytest
from tiny_store import write_tiny_store
from training_runs import Crash, smallest

from unienc_cli.main import run
from unienc_core.errors import DataError
from unienc_core.training.lock import LOCK, _this_process
from unienc_core.workflows.inspect_runs import describe_run, list_runs, summarise
from unienc_core.workflows.runs_report import LIST_HEADER, _age, format_run, list_remarks, list_rows


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder `runs` with a run that is `finished` and one that is `torn` after a crash."""
    root = tmp_path_factory.mktemp("trained")
    store = write_tiny_store(root / "store")
    smallest(root, store, root / "runs" / "finished")
    with pytest.raises(Crash):
        smallest(root, store, root / "runs" / "torn", crash=22, checkpoint_every=7)
    return root / "runs"


@pytest.fixture
def runs(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "runs")


def edit(run_folder, **changes):
    path = run_folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_finished_run(runs):
    found = summarise(runs / "finished")
    lines = (runs / "finished" / "metrics.jsonl").read_text().splitlines()
    assert (found["state"], found["step"], found["total_steps"]) == ("finished", 25, 25)
    assert found["loss"] == json.loads(lines[-1])["loss/total"]
    assert found["abs_rel"] is None
    files = [path for path in (runs / "finished").rglob("*") if path.is_file()]
    assert found["num_bytes"] == sum(path.stat().st_size for path in files)


def test_why_a_run_is_not_finished(runs):
    """The exception of the crash is noted as its failure; without one, it was interrupted."""
    found = summarise(runs / "torn")
    assert (found["state"], found["failure"]) == ("failed", "Crash")
    assert (found["step"], found["saved_step"]) == (21, 21)
    edit(runs / "torn", failure=None)
    assert summarise(runs / "torn")["state"] == "interrupted"


@pytest.mark.parametrize(
    ("changes", "state", "verified"),
    [
        ({}, "running", True),
        ({"host": "elsewhere"}, "running", False),
        ({"born": "1"}, "failed", None),
    ],
)
def test_a_run_whose_lock_is_held_is_running(runs, changes, state, verified):
    (runs / "torn" / LOCK).write_text(json.dumps({**_this_process(), **changes}))
    found = summarise(runs / "torn")
    assert found["state"] == state
    if verified is None:
        assert found["holder"] is None
    else:
        assert found["holder"]["pid"] == os.getpid()
        assert found["holder"]["verified"] == verified
    assert ("cannot be looked for" in format_run(describe_run(runs / "torn"))) == (
        verified is False
    )


def test_the_newest_whole_score_counts(runs):
    reports = {
        "eval-depth.json": '{"metrics": {"abs_rel": 0.31}}',
        "eval-depth-new.json": '{"metrics": {"abs_rel": 0.29}}',
        "eval-depth-torn.json": '{"metrics": {"abs',
        "eval-depth-none.json": '{"metrics": {"abs_rel": NaN}}',
    }
    for age, (name, text) in enumerate(reports.items()):
        path = runs / "finished" / name
        path.write_text(text)
        os.utime(path, (age, age))
    found = summarise(runs / "finished")
    assert found["abs_rel"] == 0.29
    assert found["eval_report"].endswith("eval-depth-new.json")


BREAKAGES = {
    "cut-short": lambda run: (run / "run.json").write_text('{"name": "x", '),
    "no-record": lambda run: (run / "run.json").unlink(),
    "a-list": lambda run: (run / "run.json").write_text("[]"),
    "no-stages": lambda run: edit(run, preset={}),
    "odd-stages": lambda run: edit(run, preset={"stages": [{"name": "a", "steps": "many"}]}),
    "odd-seed": lambda run: edit(run, seed=None),
    "log": lambda run: (run / "metrics.jsonl").write_text("rubbish\n"),
    "log-of-lists": lambda run: (run / "metrics.jsonl").write_text("[1]\n"),
    "nested": lambda run: (run / "run.json").write_text("[" * 100_000),
}


def test_broken_runs_are_listed_as_broken(runs):
    for name, break_it in BREAKAGES.items():
        break_it(shutil.copytree(runs / "finished", runs / name))
    (runs / "notes").mkdir()  # no run at all
    (runs / "todo.txt").write_text("train more")
    listed = list_runs(runs)
    states = {found["name"]: found["state"] for found in listed["runs"]}
    expected = dict.fromkeys(BREAKAGES, "broken")
    assert states == {**expected, "finished": "finished", "torn": "failed"}
    assert len(list_rows(listed)) == len(states)
    assert len([line for line in list_remarks(listed) if line.startswith("broken: ")]) == len(
        BREAKAGES
    )
    for name in BREAKAGES:
        with pytest.raises(DataError, match=name):
            describe_run(runs / name)


def test_showing_a_run(runs, monkeypatch, capsys):
    (runs / "finished" / "tensorboard").mkdir()
    log = runs / "finished" / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines[1]["warnings"] = ["warning at step 12, possible collapse"]
    lines[-1]["bad_steps"] = 2
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.chdir(runs.parent)
    assert run(["runs", "show", "finished", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verb"] == "runs show"
    assert [(s["name"], s["done"], s["steps"], s["lr"]) for s in found["stages"]] == [
        ("start", 12, 12, 3e-4),
        ("all", 13, 13, 3e-4),
    ]
    assert found["stages"][0]["trains"] == ["heads.*"]
    assert [c["step"] for c in found["checkpoints"]] == [12, 25]
    assert found["curves"] == "runs/finished/curves.png"
    assert found["tensorboard"] == "runs/finished/tensorboard"
    assert len(found["data"][0]) == 64
    assert found["logged"]["step"] == 25
    assert found["remarks"] == [
        "warning at step 12, possible collapse",
        "2 steps thrown away: loss or gradient not finite",
    ]
    assert run(["runs", "show", "runs/finished"]) == 0
    text = capsys.readouterr().out
    for part in ("25 of 25 steps", "step-0000025", "photometric, smooth", *found["remarks"]):
        assert part in text


def test_a_stage_that_has_only_begun(runs):
    assert [stage["done"] for stage in describe_run(runs / "torn")["stages"]] == [12, 9]


def test_a_run_without_a_line_yet(runs):
    (runs / "torn" / "metrics.jsonl").unlink()
    shutil.rmtree(runs / "torn" / "checkpoints")
    found = describe_run(runs / "torn")
    assert (found["step"], found["loss"], found["logged"]) == (0, None, {})
    assert "nothing logged yet" in format_run(found)


def test_listing(runs, tmp_path, monkeypatch, capsys):
    edit(runs / "torn", started_at=9e9)  # changed last, so listed last
    assert run(["runs", "ls", str(runs)]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == LIST_HEADER
    assert [row.split()[:5] for row in rows[:2]] == [
        ["finished", "smallest", "0", "finished", "25/25"],
        ["torn", "smallest", "0", "failed", "21/25"],
    ]
    assert rows[2] == "torn failed: Crash"
    assert [r["name"] for r in list_runs(runs / "finished")["runs"]] == ["finished"]
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert run(["runs", "ls"]) == 0
    assert "no run in runs" in capsys.readouterr().out
    assert run(["runs", "ls", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(3, "3 s"), (119, "119 s"), (120, "2 min"), (7300, "2 h"), (2e5, "2 d")]
)
def test_ages(monkeypatch, seconds, text):
    monkeypatch.setattr("unienc_core.workflows.runs_report.time.time", lambda: 1e9 + seconds)
    assert _age(1e9) == text
