"""bf16: the network in half precision, everything that needs it in float32, training as in fp32."""

import json

import pytest
import torch
from tiny_store import write_tiny_store

from unienc_core.checkpoint import load_checkpoint
from unienc_core.inference.predictor import Predictor
from unienc_core.models.network import build_network
from unienc_core.training import module as training_module
from unienc_core.workflows.train import train

SETS = (
    "image_size=[64, 128]",
    "stages.0.steps=12",
    "optimizer.lr=1e-4",
    # Rounding flips choices of the auto-mask, from which two runs part: fewest at one scale.
    "network.heads.depth.options.scales=1",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Reports and logs of the same short training in both precisions."""
    root = tmp_path_factory.mktemp("precision")
    store = write_tiny_store(root / "store")
    logs = {}
    for precision in ("fp32", "bf16"):
        sets = [*SETS, f"optimizer.precision={precision}"]
        out = root / precision
        train("unified-tiny", [store], out=out, overrides=sets, device="cpu", workers=0)
        logs[precision] = [json.loads(x) for x in (out / "metrics.jsonl").read_text().splitlines()]
    return root, logs


def test_bf16_trains_as_fp32_does(runs):
    """Within 2% in the mean loss of twelve steps; bf16 itself rounds to 0.4%."""
    _, logs = runs
    for full, half in zip(logs["fp32"], logs["bf16"], strict=True):
        assert half["bad_steps"] == 0
        for key in ("loss/total", "loss/photometric", "mean_disparity"):
            assert half[key] == pytest.approx(full[key], rel=0.02), key
            assert half[key] != full[key]
    assert logs["bf16"][-1]["loss/total"] < logs["bf16"][0]["loss/total"]


def test_weights_and_what_inference_computes_are_float32(runs):
    root, _ = runs
    checkpoint = load_checkpoint(root / "bf16")
    tensors = checkpoint.model_tensors()
    assert {t.dtype for t in tensors.values() if t.is_floating_point()} == {torch.float32}
    network = build_network(checkpoint.preset, load_pretrained=False)
    network.load_state_dict(tensors)
    seen = set()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda m, i, out: seen.add(out.dtype))
    predictor = Predictor(network, checkpoint.preset)
    predictor.predict(torch.zeros(64, 128, 3, dtype=torch.uint8).numpy())
    assert seen == {torch.float32}


def test_geometry_and_losses_see_float32(runs, tmp_path, monkeypatch):
    """Half precision would move a pixel coordinate of 300 by 2."""
    root, _ = runs
    seen = {}
    synthesise = training_module.synthesise

    def watching(values, *rest, **options):
        added = synthesise(values, *rest, **options)
        for key, value in added.items():
            for x in value if isinstance(value, list) else [value]:
                if torch.is_tensor(x) and x.is_floating_point():
                    seen.setdefault(key, set()).add(x.dtype)
        assert not torch.is_autocast_enabled("cpu")
        return added

    monkeypatch.setattr(training_module, "synthesise", watching)
    sets = ["image_size=[64, 128]", "stages.0.steps=1", "optimizer.precision=bf16"]
    train("unified-tiny", [root / "store"], out=tmp_path, overrides=sets, device="cpu", workers=0)
    assert {"disparity", "T_source_target", "warped"} <= seen.keys()
    assert set.union(*seen.values()) == {torch.float32}
