"""Cross-tested steering: folds end, resume in the same bytes and leak nothing; frozen is frozen."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sequence_toys import FRAMES, steering_preset, write_drives

from unienc_core.checkpoint import load_checkpoint, save_checkpoint
from unienc_core.contracts import Reporter
from unienc_core.data.folds import block_folds, recording_folds, takes_of
from unienc_core.data.store import Store
from unienc_core.errors import DataError, UsageError
from unienc_core.models.network import build_network
from unienc_core.presets import dump_preset, load_preset
from unienc_core.workflows.finetune_steering import Folding, finetune_steering
from unienc_core.workflows.infer import VideoRequest, infer_video
from unienc_core.workflows.prepare import prepare_synth_city
from unienc_core.workflows.steering_report import format_report
from unienc_core.workflows.steering_scoring import drive_places, predict, truth_of, windows
from unienc_core.workflows.training_data import TrainingData
from unienc_core.workflows.training_module import first_network
from unienc_core.workflows.training_request import open_request
from unienc_core.workflows.training_verbs import FINETUNE_STEERING

STEPS = 40


class Crash(Exception):  # noqa: N818
    """Stands for a kill: nothing is saved after it."""


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    """Six short drives through a city."""
    out = tmp_path_factory.mktemp("steering") / "city"
    size = {"image_size": (64, 96), "supersample": 1}
    prepare_synth_city(out, splits={"train": (6, 24)}, workers=1, look_ahead=[5.0], **size)
    return out / "train"


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    path = tmp_path_factory.mktemp("preset") / "steering.yaml"
    path.write_text(dump_preset(steering_preset(steps=STEPS, encoder={"drop_path": 0.3})))
    return path


@pytest.fixture(scope="module")
def whole(city, preset, tmp_path_factory):
    """Both folds, never stopped: the folder and the report."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, go(preset, [city], out)


def go(preset, stores, out, *, folding=Folding(2), crash=None, say=lambda line: None, **options):  # noqa: B008
    """Do the folds, or crash at (task, done)."""

    def tell(progress):
        if (progress.task, progress.done) == crash:
            raise Crash

    run = {"device": "cpu", "threads": 1, "workers": 0, "checkpoint_every": 10} | options
    reporter = Reporter(progress=tell, say=say)
    return finetune_steering(
        str(preset), stores, folding=folding, out=out, validate_every=10, reporter=reporter, **run
    )


def outcome(out: Path) -> dict[str, bytes]:
    """All that a run ends in, without times and machines."""
    names = ("*.safetensors", "predictions.csv", "validation.jsonl")
    files = [path for name in names for path in sorted(out.glob(f"fold-*/**/{name}"))]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def test_two_folds_end_in_a_table(city, whole):
    out, report = whole
    assert report == json.loads((out / "steering.json").read_text())
    assert (report["label"], report["unit"], report["grids"]) == ("curvature", "1/km", True)
    assert report["protocol"] == "folds of recordings"
    errors = [fold["test"]["steering_mse"] for fold in report["folds"]]
    found = report["metrics"]["test_mse"]
    assert [found["mean"], found["std"], found["std1"], found["median"]] == pytest.approx(
        [np.mean(errors), np.std(errors), np.std(errors, ddof=1), np.median(errors)]
    )
    store = Store(city)
    labels = {d.name: store.column(i, "curvature") for i, d in enumerate(store.drives)}
    tested = []
    for fold in report["folds"]:
        rows = list(csv.DictReader((out / f"fold-{fold['fold']}" / "predictions.csv").open()))
        truth = np.array([labels[r["drive"]][int(r["frame"])] for r in rows], np.float64)
        made = np.array([float(r["value"]) for r in rows])
        assert fold["num_images"] == len(rows) == 3 * (24 // FRAMES)
        assert fold["test"]["steering_mse"] == pytest.approx(np.mean((made - truth) ** 2), 1e-6)
        assert fold["test"]["steering_mae"] == pytest.approx(np.mean(abs(made - truth)), 1e-6)
        assert fold["baselines"]["zero"]["steering_mse"] == pytest.approx(np.mean(truth**2))
        before = [labels[r["drive"]][int(r["frame"]) - 1] for r in rows]
        kept = fold["baselines"]["persistence_1_frame"]["steering_mse"]
        assert kept == pytest.approx(np.mean((np.array(before) - truth) ** 2), 1e-5)
        tested.append({r["drive"] for r in rows})
        assert (out / f"fold-{fold['fold']}" / "along-time.png").stat().st_size > 1000
        lines = (out / f"fold-{fold['fold']}" / "validation.jsonl").read_text().splitlines()
        chosen = min(map(json.loads, lines), key=lambda line: line["validation"])
        assert (fold["step"], fold["validation_mse"]) == (chosen["step"], chosen["validation"])
        assert fold["train_mse"] == chosen["train"]
    assert not tested[0] & tested[1]
    assert tested[0] | tested[1] == set(labels)


def test_a_frozen_encoder_keeps_every_bit(whole):
    out, report = whole
    for fold in report["folds"]:
        for saved in (out / f"fold-{fold['fold']}", Path(fold["checkpoint"])):
            checkpoint = load_checkpoint(saved)
            began = first_network(checkpoint.preset, 0).state_dict()
            tensors = checkpoint.model_tensors()
            encoder = [name for name in tensors if name.startswith("encoders.")]
            assert any(name.endswith("running_var") for name in encoder)
            assert all(torch.equal(tensors[name], began[name]) for name in encoder)
            heads = [name for name in tensors if name.startswith("heads.")]
            assert not all(torch.equal(tensors[name], began[name]) for name in heads)


def test_what_is_validated_and_chosen_is_the_average_of_the_weights(city, preset, tmp_path):
    fast = ["stages.0.steps=10", "optimizer.lr=0.1"]  # so that averages differ from what is live
    once = {"folding": Folding(2, only=0), "overrides": fast}
    (done,) = go(preset, [city], tmp_path / "run", **once)["folds"]
    best = load_checkpoint(Path(done["checkpoint"]))
    last = load_checkpoint(tmp_path / "run" / "fold-0")
    chosen, kept = best.model_tensors(), last.model_tensors()
    assert all(torch.equal(chosen[name], kept[name]) for name in kept)
    beside = last.optimizer_tensors()
    live = {k.removeprefix("live/"): v for k, v in beside.items() if k.startswith("live/")}

    store = Store(city)
    fold = recording_folds(takes_of([store]), 2)[0]
    dataset = windows(best.preset, [store], fold.validation, ())
    network = build_network(best.preset)
    errors = []
    for tensors in (chosen, {**kept, **live}):
        network.load_state_dict(tensors)
        made = predict(network, dataset, "curvature", drive_places([store]))
        errors.append(truth_of([store], "curvature").errors(made)["steering_mse"])
    assert errors[0] == pytest.approx(best.state["validation"], rel=1e-4)
    assert errors[1] != pytest.approx(errors[0], rel=1e-3)


def test_a_video_of_a_tested_drive_says_what_the_fold_predicted(city, whole, tmp_path):
    """On grids out of a cache there, frame by frame through the best weights here."""
    with (whole[0] / "fold-0" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    drive = rows[0]["drive"]
    infer_video(
        [city],
        request=VideoRequest(sinks="jsonl", drive=drive),
        out=tmp_path / "x.jsonl",
        checkpoint=whole[0] / "fold-0" / "best",
        device="cpu",
    )
    lines = map(json.loads, (tmp_path / "x.jsonl").read_text().splitlines())
    values = {line["index"]: line["steering"]["value"] for line in lines}
    tested = {int(row["frame"]): float(row["value"]) for row in rows if row["drive"] == drive}
    assert len(tested) == len(values) // FRAMES
    found = np.array([values[frame] for frame in tested])
    np.testing.assert_allclose(found, list(tested.values()), atol=1e-5)


@pytest.mark.parametrize("done", [20, 27, STEPS])
def test_killed_inside_the_second_fold_it_ends_in_the_same_bytes(
    city, preset, whole, tmp_path, done
):
    """At 20 and at the end the checkpoint is saved and the validation is not."""
    with pytest.raises(Crash):
        go(preset, [city], tmp_path / "run", crash=("fold 1: train", done))
    first = {p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "fold-0").rglob("*.safetensors")}
    assert not (tmp_path / "run" / "fold-1" / "predictions.csv").exists()
    report = go(preset, [city], tmp_path / "run")
    assert {p: p.stat().st_mtime_ns for p in first} == first
    assert outcome(tmp_path / "run") == outcome(whole[0])
    assert report["metrics"] == whole[1]["metrics"]


def test_killed_in_the_test_it_tests_again_and_repeats_no_training(city, preset, whole, tmp_path):
    with pytest.raises(Crash):
        go(preset, [city], tmp_path / "run", crash=("fold 1: predict steering", 18))
    report = go(preset, [city], tmp_path / "run", crash=("fold 1: train", 1))
    assert report["metrics"] == whole[1]["metrics"]
    # Now nothing at all is left to do, but another test is another one.
    go(preset, [city], tmp_path / "run", crash=("fold 1: predict steering", 2))
    every = go(preset, [city], tmp_path / "run", stride=1)
    assert every["num_images"] == 6 * (24 - FRAMES + 1)
    assert every["metrics"]["validation_mse"] == report["metrics"]["validation_mse"]


def test_one_fold_at_a_time_is_the_same(city, preset, whole, tmp_path):
    report = go(preset, [city], tmp_path / "run", folding=Folding(2, only=1))
    assert [fold["fold"] for fold in report["folds"]] == [1]
    assert report["metrics"]["test_mse"]["std1"] is None
    go(preset, [city], tmp_path / "run", folding=Folding(2, only=0))
    assert outcome(tmp_path / "run") == outcome(whole[0])


def test_a_finished_run_is_held_against_another_without_training(city, preset, whole, tmp_path):
    out, before = whole
    other = tmp_path / "other"
    shutil.copytree(out, other)
    for fold, more in ((0, 2.0), (1, -0.5)):
        file = other / f"fold-{fold}" / "steering.json"
        result = json.loads(file.read_text())
        result["test"]["steering_mse"] += more
        file.write_text(json.dumps(result))
    report = go(preset, [city], out, versus=other, crash=("fold 0: train", 1))
    found = report["versus"]
    assert [row["difference"] for row in found["folds"]] == pytest.approx([-2.0, 0.5])
    assert found["difference"]["mean"] == pytest.approx(-0.75)
    assert (found["against"], found["run"]) == ({"lower": 1, "higher": 1, "p": 1.0}, str(other))
    assert report["metrics"] == before["metrics"]
    assert report == json.loads((out / "steering.json").read_text())
    assert "mean -0.75, median -0.75, lower in 1/2, sign test p=1" in format_report(report)
    first = go(preset, [city], out, versus=other, folding=Folding(2, only=1))
    assert [row["fold"] for row in first["versus"]["folds"]] == [1]
    for changes, message in (
        ({"stride": 1}, "tested every 4 frames, here every 1"),
        ({"label": "curvature_5m"}, r"other label \(curvature, here curvature_5m\)"),
        ({"folding": Folding(3)}, r"other folds \(2, here 3\)"),
        ({"folding": Folding(2, by="blocks")}, "folds of recordings, here folds of blocks"),
    ):
        with pytest.raises(UsageError, match=message):
            go(preset, [city], tmp_path / "new", versus=other, **changes)
    assert not (tmp_path / "new").exists()
    go(preset, [city], out)  # as the other tests expect it


def test_an_encoder_that_learns_is_trained_live(city, preset, tmp_path):
    changes = ["stages.0.steps=10", 'stages.0.trains=["*"]']
    once = {"folding": Folding(2, only=0), "overrides": changes}
    report = go(preset, [city], tmp_path / "run", **once)
    assert not report["grids"]
    assert not (tmp_path / "run" / "grids").exists()


def test_shadows_fall_live_and_resume_in_the_same_bytes(city, preset, tmp_path, capsys):
    changes = ["stages.0.steps=20", "streams.drives.augment.shadow=1.0"]
    once = {"folding": Folding(2, only=0), "overrides": changes, "say": print}
    report = go(preset, [city], tmp_path / "whole", **once)
    assert not report["grids"]
    assert "the encoder runs in every step" in capsys.readouterr().out
    with pytest.raises(Crash):
        go(preset, [city], tmp_path / "run", crash=("fold 0: train", 13), **once)
    go(preset, [city], tmp_path / "run", **once)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    once["overrides"] = changes[:1]
    assert go(preset, [city], tmp_path / "plain", **once)["grids"]
    assert outcome(tmp_path / "plain") != outcome(tmp_path / "whole")


def test_another_label_brings_its_lambda(city, preset, tmp_path):
    once = {"folding": Folding(2, only=0), "overrides": ["stages.0.steps=10"]}
    report = go(preset, [city], tmp_path / "ahead", label="curvature_5m", **once)
    assert (report["label"], report["unit"]) == ("curvature_5m", "1/km")
    assert load_checkpoint(tmp_path / "ahead" / "fold-0").preset.streams["drives"].labels == (
        "curvature_5m_gt",
    )
    with pytest.raises(DataError, match="steering_unit"):
        go(preset, [city], tmp_path / "none", label="steering_unit", **once)
    with pytest.raises(UsageError, match="no steering label.*curvature"):
        go(preset, [city], tmp_path / "none", label="curvatur", **once)
    assert not (tmp_path / "none").exists()


def test_no_window_of_training_touches_a_frame_near_the_test(tmp_path):
    """On one long recording, where every border is one in time."""
    store = write_drives(tmp_path / "s", (400,))
    preset = steering_preset()
    for fold in block_folds(takes_of([store]), 4):
        data = TrainingData(preset, [store.path], 0, 0, spans=fold.train)
        learnt, chosen, tested = (
            frames_of(dataset)
            for dataset in (
                data.datasets["drives"],
                windows(preset, [store], fold.validation),
                windows(preset, [store], fold.test),
            )
        )
        assert learnt and chosen and tested
        apart = min(abs(a - b) for a in learnt for b in tested)
        assert apart > 15
        assert min(abs(a - b) for a in learnt for b in chosen) > 15
        assert not chosen & tested


def frames_of(dataset) -> set[int]:
    lasts = [dataset.find(i)[2] for i in range(len(dataset))]
    return {last - back for last in lasts for back in range(FRAMES)}


def test_a_dry_run_writes_nothing(city, preset, tmp_path):
    report = go(preset, [city], tmp_path / "run", dry_run=True)
    assert report["folds"] == 2
    assert report["cache_bytes"] > 0
    assert not (tmp_path / "run").exists()


def test_a_fold_that_is_none_is_refused(city, preset, tmp_path):
    with pytest.raises(UsageError, match="0 to 1"):
        go(preset, [city], tmp_path / "run", folding=Folding(2, only=2))
    with pytest.raises(UsageError, match="6"):
        go(preset, [city], tmp_path / "run", folding=Folding(7, by="recordings"))


def test_the_verbs_preset_goes_on_top_of_any_encoder(tmp_path):
    """Encoder and image size are those of the checkpoint, all else that of the verb's preset."""
    changes = ["image_size=[64, 128]", "network.encoders.main.options.model_args.stem_width=8"]
    student = load_preset("unified-tiny", changes)
    network = build_network(student, seed=5)
    saved = save_checkpoint(
        tmp_path, preset=student, model=network.state_dict(), optimizer={}, state={"step": 1}
    )
    asked = open_request(FINETUNE_STEERING, None, ["optimizer.lr=0.5"], init=saved)
    usual = load_preset(FINETUNE_STEERING.preset)
    assert asked.preset.image_size == (64, 128)
    assert asked.preset.network.encoders == student.network.encoders
    assert asked.preset.network.heads == usual.network.heads
    assert (asked.preset.streams, asked.preset.stages) == (usual.streams, usual.stages)
    assert asked.preset.optimizer.lr == 0.5
    began = first_network(asked.preset, 0, started=asked.started).encoders.state_dict()
    assert all(torch.equal(began[k], v) for k, v in network.encoders.state_dict().items())
    named = open_request(FINETUNE_STEERING, FINETUNE_STEERING.preset, init=saved)
    assert named.preset == usual
