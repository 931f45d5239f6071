"""Every command of the README works as written, at smoke size, in the order of the page."""

import re
import shlex
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from cityscapes_toys import write_small_cityscapes
from kitti_toys import write_small_kitti
from steering_toys import write_small_steering

from unienc_cli.main import run
from unienc_core.data.seg_files.instance_files import write_instances
from unienc_core.data.seg_files.label_files import read_instance_ids, write_label_ids
from unienc_core.models import timm_compat
from unienc_core.presets import load_preset
from unienc_core.segmentation import Instance
from unienc_core.workflows.export_panoptic import export_panoptic
from unienc_core.workflows.training_verbs import VERBS

ROOT = Path(__file__).resolve().parents[2]

# The page's sizes are for people; a test asks the same for less.
SMALLER = {"24x25": "2x4", "8x10": "1x3", "1x75": "1x4", "96x320": "64x96"}
SMALLER["0:10"] = "0"
SMALLER |= {"60x40": "4x24", "8x40": "1x24", "10": "2"}  # windows of sixteen frames, in two folds
SMALLER |= {"768x2048": "24x64", "192x640": "32x96", "1/8": "1/2"}
SMALLER["camera_height=store"] = "factor=9"  # after two steps a network shows no ground
SHORTER = ["--set", "image_size=[64, 96]", "--workers", "0"]


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("unienc ")]


def smaller(words: list[str]) -> list[str]:
    arguments = [SMALLER.get(word, word) for word in words[1:]]
    verb = next((verb for verb in VERBS if verb.name == arguments[0]), None)
    if verb is None:
        return arguments
    name = words[words.index("--preset") + 1] if "--preset" in words else verb.preset
    stages = [f"stages.{i}.steps=2" for i in range(len(load_preset(name).stages))]
    return [*arguments, *SHORTER, *(word for stage in stages for word in ("--set", stage))]


def write_clip(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for i in range(4):
            image = np.full((96, 160, 3), 40 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode())


def write_drive(path: Path, seed: int) -> None:
    """A clip of a camera that slides along a painted wall."""
    rng = np.random.default_rng(seed)
    wall = cv2.GaussianBlur(rng.normal(size=(96, 300, 3)), (0, 0), 3)
    wall = np.clip(wall * 600 + 128, 30, 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for i in range(40):
            view = np.ascontiguousarray(wall[:, 2 * i : 2 * i + 160])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view)))
        container.mux(stream.encode())


def write_depths(folder: Path, noise: float) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    depth = rng.uniform(2, 40, (60, 80)).astype(np.float32)
    np.save(folder / "0001.npy", depth * (1 + noise * rng.random((60, 80), np.float32)))


def write_segmentations(folder: Path) -> None:
    """Predictions of a Cityscapes, as good as its ground truth, and a room of three classes."""
    for name in ("my_labels", "my_rooms", "true_rooms"):
        (folder / name).mkdir()
    truth = sorted((folder / "cityscapes" / "gtFine" / "val").glob("*/*_instanceIds.png"))
    export_panoptic(truth, folder / "my_panoptic", "val")
    for path in truth:
        key, ids = path.name.split("_gtFine")[0], read_instance_ids(path)
        write_label_ids(folder / "my_labels", key, np.where(ids < 1000, ids, 26).astype(np.uint8))
        cars = [Instance(26, 0.9, ids == value) for value in np.unique(ids[ids >= 26000])]
        write_instances(folder / "my_instances", key, cars)
    for name in ("my_rooms", "true_rooms"):
        write_label_ids(folder / name, "kitchen", np.full((8, 8), 1, np.uint8))
    text = (ROOT / "README.md").read_text()
    (table,) = re.findall(r"```yaml\n(name: rooms.*?)```", text, re.S)
    (folder / "rooms.yaml").write_text(table)


def test_the_page_shows_every_verb() -> None:
    shown = {words[1] for words in commands()}
    verbs = {"prepare-data", "train-student", "eval-depth", "infer-video", "presets", "data"}
    verbs |= {"runs", "doctor", "eval-seg", "eval-motion", "import-weights"}
    verbs |= {"train-teacher", "distill", "finetune-steering", "eval-steering"}
    assert shown == verbs


def test_every_command_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "drive.mp4")
    write_drive(tmp_path / "monday.mp4", 0)
    write_drive(tmp_path / "tuesday.mp4", 1)
    for split in ("train", "val", "test"):
        write_small_cityscapes(tmp_path / "cityscapes", split)
    write_segmentations(tmp_path)
    write_small_kitti(tmp_path)
    write_small_steering(tmp_path)
    write_depths(tmp_path / "my_depths", 0.1)
    write_depths(tmp_path / "true_depths", 0.0)
    torch.save(timm_compat.create_model("resnet18").state_dict(), "resnet18.pth")
    for words in commands():
        code = run(smaller(words))
        assert code == 0, f"{shlex.join(words)}\n{capsys.readouterr().err}"
    assert (tmp_path / "drive_unienc.mp4").exists()
    assert (tmp_path / "city_drive.mp4").exists()
    assert any((tmp_path / "out" / "drive_unienc_depth").glob("*.png"))
    assert (tmp_path / "mine.yaml").exists()
    assert any((tmp_path / "plots").iterdir())
    assert (tmp_path / "plots-seg" / "worst.png").exists()
    assert (tmp_path / "plots-motion" / "precision-recall.png").exists()
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S):
        names: dict[str, object] = {}
        exec(block, names)
        assert names["motion"].shape == (4, 4)
