"""Every shipped preset goes through the real trainer: one step, a checkpoint, and back."""

import pytest
from tiny_store import write_tiny_store

from unienc_core.checkpoint import load_checkpoint, load_tensors
from unienc_core.contracts import Reporter
from unienc_core.models.network import build_network
from unienc_core.presets import load_preset, preset_names
from unienc_core.workflows.train import train

# Full-size encoders at the depth and width that a test can afford.
SMALLER = {
    "swin_tiny_patch4_window7_224": [
        "network.encoders.main.options.pretrained=false",
        "network.encoders.main.options.model_args={embed_dim: 24, depths: [2, 2, 2, 2]}",
        "network.heads.pose.options.widths=[8, 8, 16, 16]",
    ],
}


@pytest.mark.parametrize("name", preset_names())
def test_one_step_is_trained_and_saved(name, tmp_path):
    backbone = load_preset(name).network.encoders["main"].options["name"]
    overrides = [*SMALLER.get(backbone, []), "stages.0.steps=1", "image_size=[64, 128]"]
    store = write_tiny_store(tmp_path / "store")
    report = train(
        name, [store], out=tmp_path / "run", overrides=overrides, device="cpu", workers=0
    )
    assert report["steps"] == 1
    assert report["loss"] > 0
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.preset == load_preset(name, overrides)
    network = build_network(checkpoint.preset, load_pretrained=False, seed=1)
    load_tensors(network, checkpoint.model_tensors(), "checkpoint")


def test_a_finished_run_starts_over_only_when_told_to(tmp_path):
    store = write_tiny_store(tmp_path / "store")
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
