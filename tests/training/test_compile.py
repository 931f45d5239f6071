"""`torch.compile` of nodes: in training only, under the same names, with the same numbers."""

import os
import subprocess
import sys

import pytest
import torch
from tiny_store import write_tiny_store
from torch._inductor.exc import InductorError
from training_runs import Crash, assert_same_end, crash_at

from unienc_core.checkpoint import load_checkpoint, load_tensors
from unienc_core.errors import UsageError
from unienc_core.models.compiling import compiled
from unienc_core.models.network import build_network
from unienc_core.presets import preset_from_dict
from unienc_core.safe_yaml import parse_yaml
from unienc_core.workflows.train import train

PRESET = """
name: compiled
image_size: [64, 96]
network:
  encoders:
    main:
      type: timm
      compile: true
      options:
        name: resnet18
        model_args: {channels: [4, 4, 4, 4], stem_width: 4, layers: [1, 1, 1, 1]}
  heads:
    depth:
      type: unet
      reads: [main]
      compile: true
      options: {channels: [4, 4, 4, 4, 4], scales: 1}
    pose: {type: single_scale, reads: [main], view: pair}
streams:
  triplets: {kind: triplets, batch_size: 2}
terms:
  photometric: {}
  smooth: {weight: 1e-3}
optimizer: {lr: 3e-4, clip_norm: 1.0}
stages:
  - {name: start, steps: 3, terms: [photometric, smooth], trains: ["heads.*"]}
  - {name: all, steps: 3, terms: [photometric, smooth]}
"""


def preset(compile=True):
    raw = parse_yaml(PRESET, "test")
    for node in (raw["network"]["encoders"]["main"], raw["network"]["heads"]["depth"]):
        node["compile"] = compile
    return preset_from_dict(raw)


def batch(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 2, 3, 64, 96, generator=generator, dtype=dtype)
    return {"triplets": {"target_image": images[0], "source_images": images[1:].transpose(0, 1)}}


def test_training_alone_is_compiled_and_names_stay(monkeypatch):
    calls = []

    def fake(module):
        def run(*args):
            calls.append(type(module).__name__)
            return module(*args)

        return run

    monkeypatch.setattr(torch, "compile", fake)
    network = build_network(preset())
    names = list(network.state_dict())
    network.compile_nodes(preset())
    assert list(network.state_dict()) == names
    network.train()(batch())
    assert calls == ["TimmEncoder", "UNetDepth"]
    network.eval()(batch())
    assert len(calls) == 2


def test_a_compiler_that_fails_is_one_line_with_the_remedy(monkeypatch):
    def fails(*args):
        raise InductorError(RuntimeError("No working C++ compiler found\nin ..."), None)

    monkeypatch.setattr(torch, "compile", lambda module: fails)
    with pytest.raises(UsageError) as caught:
        compiled(torch.nn.Identity(), "network.heads.depth")(1)
    message = str(caught.value)
    assert message.startswith("network.heads.depth.compile: torch.compile does not work here: ")
    assert "No working C++ compiler found" in message
    assert "(g++)" in message
    assert "\n" not in message


@pytest.mark.slow
def test_without_a_compiler_that_is_what_happens(tmp_path):
    """In a process of its own: what compiler there is, torch looks up once."""
    script = (
        "import torch\n"
        "from unienc_core.models.compiling import compiled\n"
        "compiled(torch.nn.SiLU(), 'network.heads.depth')(torch.ones(8))\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("PATH", "CXX")}
    environment |= {"PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    last = done.stderr.strip().splitlines()[-1]
    assert "UsageError: network.heads.depth.compile: torch.compile does not work here" in last
    assert "No working C++ compiler found" in last


@pytest.mark.slow
def test_gradients_are_those_of_the_plain_run():
    gradients = []
    for wanted in (preset(), preset(compile=False)):
        network = build_network(wanted).double().train()
        network.compile_nodes(wanted)
        out = network(batch(torch.float64))["triplets"]
        (out["disparity"].square().mean() + out["translation"].square().sum()).backward()
        gradients.append({name: p.grad for name, p in network.named_parameters()})
    for name, expected in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], expected, rtol=1e-8, atol=1e-14)


@pytest.mark.slow
def test_resume_and_evaluation_of_a_compiled_run(tmp_path):
    (tmp_path / "compiled.yaml").write_text(PRESET)
    store = write_tiny_store(tmp_path / "store")

    def run(out, crash=None):
        inputs = {"device": "cpu", "threads": 1, "workers": 0, "checkpoint_every": 2}
        reporter = crash_at(crash)
        train(str(tmp_path / "compiled.yaml"), [store], out=out, reporter=reporter, **inputs)

    run(tmp_path / "whole")
    with pytest.raises(Crash):
        run(tmp_path / "torn", crash=5)
    run(tmp_path / "torn")
    assert_same_end(tmp_path / "whole", tmp_path / "torn")
    network = build_network(preset(compile=False), load_pretrained=False)
    load_tensors(network, load_checkpoint(tmp_path / "whole").model_tensors(), "checkpoint")
