"""The whole network at full size: a few real steps of each stage, and all outputs of what it is."""

import logging

import numpy as np
import pytest

from unienc_core import machine
from unienc_core.checkpoint import list_checkpoints, load_checkpoint
from unienc_core.contracts import Progress, Reporter
from unienc_core.inference.predictor import load_predictor
from unienc_core.training.distillation import without_teacher
from unienc_core.workflows.prepare import prepare_synth_city
from unienc_core.workflows.train import train

LOG = logging.getLogger(__name__)
SIZE = (192, 512)
STEPS = 3
OVERRIDES = [
    "network.encoders.main.options.pretrained=false",
    *(f"stages.{stage}.steps={STEPS}" for stage in range(4)),
]


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    """A street with labels."""
    folder = tmp_path_factory.mktemp("city")
    prepare_synth_city(folder, splits={"train": (1, 8)}, image_size=SIZE, supersample=1, workers=1)
    return folder / "train"


@pytest.mark.slow
def test_the_whole_network_takes_real_steps_of_each_stage(city, tmp_path):
    lines: list[str] = []

    def show(progress: Progress) -> None:
        LOG.info("%s %s of %s, %s", progress.task, progress.done, progress.total, progress.text)

    machine.reset_peak_memory()
    report = train(
        "unified-cityscapes",
        [city],
        out=tmp_path / "run",
        overrides=OVERRIDES,
        device="cpu",
        threads=2,
        workers=0,
        reporter=Reporter(say=lines.append, progress=show),
    )
    LOG.info("%s s, at most %s bytes", report["seconds"], machine.peak_memory())
    assert report["steps"] == 4 * STEPS
    assert report["bad_steps"] == 0
    assert np.isfinite(report["loss"])
    stages = [line.split(",")[0] for line in lines if line.startswith("stage ")]
    assert stages == ["stage depth-pose-masks", "stage flow", "stage motion", "stage everything"]
    assert list_checkpoints(tmp_path / "run" / "checkpoints")

    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.preset == without_teacher(checkpoint.preset)
    held = {".".join(name.split(".")[:2]) for name in checkpoint.model_tensors()}
    heads = ("depth", "pose", "scene_flow", "motion_mask", "masks")
    assert held == {"encoders.main", *(f"heads.{name}" for name in heads)}

    predictor = load_predictor(tmp_path / "run", "cpu")
    images = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), np.uint8)
    made = predictor.predict((images[0], images[1]), predictor.outputs)
    assert made.depth is not None
    assert made.depth.shape == SIZE
    assert made.T_previous_current is not None
    assert made.scene_motion is not None
    assert made.segmentation.panoptic_ids is not None
    assert made.segmentation.label_ids is not None
    assert made.segmentation.instances is not None
