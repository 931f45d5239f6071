"""Every shipped preset goes through the real trainer: a step a stage, a checkpoint, and back."""

import numpy as np
import pytest
from labels_toys import write_labelled_store
from sequence_toys import write_drives
from tiny_store import write_tiny_store

from unienc_core.checkpoint import list_checkpoints, load_checkpoint, load_tensors
from unienc_core.contracts import Progress, Reporter
from unienc_core.inference.predictor import load_predictor
from unienc_core.models.network import build_network
from unienc_core.presets import load_preset, preset_names
from unienc_core.training.distillation import without_teacher
from unienc_core.workflows.train import train
from unienc_core.workflows.training_verbs import DISTILL, TRAIN_TEACHER, VERBS


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Triplets for every preset that trains on them."""
    return write_tiny_store(tmp_path_factory.mktemp("presets") / "store")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Labelled images for every preset that trains on them."""
    return write_labelled_store(tmp_path_factory.mktemp("presets") / "labelled")


@pytest.fixture(scope="module")
def drives(tmp_path_factory):
    """Sequences for every preset that trains on them."""
    return write_drives(tmp_path_factory.mktemp("presets") / "drives", (17,)).path


@pytest.mark.parametrize("name", preset_names())
def test_every_stage_is_trained_and_saved(name, store, labelled, drives, smaller, tmp_path):
    stages = len(load_preset(name).stages)
    by_kind = {"triplets": store, "labels": labelled, "sequences": drives}
    stores = [by_kind[stream.kind] for stream in load_preset(name).streams.values()]
    overrides = [*smaller(name), *(f"stages.{i}.steps=1" for i in range(stages))]
    verb = next(verb for verb in VERBS if verb.kind == load_preset(name).kind)
    again = {"out": tmp_path / "run", "device": "cpu", "workers": 0}
    report = train(name, stores, verb=verb, overrides=overrides, **again)
    assert report["steps"] == stages
    assert report["loss"] > 0
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.preset == without_teacher(load_preset(name, overrides))
    network = build_network(checkpoint.preset, load_pretrained=False, seed=1)
    load_tensors(network, checkpoint.model_tensors(), "checkpoint")


def test_the_shipped_teacher_teaches_the_shipped_student(store, labelled, smaller, tmp_path):
    """Both verbs by their defaults, from the whole teacher to the last stage of the student."""
    steps = [f"stages.{i}.steps=1" for i in range(4)]
    common = {"device": "cpu", "workers": 0, "overrides": [*smaller("teacher-tiny"), *steps]}
    stores, taught = [store, labelled], tmp_path / "teacher"
    train(None, stores, verb=TRAIN_TEACHER, out=taught, **common)
    train(None, stores, verb=DISTILL, teacher=taught, out=tmp_path / "student", **common)
    logged = (tmp_path / "student" / "metrics.jsonl").read_text().splitlines()
    assert ["loss/distil_flow" in line for line in logged] == [False, True, False, True]
    assert ["loss/distil_mask" in line for line in logged] == [False, False, True, True]


@pytest.mark.parametrize(
    ("convention", "nearest", "farthest"), [("scaled", 0.1, 1 / 0.1099), ("inverse", 1.0, 100.0)]
)
def test_a_mean_of_bins_is_depth_in_both_conventions(
    store, smaller, tmp_path, convention, nearest, farthest
):
    overrides = [*smaller("unified-kitti-tiny"), "stages.0.steps=2"]
    overrides += [f"depth.convention={convention}"]
    run = {"out": tmp_path / "run", "device": "cpu", "workers": 0}
    assert train("unified-kitti-tiny", [store], overrides=overrides, **run)["loss"] > 0
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 80, 3), np.uint8)
    made = load_predictor(tmp_path / "run", "cpu").predict((images[0], images[1]))
    assert made.T_previous_current is not None
    assert made.depth.shape == (48, 80)
    assert nearest < made.depth.min() < made.depth.max() < farthest
    inverse = made.disparity if convention == "inverse" else 0.01 + 9.99 * made.disparity
    np.testing.assert_allclose(made.depth_at(made.disparity.shape), 1 / inverse, rtol=1e-5)


def test_torn_and_resumed_skip_attention_ends_in_the_same_bytes(store, smaller, tmp_path):
    """The decoder and the encoder of pairs keep nothing that a checkpoint does not hold."""
    overrides = [*smaller("unified-sep-tiny"), "stages.0.steps=3"]

    def run(out, tell=lambda progress: None):
        options = {"device": "cpu", "workers": 0, "checkpoint_every": 1}
        reporter = Reporter(progress=tell)
        train(
            "unified-sep-tiny", [store], out=out, overrides=overrides, reporter=reporter, **options
        )
        return (list_checkpoints(out / "checkpoints")[-1] / "model.safetensors").read_bytes()

    def tear(progress: Progress):
        if progress.done == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(tmp_path / "torn", tear)
    assert list_checkpoints(tmp_path / "torn" / "checkpoints"), "torn before anything was saved"
    assert run(tmp_path / "torn") == run(tmp_path / "whole")


def test_a_finished_run_starts_over_only_when_told_to(store, tmp_path):
    out = tmp_path / "run"
    again = {"out": out, "device": "cpu", "workers": 0}
    sets = ["image_size=[64, 128]", "stages.0.steps=1"]
    train("unified-tiny", [store], overrides=sets, **again)
    (out / "eval-depth.json").write_text("{}")  # what people keep beside a run stays
    said: list[str] = []
    reporter = Reporter(say=said.append)
    train("unified-tiny", [store], overrides=sets, reporter=reporter, **again)
    assert any("finished already" in line for line in said)
    report = train("unified-tiny", [store], overrides=sets, fresh=True, **again)
    assert report["steps"] == 1
    assert (out / "curves.png").exists()
    assert (out / "eval-depth.json").exists()
