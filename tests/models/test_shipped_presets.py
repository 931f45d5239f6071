"""Every preset that ships builds, and its network learns from a batch."""

import pytest
import torch

from unienc_core.models.network import build_network
from unienc_core.presets import load_preset, preset_names


@pytest.mark.parametrize("name", preset_names())
def test_preset_builds_and_learns(name, smaller):
    preset = load_preset(name, smaller(name))
    network = build_network(preset, load_pretrained=False).train()
    height, width = preset.image_size
    batch = {
        "target_image": torch.rand(2, 3, height, width),
        "source_images": torch.rand(2, 2, 3, height, width),
        "source_offsets": torch.tensor([[-1, 1], [-1, 1]]),
        "K": torch.eye(3).repeat(2, 1, 1),
    }
    made = network({"triplets": batch})["triplets"]
    scales = preset.network.heads["depth"].options["scales"]
    assert len(made["disparity_scales"]) == scales
    sum(x.sum() for x in made["disparity_scales"]).backward(retain_graph=True)
    made["T_source_target"].sum().backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


def test_the_tiny_preset_is_tiny():
    counts = build_network(load_preset("unified-tiny")).parameter_counts()
    assert counts["encoders.main"] <= 5e6
    assert sum(counts.values()) <= 8e6
