"""The run folder: the same run resumes, another is refused, and one process works at a time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from training_toys import ENVIRONMENT, toy_preset

from unienc_core.errors import DataError, IntegrityError, Interrupted, ResourceError, UsageError
from unienc_core.training.lock import LOCK, _this_process, folder_lock
from unienc_core.training.run_dir import RunIdentity, check_run_folder, open_run_folder


def identity(seed=0, data=("aa",), **optimizer):
    return RunIdentity(toy_preset(**optimizer), seed, data)


def opened(path, who=None, *, command="unienc train", environment=ENVIRONMENT, **options):
    with open_run_folder(
        path, who or identity(), command=command, environment=environment, **options
    ) as folder:
        return folder


def test_what_a_run_folder_holds(tmp_path):
    opened(tmp_path / "deep" / "run")
    run = tmp_path / "deep" / "run"
    names = ["command.txt", "environment.json", "preset.yaml", "run.json"]
    assert sorted(path.name for path in run.iterdir()) == names
    record = json.loads((run / "run.json").read_text())
    assert record["seed"] == 0
    assert record["data"] == ["aa"]
    assert record["finished_at"] is None
    assert (run / "command.txt").read_text() == "unienc train\n"


def test_finish_is_recorded(tmp_path):
    with open_run_folder(tmp_path, identity(), command="c", environment=ENVIRONMENT) as folder:
        assert folder.report is None
        told = folder.finish({"loss": 1.0}, folder.checkpoints / "step-0000012")
    assert opened(tmp_path).report == told
    assert told["loss"] == 1.0


def test_a_finished_run_tells_where_its_files_lie_now(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with open_run_folder(Path("run"), identity(), command="c", environment=ENVIRONMENT) as folder:
        folder.finish({}, folder.checkpoints / "step-0000012")
    monkeypatch.chdir(tmp_path)
    assert opened(Path("here/run")).report == {
        "run": "here/run",
        "checkpoint": "here/run/checkpoints/step-0000012",
        "curves": "here/run/curves.png",
    }
    (tmp_path / "here" / "run").rename(tmp_path / "moved")
    assert opened(Path("moved")).report["checkpoint"] == "moved/checkpoints/step-0000012"


@pytest.mark.parametrize(
    ("error", "noted"),
    [
        (IntegrityError("three bad steps"), "three bad steps"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (Interrupted("saved"), None),
        (KeyboardInterrupt(), None),
    ],
)
def test_why_a_run_ended_is_noted_until_it_goes_on(tmp_path, error, noted):
    def failure():
        return json.loads((tmp_path / "run.json").read_text())["failure"]

    with (
        pytest.raises(type(error)),
        open_run_folder(tmp_path, identity(), command="c", environment=ENVIRONMENT),
    ):
        raise error
    assert failure() == noted
    with open_run_folder(tmp_path, identity(), command="c", environment=ENVIRONMENT):
        assert failure() is None


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (identity(seed=1), "seed is 0 there, 1 asked"),
        (identity(data=("bb",)), 'data.0 is "aa" there, "bb" asked'),
        (identity(data=("aa", "bb")), "data is "),
        (identity(lr=0.5), "preset.optimizer.lr is 0.01 there, 0.5 asked"),
    ],
)
def test_another_run_is_refused_and_the_difference_named(tmp_path, other, named):
    opened(tmp_path)
    (tmp_path / "checkpoints" / "step-0000001").mkdir(parents=True)
    for attempt in (opened, check_run_folder):
        with pytest.raises(UsageError, match="holds another run") as refused:
            attempt(tmp_path, other)
        assert named in str(refused.value)
    check_run_folder(tmp_path, other, fresh=True)
    opened(tmp_path, other, fresh=True)
    check_run_folder(tmp_path, other)


def test_a_run_without_a_checkpoint_does_not_block(tmp_path):
    opened(tmp_path, command="wrong")
    (tmp_path / "metrics.jsonl").write_text('{"step": 10}\n')
    opened(tmp_path, identity(seed=1), command="right")
    assert json.loads((tmp_path / "run.json").read_text())["seed"] == 1
    assert (tmp_path / "command.txt").read_text() == "right\n"
    assert not (tmp_path / "metrics.jsonl").exists()


def test_starting_over_deletes_only_the_run(tmp_path):
    opened(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    (tmp_path / "checkpoints" / "step-0000001").mkdir(parents=True)
    (tmp_path / "curves.png").write_bytes(b"old")
    (tmp_path / "tensorboard").mkdir()
    opened(tmp_path, identity(seed=1), fresh=True)
    assert json.loads((tmp_path / "run.json").read_text())["seed"] == 1
    assert (tmp_path / "notes.txt").read_text() == "mine"
    for name in ("metrics.jsonl", "curves.png", "checkpoints/step-0000001", "tensorboard"):
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize("fresh", [False, True])
def test_somebody_elses_folder_is_refused(tmp_path, fresh):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UsageError, match="not a run folder"):
        opened(tmp_path, fresh=fresh)
    with pytest.raises(UsageError, match="not a run folder"):
        check_run_folder(tmp_path, identity(), fresh=fresh)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    for attempt in (opened, check_run_folder):
        with pytest.raises(ResourceError, match="file"):
            attempt(tmp_path / "file" / "run", identity())


def test_a_folder_that_cannot_be_written():
    """The kernel's own folder is read-only even to root."""
    if not Path("/proc/self").exists():
        pytest.skip("needs /proc")
    for attempt in (opened, check_run_folder):
        with pytest.raises(ResourceError, match="/proc/unienc-run"):
            attempt(Path("/proc/unienc-run"), identity())


def test_leftovers_of_a_kill_are_cleaned_and_said(tmp_path):
    opened(tmp_path)
    (tmp_path / ".tmp-run.json-99").write_text("half")
    (tmp_path / "checkpoints" / ".tmp-step-0000002-99").mkdir(parents=True)
    said = []
    opened(tmp_path, say=said.append)
    assert ["removed 1 unfinished" in line for line in said] == [True]
    assert not list(tmp_path.rglob(".tmp-*"))


def test_resuming_elsewhere_is_said(tmp_path):
    opened(tmp_path)
    said = []
    opened(tmp_path, environment={**ENVIRONMENT, "threads": 2}, say=said.append)
    assert said == ["resuming elsewhere (threads 1 -> 2): the last bits may differ"]


HOLD = """
import sys, time
from pathlib import Path
from unienc_core.training.lock import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_and_a_dead_one_does_not_count(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=-1) as holder:
        try:
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(UsageError, match=f"in use by process {holder.pid}"):
                opened(tmp_path)
        finally:
            holder.kill()
    said = []
    opened(tmp_path, say=said.append)
    assert f"taking over from process {holder.pid}" in said[0]
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize(
    ("changes", "stale"),
    [
        ({}, False),
        ({"boot": "another"}, True),
        ({"born": "1"}, True),  # the pid was used again
        ({"host": "elsewhere", "boot": "another"}, False),  # nothing can be known
    ],
)
def test_when_a_lock_is_stale(tmp_path, changes, stale):
    owner = {**_this_process(), **changes}
    (tmp_path / LOCK).write_text(json.dumps(owner))
    if stale:
        with folder_lock(tmp_path):
            assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    else:
        with (
            pytest.raises(UsageError, match=f"in use by process {os.getpid()}"),
            folder_lock(tmp_path),
        ):
            pass


def test_a_lock_of_another_host_can_be_forced_and_that_of_a_live_process_cannot(tmp_path):
    (tmp_path / LOCK).write_text(json.dumps({**_this_process(), "host": "elsewhere"}))
    with pytest.raises(UsageError, match=f"process {os.getpid()} on elsewhere.*--force-unlock"):
        opened(tmp_path)
    said = []
    opened(tmp_path, force_unlock=True, say=said.append)
    assert "taking over from" in said[0]
    (tmp_path / LOCK).write_text(json.dumps(_this_process()))
    with pytest.raises(UsageError, match="in use by"):
        opened(tmp_path, force_unlock=True)


def test_an_unreadable_lock_does_not_block(tmp_path):
    (tmp_path / LOCK).write_text("")
    with folder_lock(tmp_path):
        pass


def test_a_record_of_an_older_version_lacks_what_nobody_could_ask_for_then(tmp_path):
    opened(tmp_path)
    (tmp_path / "checkpoints" / "step-0000001").mkdir(parents=True)
    record = json.loads((tmp_path / "run.json").read_text())
    for key in ("init", "failure"):
        record.pop(key, None)
    del record["preset"]["optimizer"]["max_bad_steps"]
    (tmp_path / "run.json").write_text(json.dumps(record))
    opened(tmp_path)
    assert json.loads((tmp_path / "run.json").read_text()) == record


@pytest.mark.parametrize("text", ["", "[]", '{"name": "x"}', '{"name": 3}'])
def test_a_damaged_record_is_refused(tmp_path, text):
    opened(tmp_path)
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(DataError, match="run.json: not the record of a run"):
        opened(tmp_path)
