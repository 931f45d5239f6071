"""`eval-seg STORE --checkpoint`: a network that knows nothing, from checkpoint to files."""

import json
from pathlib import Path

import numpy as np
import pytest
import seg_toys as toys
from seg_toys import write_seg_store

import unienc_core
from unienc_core.checkpoint import save_checkpoint
from unienc_core.errors import UsageError
from unienc_core.models.network import build_network
from unienc_core.presets import load_preset
from unienc_core.segmentation import Segmentation
from unienc_core.workflows.eval_seg import eval_seg
from unienc_core.workflows.seg_samples import TASKS

SMALL = [
    "network.heads.masks.options.width=16",
    "network.heads.masks.options.queries=12",
    "network.heads.masks.options.hidden=16",
    "network.heads.masks.options.text_width=16",
    "eval_size=[64, 96]",
]


def save(folder: Path, preset_name: str, overrides: list[str]) -> Path:
    preset = load_preset(preset_name, overrides)
    weights = build_network(preset).state_dict()
    state = {"step": 3, "seed": 5}
    save_checkpoint(folder / "checkpoints", preset=preset, model=weights, optimizer={}, state=state)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp("oneformer"), "oneformer-tiny", SMALL)


@pytest.mark.parametrize("task", TASKS)
def test_a_checkpoint_scores_as_its_exported_files(tmp_path, run, task) -> None:
    store = write_seg_store(tmp_path / "val")
    report = eval_seg(
        store,
        checkpoint=run,
        task=task,
        device="cpu",
        export=tmp_path / "out",
        plots=tmp_path / "plots",
    )
    assert report["checkpoint"] == str(run / "checkpoints" / "step-0000003")
    assert (report["seed"], report["num_images"], report["size"]) == (5, 2, [200, 300])
    json.dumps(report, allow_nan=False)
    assert list((tmp_path / "plots").iterdir())
    if task != "panoptic":  # a network that knows nothing is sure of no segment
        assert any((tmp_path / "out").iterdir())
    if task == "semantic":
        truth = tmp_path / "gtFine" / "val" / "ulm"
        for drive in range(2):
            stem = f"ulmtoy_{drive:06d}_000000_gtFine"
            toys.write_png(truth / f"{stem}_instanceIds.png", toys.scene())
            toys.write_png(truth / f"{stem}_labelIds.png", toys.label_ids_of(toys.scene()))
        again = eval_seg(
            predictions=tmp_path / "out", ground_truth=tmp_path / "gtFine", task=task, workers=1
        )
        assert again["metrics"] == report["metrics"]


def test_only_the_task_that_is_scored_is_computed(tmp_path, run, monkeypatch) -> None:
    asked = []

    def segment(self, image, tasks) -> Segmentation:
        asked.append(tuple(tasks))
        return Segmentation(label_ids=np.zeros(image.shape[:2], np.uint8))

    monkeypatch.setattr("unienc_core.inference.predictor.Predictor.segment", segment)
    eval_seg(write_seg_store(tmp_path / "val"), checkpoint=run, task="semantic", device="cpu")
    assert asked == [("semantic",)] * 2


def test_scores_are_made_at_their_own_size(run) -> None:
    predictor = unienc_core.load(run, "cpu")
    seen = []
    hook = predictor.network.encoders["main"].register_forward_pre_hook(
        lambda _, inputs: seen.append(tuple(inputs[0].shape[2:]))
    )
    image = np.zeros((50, 70, 3), np.uint8)
    predictor.segment(image)
    predictor.predict(image, ("semantic",))
    hook.remove()
    assert seen == [(64, 96), (96, 320)]


def test_classes_of_the_preset_are_those_of_the_scores(tmp_path) -> None:
    table = "{name: two, classes: [{id: 7, name: road}, {id: 26, name: car, thing: true}]}"
    run = save(tmp_path / "run", "oneformer-tiny", [*SMALL, f"class_table={table}"])
    store = write_seg_store(tmp_path / "val", drives=1)
    file = tmp_path / "all.yaml"
    others = ", ".join(f"{{id: {i}, name: c{i}, ignore: true}}" for i in (0, 8, 24))
    file.write_text(table.replace("]}", f", {others}]}}"))
    report = eval_seg(store, checkpoint=run, task="semantic", device="cpu", classes=file)
    assert set(report["per_class"]) == {"road", "car"}
    assert unienc_core.load(run, "cpu").classes.name == "two"


def test_a_network_without_segments_says_so(tmp_path) -> None:
    run = save(tmp_path / "run", "unified-tiny", [])
    with pytest.raises(UsageError, match=r"step-0000003: the network .* no segmentation head"):
        eval_seg(write_seg_store(tmp_path / "val"), checkpoint=run, device="cpu")
