"""`eval-depth --protocol photometric`: closed forms, the training term as oracle, and the verb."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from unienc_cli.main import run
from unienc_core.checkpoint import save_checkpoint
from unienc_core.contracts import StepContext
from unienc_core.data.dataset import TripletDataset
from unienc_core.data.keys import standard_keys
from unienc_core.data.loader import StepLoader
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.store import Store
from unienc_core.data.store_writer import StoreWriter
from unienc_core.errors import DataError, UsageError
from unienc_core.losses.objective import Objective
from unienc_core.models.network import build_network
from unienc_core.presets import load_preset
from unienc_core.training.module import TrainModule
from unienc_core.workflows.evaluate import eval_depth, format_report
from unienc_core.workflows.photometric_scoring import PhotometricScores, eval_photometric

SMALL = [
    "image_size=[64, 96]",
    "network.encoders.main.options.model_args={channels: [8, 8, 16, 16], layers: [1, 1, 1, 1]}",
    "network.heads.depth.options.channels=[8, 8, 8, 8]",
    "network.heads.depth.options.scales=1",  # the protocol scores the finest scale
]
GAP = 2


def grey(value: float, *axes: int) -> torch.Tensor:
    return torch.full((*axes, 3, 8, 10), value, dtype=torch.float64)


def flat_error(a: float, b: float) -> float:
    """The error between two pictures of one brightness each: their variances are 0."""
    similarity = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    return 0.85 * (1 - similarity) / 2 + 0.15 * abs(a - b)


def test_flat_pictures_in_closed_form():
    scores = PhotometricScores()
    sources = torch.stack([grey(0.9, 1), grey(0.3, 1)], 1)
    scores.add(grey(0.5, 1), sources, torch.stack([grey(0.55, 1), grey(0.2, 1)], 1))
    scores.add(grey(0.5, 1), sources, torch.stack([grey(0.9, 1), grey(0.3, 1)], 1))
    found = scores.result()
    identity = min(flat_error(0.5, 0.9), flat_error(0.5, 0.3))
    assert found["identity"] == pytest.approx(identity, rel=1e-6)
    assert found["photometric"] == pytest.approx((flat_error(0.5, 0.55) + identity) / 2, rel=1e-6)
    assert found["keep"] == 0.5  # what is equal is not better
    assert scores.num_images == 2


def test_a_view_that_is_the_target_leaves_no_error():
    target = torch.rand(2, 3, 8, 10, generator=torch.Generator().manual_seed(0))
    scores = PhotometricScores()
    scores.add(target, torch.rand(2, 2, 3, 8, 10), target.unsqueeze(1).expand(2, 2, 3, 8, 10))
    assert scores.result() == pytest.approx(
        {**scores.result(), "photometric": 0.0, "keep": 1.0}, abs=1e-6
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Seven triplets, so that the last batch is smaller."""
    rng = np.random.default_rng(0)
    K = np.array([[80.0, 0, 47.5], [0, 80.0, 31.5], [0, 0, 1]])
    wide = rng.integers(0, 255, (64, 120, 3)).astype(np.uint8)
    spec = StoreSpec(
        source="toy", split="val", image_size=(64, 96), gap=GAP, keys=standard_keys("image", "K")
    )
    path = tmp_path_factory.mktemp("toy") / "val"
    with StoreWriter(path, spec) as writer:
        frames = [{"image": np.ascontiguousarray(wide[:, i : i + 96]), "K": K} for i in range(11)]
        writer.add_drive("drive", frames)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    preset = load_preset("unified-tiny", SMALL)
    network = build_network(preset, load_pretrained=False, seed=3)
    return save_checkpoint(
        tmp_path_factory.mktemp("run"),
        preset=preset,
        model=network.state_dict(),
        optimizer={},
        state={"step": 0, "seed": 3},
    )


def test_it_is_the_training_term_without_its_mask(store, checkpoint):
    """The term, called on the same triplets one by one, is the oracle."""
    preset = load_preset("unified-tiny", [*SMALL, "terms.photometric.options.automask=false"])
    network = build_network(preset, load_pretrained=False, seed=3).eval()
    module = TrainModule(network, Objective(preset), preset)
    stage = preset.stages[0].model_copy(update={"terms": ("photometric",)})
    stream = preset.streams["triplets"].model_copy(update={"batch_size": 1})
    opened = Store(store)
    data = TripletDataset(opened, stream, preset.image_size, train=False)
    losses = []
    with torch.no_grad():
        for _, batch in StepLoader(data).steps(0, len(data)):
            total, _ = module({"triplets": batch}, stage, StepContext())
            losses.append(float(total))
    report = eval_photometric(store, checkpoint)
    assert report["num_images"] == len(losses) == 7
    assert report["metrics"]["photometric"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_report_says_what_made_it(store, checkpoint):
    report = eval_depth(store.parent, checkpoint=checkpoint, protocol="photometric")
    assert report["protocol"] == "photometric"
    assert report["data"]["gap"] == GAP
    assert report["size"] == [64, 96]
    assert set(report["metrics"]) == {"photometric", "identity", "keep"}
    assert "7 triplets of gap 2 at 64x96" in format_report(report)
    dry = eval_depth(store, checkpoint=checkpoint, protocol="photometric", dry_run=True)
    assert (dry["dry_run"], dry["num_images"]) == (True, 7)
    assert "7 images would be scored" in format_report(dry)


def test_thresholds_know_its_metrics(store, checkpoint, capsys):
    command = ["eval-depth", str(store), "--checkpoint", str(checkpoint), "--json", "--quiet"]
    command += ["--protocol", "photometric"]
    assert run([*command, "--fail-over", "photometric=0.9", "--fail-under", "keep=0"]) == 0
    assert run([*command, "--fail-over", "photometric=0.0001"]) == 7
    document = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert document["metrics"]["photometric"] > 0.0001
    assert run([*command, "--fail-over", "abs_rel=1"]) == 2
    assert run([*command[:-1], "photometic"]) == 2
    assert "did you mean 'photometric'" in capsys.readouterr().err


def test_what_makes_no_sense_is_refused(store, checkpoint, tmp_path):
    for extra in ({"plots": tmp_path / "p"}, {"scale": "factor=2"}, {"kind": "disparity"}):
        with pytest.raises(UsageError, match="takes a store and a checkpoint"):
            eval_depth(store, checkpoint=checkpoint, protocol="photometric", **extra)
    opened = Store(store)
    spec = StoreSpec(source="toy", image_size=(64, 96), keys=standard_keys("image", "K"))
    frames = [opened.frame(0, 0, ("image", "K"))] * 2
    with StoreWriter(tmp_path / "short", spec) as writer:
        writer.add_drive("drive", frames)
    with pytest.raises(DataError, match="no triplet"):
        eval_photometric(tmp_path / "short", checkpoint)
