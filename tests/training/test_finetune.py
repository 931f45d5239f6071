"""Fine-tuning: which weights a run starts from, what does not fit, how it resumes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_store import write_tiny_store

from unienc_cli.main import run
from unienc_core.checkpoint import load_checkpoint
from unienc_core.contracts import Reporter
from unienc_core.errors import CheckpointError, UsageError
from unienc_core.models.network import build_network
from unienc_core.presets import load_preset
from unienc_core.training.initial import start_from
from unienc_core.training.run_dir import RunIdentity
from unienc_core.workflows.photometric_scoring import eval_photometric
from unienc_core.workflows.prepare_video import prepare_video
from unienc_core.workflows.train import train
from unienc_core.workflows.video_request import VideoRequest

SMALL = [
    "image_size=[64, 96]",
    "streams.triplets.batch_size=2",
    "stages.0.steps=3",
    "network.encoders.main.options.model_args={channels: [8, 8, 16, 16], layers: [1, 1, 1, 1]}",
    "network.heads.depth.options.channels=[8, 8, 8, 8]",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return write_tiny_store(tmp_path_factory.mktemp("data") / "store")


@pytest.fixture(scope="module")
def first(tmp_path_factory, store) -> Path:
    """A run of three steps."""
    out = tmp_path_factory.mktemp("runs") / "first"
    train("unified-tiny", [store], out=out, overrides=SMALL, workers=0)
    return out


def tensors(run_folder):
    return load_checkpoint(run_folder).model_tensors()


def test_a_run_starts_from_the_weights_and_from_nothing_else(first, store, tmp_path):
    """One step at a rate of nearly nothing leaves the weights where they were."""
    changes = ["stages.0.steps=1", "optimizer.lr=1e-30"]
    out = tmp_path / "tuned"
    said = []
    train(
        None,
        [store],
        out=out,
        overrides=changes,
        seed=5,
        workers=0,
        init=first,
        reporter=Reporter(say=said.append),
    )
    before, after = tensors(first), tensors(out)
    assert before.keys() == after.keys()
    # A weight of exactly zero moves by the rate, all others by less than they are rounded to.
    moved = [k for k in before if (before[k].double() - after[k].double()).abs().max() > 1e-29]
    # Statistics of normalisation follow the new data; every weight is that of the first run.
    assert moved
    assert all("running_" in key or "num_batches" in key for key in moved)
    assert load_checkpoint(out).step == 1
    assert any("encoders.main, heads.depth, heads.pose" in line for line in said)


def test_it_is_on_record_and_resumes_only_as_what_it_is(first, store, tmp_path):
    out = tmp_path / "tuned"
    options = {"overrides": ["stages.0.steps=4"], "out": out, "workers": 0}
    report = train(None, [store], init=first, **options)
    record = json.loads((out / "run.json").read_text())
    assert record["init"] == load_checkpoint(first).state["files"]["model.safetensors"]["sha256"]
    whole = tensors(out)

    for leftover in (out / "checkpoints").iterdir():
        shutil.rmtree(leftover)
    half = {**options, "checkpoint_every": 2}
    record |= {"finished_at": None, "report": None}
    (out / "run.json").write_text(json.dumps(record))
    with pytest.raises(KeyboardInterrupt):
        train(None, [store], init=first, reporter=Reporter(progress=_stop_at(3)), **half)
    assert load_checkpoint(out).step == 2
    with pytest.raises(UsageError, match="init"):
        train("unified-tiny", [store], **{**options, "overrides": [*SMALL, "stages.0.steps=4"]})
    assert train(None, [store], init=first, **half)["steps"] == report["steps"]
    resumed = tensors(out)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def _stop_at(step):
    def progress(report):
        if report.done == step:
            raise KeyboardInterrupt

    return progress


def test_a_record_from_before_fine_tuning_still_resumes(first, store):
    record = json.loads((first / "run.json").read_text())
    del record["init"]
    (first / "run.json").write_text(json.dumps(record))
    report = train("unified-tiny", [store], out=first, overrides=SMALL, workers=0)
    assert report["steps"] == 3
    identity = RunIdentity(load_checkpoint(first).preset, 0, ())
    assert identity.record()["init"] is None


def test_weights_that_do_not_fit_are_listed(first):
    preset = load_preset("unified-tiny", [*SMALL, "network.heads.depth.options.channels=[8,8,8,9]"])
    network = build_network(preset, load_pretrained=False)
    with pytest.raises(CheckpointError, match=r"heads\.depth does not fit.*the network has.*more"):
        start_from(network, load_checkpoint(first), lambda line: None)


def test_a_node_that_only_one_side_has_is_said(first):
    checkpoint = load_checkpoint(first)
    raw = checkpoint.preset.model_dump(mode="json")
    raw["network"]["heads"]["second"] = raw["network"]["heads"].pop("pose")
    preset = type(checkpoint.preset).model_validate(raw)
    network, said = build_network(preset, load_pretrained=False, seed=1), []
    fresh = {k: v.clone() for k, v in network.get_submodule("heads.second").state_dict().items()}
    start_from(network, checkpoint, said.append)
    assert "heads.second starts afresh; heads.pose is not in this network" in said[0]
    kept = network.get_submodule("heads.second").state_dict()
    assert all(torch.equal(fresh[key], kept[key]) for key in fresh)
    loaded = network.get_submodule("encoders.main").state_dict()
    stored = checkpoint.model_tensors()
    assert all(torch.equal(loaded[key], stored[f"encoders.main.{key}"]) for key in loaded)


def test_the_verb_takes_the_checkpoints_preset_and_a_folder_of_its_own(
    first, store, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    command = ["train-student", str(store), "--init", str(first), "--workers", "0", "--json"]
    assert run([*command, "--set", "stages.0.steps=1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["run"] == "runs/unified-tiny-tuned-0"
    assert load_checkpoint(Path(report["run"])).preset.image_size == (64, 96)
    assert run([*command, "--weights", "x.safetensors"]) == 2
    assert run(["train-student", str(store), "--init", "nowhere"]) == 3
    assert "no such checkpoint" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.data
def test_fine_tuning_on_the_head_of_a_real_clip_helps_on_its_tail(real_data, store, tmp_path):
    """A network that has only seen a wall pass by learns from four fifths of a clip."""
    clip = real_data / "video" / "solidWhiteRight.mp4"
    drives = tmp_path / "drives"
    prepare_video([clip], drives, VideoRequest(image_size=(64, 128)))
    begun, tuned = tmp_path / "begun", tmp_path / "tuned"
    changes = ["image_size=[64, 128]", "stages.0.steps=40", "optimizer.lr=1e-3"]
    train("unified-tiny", [store], out=begun, overrides=changes, workers=0)
    changes = ["stages.0.steps=60", "optimizer.lr=3e-4"]
    train(None, [drives], init=begun, out=tuned, overrides=changes, workers=0)
    before, after = (eval_photometric(drives, path)["metrics"] for path in (begun, tuned))
    assert before["identity"] == after["identity"]
    assert after["photometric"] < 0.85 * before["photometric"]
