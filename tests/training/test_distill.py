"""`train-teacher` and `distill` to the end: records, resumes, frozen parts, and two processes."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from ranks import run_ranks
from safetensors.torch import load_file
from teacher_toys import SHORT, go, student_dict, write_toys
from training_runs import Crash, assert_same_end, crash_at

from unienc_cli.main import run as run_cli
from unienc_core.checkpoint import list_checkpoints, load_checkpoint
from unienc_core.contracts import Reporter
from unienc_core.errors import UsageError, WiringError
from unienc_core.presets import load_preset, preset_from_dict
from unienc_core.training.distillation import without_teacher
from unienc_core.workflows import prepare
from unienc_core.workflows.inspect_runs import describe_run
from unienc_core.workflows.runs_report import format_run

STAGES = ("depth-pose", "flow", "motion", "everything")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with presets and a store, the run of a teacher, and that of its student."""
    folder = write_toys(tmp_path_factory.mktemp("distill"))
    keep = folder / "kept"
    keep.mkdir()

    def keeping(progress):
        """Keep the checkpoint of each stage's end, of which a run keeps the newest two."""
        for path in list_checkpoints(folder / "teacher" / "checkpoints"):
            if not (keep / path.name).exists():
                shutil.copytree(path, keep / path.name)

    reporter = crash_at(None)
    reporter.progress = keeping
    go(folder, "train-teacher", folder / "teacher", reporter=reporter)
    go(folder, "distill", folder / "student")
    return folder


def tensors_after(place, step):
    return load_file(place / "kept" / f"step-{step:07d}" / "model.safetensors")


def of(tensors, *places):
    return {key: x for key, x in tensors.items() if key.startswith(places)}


def same(one, two):
    return all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize(
    ("stage", "moving"),
    [
        (0, ("encoders.main.", "encoders.pose.", "heads.depth.", "heads.pose.")),
        (1, ("encoders.motion.", "heads.scene_flow.")),
        (
            2,
            (
                "encoders.pose.",
                "encoders.motion.",
                "heads.pose.",
                "heads.scene_flow.",
                "heads.motion_mask.",
            ),
        ),
        (3, ("encoders.", "heads.")),
    ],
    ids=STAGES,
)
def test_what_a_stage_of_the_teacher_freezes_keeps_its_bits(place, stage, moving):
    """Weights, and batch statistics as well, from one step of a stage to the next."""
    before, after = (tensors_after(place, 2 * stage + step) for step in (1, 2))
    rest = {key: x for key, x in before.items() if not key.startswith(moving)}
    assert bool(rest) == (stage < 3)
    assert (stage == 3) or any("running_var" in key for key in rest)
    assert same(rest, after)
    for node in moving:
        assert not same(of(before, node), after), node


def test_an_encoder_starts_as_another_when_it_begins_to_move(place):
    """It rests through the first stage, and is that of the first stage's end a step before."""
    first, second = tensors_after(place, 1), tensors_after(place, 2)
    assert same(of(first, "encoders.motion."), second)
    main = {k.removeprefix("encoders.main."): x for k, x in of(second, "encoders.main.").items()}
    rested = of(second, "encoders.motion.")
    assert not all(torch.equal(rested[f"encoders.motion.{k}"], x) for k, x in main.items())
    begun = of(tensors_after(place, 3), "encoders.motion.")
    for key, x in main.items():
        moved = begun[f"encoders.motion.{key}"] - x
        if "running_" not in key and "num_batches" not in key:  # one step of 3e-4 away
            assert moved.abs().max() < 1e-3, key
    statistics = "encoders.motion.net.bn1.num_batches_tracked"
    assert begun[statistics] == main["net.bn1.num_batches_tracked"] + 1


def test_it_starts_so_from_the_weights_of_an_earlier_run_too(place, tmp_path):
    """Stage 1 by itself, and stages 2 to 4 from its weights, end in the same bits."""
    go(place, "train-teacher", tmp_path / "first", stages="1")
    go(place, "train-teacher", tmp_path / "rest", stages="2..4", init=tmp_path / "first")
    assert_same_end(tmp_path / "rest", place / "teacher")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"starts_as": "mains"}, r"motion\.starts_as: no other encoder 'mains' .*'main'"),
        ({"starts_as": "motion"}, r"motion\.starts_as: no other encoder 'motion'"),
        ({"starts_as": "pose"}, "'motion' and 'pose' differ in view"),
        ({"options": {"name": "resnet10t"}}, "'motion' and 'main' differ in options"),
    ],
)
def test_only_an_encoder_of_the_same_form_can_be_started_as(place, tmp_path, changes, message):
    overrides = [f"network.encoders.motion.{key}={value}" for key, value in changes.items()]
    with pytest.raises(UsageError, match=message):
        go(place, "train-teacher", tmp_path / "run", overrides=overrides)


def test_an_encoder_that_never_moves_cannot_start_so(place, tmp_path):
    still = ["heads.scene_flow.*", "heads.pose.*"]
    overrides = [f"stages.{i}.trains={still}" for i in range(1, 4)]
    with pytest.raises(WiringError, match="starts_as: no stage moves 'motion'"):
        go(place, "train-teacher", tmp_path / "run", overrides=overrides)


def test_a_distilled_checkpoint_holds_a_student_and_says_who_taught(place):
    checkpoint = load_checkpoint(place / "student")
    taught_by = load_checkpoint(place / "teacher")
    digest = taught_by.state["files"]["model.safetensors"]["sha256"]
    assert checkpoint.state["teacher"] == {"preset": "teacher", "step": 8, "sha256": digest}
    assert not any("motion." in key or "teacher" in key for key in checkpoint.model_tensors())
    assert not any("teacher" in key for key in checkpoint.optimizer_tensors())
    assert checkpoint.preset == load_preset(str(place / "student.yaml"), SHORT)
    run = describe_run(place / "student")
    assert run["teacher"] == digest
    assert digest in format_run(run)
    logged = json.loads((place / "student" / "metrics.jsonl").read_text().splitlines()[-1])
    assert logged["loss/distil_flow"] > 0
    assert logged["loss/distil_mask"] > 0


def test_without_a_teacher_the_run_is_that_of_a_preset_without_its_terms(place, tmp_path):
    said = []
    go(place, "train-student", tmp_path / "run", say=said.append)
    assert any(line.startswith("no teacher: without distil_flow, distil_mask") for line in said)
    preset = without_teacher(preset_from_dict(student_dict(), overrides=SHORT))
    assert load_checkpoint(tmp_path / "run").preset == preset
    assert "teacher" not in load_checkpoint(tmp_path / "run").state
    assert "distil" not in (tmp_path / "run" / "metrics.jsonl").read_text()
    ours, taught = (
        load_checkpoint(p).model_tensors() for p in (tmp_path / "run", place / "student")
    )
    assert not same(ours, taught)


def test_what_is_written_beside_does_not_change_the_weights(place, tmp_path):
    """Curves and pictures of each step; nobody listens; and the data come from a worker."""
    pytest.importorskip("tensorboard")
    go(place, "distill", tmp_path / "run", track="tensorboard", reporter=None, workers=1)
    assert any((tmp_path / "run" / "tensorboard").iterdir())
    assert_same_end(tmp_path / "run", place / "student")


@pytest.mark.parametrize("verb", ["distill", "train-teacher"])
def test_killed_in_every_stage_it_ends_in_the_same_bits(place, tmp_path, verb):
    context = multiprocessing.get_context("fork")
    for step in (1, 3, 5, 7):
        reporter = Reporter(progress=killing(step))
        options = {"reporter": reporter, "stages": "1..2" if step == 3 else None}
        process = context.Process(target=go, args=(place, verb, tmp_path / "run"), kwargs=options)
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    go(place, verb, tmp_path / "run")
    assert_same_end(tmp_path / "run", place / ("student" if verb == "distill" else "teacher"))


def killing(step):
    def tell(progress):
        if progress.task == "train" and progress.done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return tell


def test_another_teacher_is_another_run(place, tmp_path):
    """Its weights count, not where they lie."""
    with pytest.raises(Crash):
        go(place, "distill", tmp_path / "run", reporter=crash_at(4))
    with pytest.raises(UsageError, match="holds another run; teacher is .* there, .* asked"):
        go(place, "distill", tmp_path / "run", teacher=place / "student")
    with pytest.raises(UsageError, match="holds another run; .*terms.distil_flow is .* null asked"):
        go(place, "train-student", tmp_path / "run")
    moved = tmp_path / "moved"
    shutil.copytree(load_checkpoint(place / "teacher").path, moved)
    go(place, "distill", tmp_path / "run", teacher=moved)
    assert_same_end(tmp_path / "run", place / "student")


def test_a_dry_run_asks_the_teacher_too(place, tmp_path):
    report = go(place, "distill", tmp_path / "run", dry_run=True)
    assert report["dry_run"]
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="64x96, the student student of 64x128"):
        go(place, "distill", tmp_path / "run", dry_run=True, overrides=["image_size=[64, 128]"])


def command(place, verb, name, *more):
    words = [verb, str(place / "store"), "--preset", str(place / f"{name}.yaml"), "--quiet"]
    return [*words, *(w for s in SHORT for w in ("--set", s)), "--workers", "0", *more]


def test_the_verbs(place, tmp_path, monkeypatch, capsys):
    """Each has its kind of preset, and a run folder of its own."""
    monkeypatch.chdir(tmp_path)
    wrong = {
        ("train-student", "teacher"): "of kind teacher, and train-student trains presets of kind "
        "student; use 'unienc train-teacher'",
        ("train-teacher", "student"): "use 'unienc train-student' or 'unienc distill'",
        ("distill", "teacher"): "of kind teacher, and distill trains",
    }
    taught = ["--teacher", str(place / "teacher")]
    for (verb, name), message in wrong.items():
        words = command(place, verb, name, *(taught if verb == "distill" else ()))
        assert run_cli(words) == 2
        assert message in capsys.readouterr().err
    assert run_cli(command(place, "distill", "student")) == 2
    assert "--teacher" in capsys.readouterr().err
    assert run_cli(command(place, "train-student", "student", *taught)) == 2
    assert run_cli(command(place, "distill", "student", "--teacher", "nowhere")) == 3
    assert "nowhere: no such checkpoint" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert run_cli(command(place, "distill", "student", *taught, "--json", "--stages", "1")) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verb"] == "distill"
    assert report["run"] == "runs/student-distilled-0"


def test_a_teacher_that_does_not_fit_shows_before_a_city_is_rendered(
    place, tmp_path, monkeypatch, capsys
):
    rendered = []
    monkeypatch.setattr(prepare, "prepare_synth_city", lambda *args, **kw: rendered.append(args))
    monkeypatch.chdir(tmp_path)
    words = command(place, "distill", "student", "--teacher", str(place / "teacher"))
    words.remove(str(place / "store"))
    assert run_cli([*words, "--set", "image_size=[64, 128]"]) == 2
    assert "64x96, the student student of 64x128" in capsys.readouterr().err
    assert not rendered


# Off: chance that differs between processes (the ground's random points), batch norms of a part of
# the batch; a small rate, since untrained depth and pose are chaotic.
NO_CHANCE = [
    "optimizer.lr=1e-5",
    "stages.3.lr=1e-5",
    "streams.triplets.augment.jitter=0.0",
    "terms.start.options={automask: false}",
    "network.heads.pose={type: single_scale, reads: [main], view: pair, options: {squeeze: 8}}",
    "stages.0.trains=[heads.depth.*, heads.pose.*, encoders.main.net.*conv*]",
    "stages.3.trains=[heads.*, encoders.main.net.*conv*]",
    "stages.3.terms=[photometric, smooth, flow_smooth, mask_smooth, consistency, sparsity, "
    "distil_flow, distil_mask]",
]


def test_two_processes_distil_what_one_does(place, tmp_path):
    """Each of the four stages; the teacher sees each process's part of the batch."""
    go(place, "distill", tmp_path / "one", overrides=NO_CHANCE)

    def work(world):
        go(place, "distill", tmp_path / "two", overrides=NO_CHANCE, world=world)

    assert run_ranks(2, work, tmp_path) == [0, 0]
    one, two = (load_checkpoint(tmp_path / name).model_tensors() for name in ("one", "two"))
    for name, tensor in one.items():
        gap = (two[name] - tensor).double().norm()
        assert gap <= 1e-5 * tensor.double().norm(), name
    logs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("one", "two")]
    for line, other in zip(*(map(json.loads, log) for log in logs), strict=True):
        for key in (key for key in line if key.startswith("loss/")):
            assert other[key] == pytest.approx(line[key], rel=1e-4), key


@pytest.mark.slow
def test_under_torchrun(place, tmp_path):
    words = command(place, "distill", "student", "--teacher", str(place / "teacher"))
    words += ["--device", "cpu", "--out", "run", "--json"]
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*start, "-m", "unienc_cli.main", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["verb"], report["steps"]) == ("distill", 8)
    record = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert record["processes"] == 2
