"""Gradient checkpointing: the same numbers to the last bit, and less memory."""

import copy

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from unienc_core.errors import WiringError
from unienc_core.models.network import build_network
from unienc_core.presets import Preset, preset_from_dict

SIZE = (64, 96)
RESNET = {
    "name": "resnet18",
    "model_args": {"channels": [8, 8, 12, 16], "stem_width": 8, "drop_path_rate": 0.3},
}
SWIN = {
    "name": "swin_tiny_patch4_window7_224",
    "model_args": {"embed_dim": 24, "depths": [2, 2, 2, 2]},
    "drop_path": 0.3,
}


def preset(backbone, *checkpointed, pose="multi_scale") -> Preset:
    pose_options = {"widths": [8, 8, 8, 8], "squeeze": 8} if pose == "multi_scale" else {}
    raw = {
        "name": "t",
        "image_size": SIZE,
        "network": {
            "encoders": {"main": {"type": "timm", "options": backbone}},
            "heads": {
                "depth": {
                    "type": "unet",
                    "reads": ["main"],
                    "options": {"channels": [8] * 5, "scales": 1, "norm": "batch"},
                },
                "pose": {"type": pose, "reads": ["main"], "view": "pair", "options": pose_options},
            },
        },
        "streams": {"triplets": {"kind": "triplets", "batch_size": 2}},
        "terms": {},
        "stages": [{"name": "s", "steps": 1, "terms": []}],
    }
    for family, name in (path.split(".") for path in checkpointed):
        raw["network"][family][name]["checkpointing"] = True
    return preset_from_dict(raw)


def batch():
    generator = torch.Generator().manual_seed(0)
    return {
        "triplets": {
            "target_image": torch.rand(2, 3, *SIZE, generator=generator),
            "source_images": torch.rand(2, 2, 3, *SIZE, generator=generator),
        }
    }


def step(network, dtype=None):
    """One forward and backward pass; return loss, gradients and buffers."""
    network.zero_grad()
    torch.manual_seed(5)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        out = network(batch())["triplets"]
    loss = out["disparity"].float().square().mean() + out["translation"].float().square().sum()
    loss.backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    return loss.detach(), gradients, {n: b.clone() for n, b in network.named_buffers()}


NODES = ("encoders.main", "heads.depth", "heads.pose")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backbone", [RESNET, SWIN], ids=["resnet", "swin"])
def test_gradients_and_batch_statistics_are_those_of_the_plain_run(backbone, dtype):
    plain = build_network(preset(backbone)).train()
    saving = build_network(preset(backbone, *NODES)).train()
    assert saving.state_dict().keys() == plain.state_dict().keys()
    saving.load_state_dict(plain.state_dict())
    for _ in range(2):  # drop-path differs from step to step, and statistics accumulate
        expected, found = step(plain, dtype), step(saving, dtype)
        assert torch.equal(found[0], expected[0])
        for part in (1, 2):
            assert found[part].keys() == expected[part].keys()
            for name, value in expected[part].items():
                assert torch.equal(found[part][name], value), name
    counted = [b for n, b in plain.named_buffers() if n.endswith("num_batches_tracked")]
    assert counted
    assert {int(count) for count in counted} == {2}


def test_one_graph_can_be_asked_for_gradients_more_than_once():
    """As the log of how tasks pull does; batch norms still count one pass."""
    network = build_network(preset(RESNET, *NODES)).train()
    loss = network(batch())["triplets"]["disparity"].square().mean()
    parameters = list(network.encoders.parameters())
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    second = torch.autograd.grad(loss, parameters)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    buffers = network.encoders.named_buffers()
    assert {int(b) for n, b in buffers if n.endswith("num_batches_tracked")} == {1}


def peak_bytes(work) -> int:
    """Return the most memory that was in use at once for what `work` allocated."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = profiler.profiler.kineto_results.events()
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


def test_memory_is_saved():
    peaks = []
    for nodes in ((), NODES):
        network = build_network(preset(SWIN, *nodes)).train()
        step(network)
        peaks.append(peak_bytes(lambda network=network: step(network)))
    assert peaks[1] < 0.7 * peaks[0]


def test_evaluation_runs_as_it_would_and_copies_are_their_own():
    network = build_network(preset(RESNET, *NODES)).eval()
    plain = build_network(preset(RESNET)).eval()
    plain.load_state_dict(network.state_dict())
    with torch.no_grad():
        expected = plain(batch())["triplets"]["disparity"]
        assert torch.equal(network(batch())["triplets"]["disparity"], expected)
        other = copy.deepcopy(network)
        for parameter in network.parameters():
            parameter.zero_()
        assert torch.equal(other(batch())["triplets"]["disparity"], expected)


def test_a_node_without_blocks_is_refused():
    with pytest.raises(WiringError, match=r"network.heads.pose.checkpointing: it has no blocks"):
        build_network(preset(RESNET, "heads.pose", pose="single_scale"))
