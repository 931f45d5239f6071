"""The U-Net depth head fits any pyramid."""

import pytest
import torch

from unienc_core.contracts import FeaturePyramid, NodeInputs, PyramidSpec
from unienc_core.errors import WiringError
from unienc_core.models.heads import UNetDepth
from unienc_core.models.site import NodeSite

RESNET18 = PyramidSpec((2, 4, 8, 16, 32), (64, 64, 128, 256, 512))
SMALL_RESNET = PyramidSpec((2, 4, 8, 16, 32), (4, 4, 6, 8, 10))
SMALL_SWIN = PyramidSpec((4, 8, 16, 32), (4, 6, 8, 10))
DILATED = PyramidSpec((2, 4, 8, 8, 8), (4, 4, 6, 8, 10))
SIZE = (64, 96)


def head(spec=SMALL_RESNET, **options) -> UNetDepth:
    site = NodeSite("depth", "frame", SIZE, 3, (spec,), (1,))
    return UNetDepth(site, **({"channels": (2, 3, 4, 5, 6)} | options))


def run(made: UNetDepth, spec=SMALL_RESNET) -> dict:
    torch.manual_seed(0)
    height, width = SIZE
    levels = [
        torch.randn(2, c, height // s, width // s)
        for s, c in zip(spec.strides, spec.channels, strict=True)
    ]
    return made(NodeInputs([FeaturePyramid(levels, spec.strides)], torch.rand(2, 3, *SIZE), {}, 2))


def test_parameters_at_the_usual_widths():
    site = NodeSite("depth", "frame", (192, 640), 3, (RESNET18,), (1,))
    assert sum(p.numel() for p in UNetDepth(site).parameters()) == 3_152_724


@pytest.mark.parametrize("spec", [SMALL_RESNET, SMALL_SWIN, DILATED], ids=["r", "swin", "dilated"])
@pytest.mark.parametrize("scales", [1, 4])
def test_scales_halve_from_full_size(spec, scales):
    made = run(head(spec, scales=scales), spec)
    sizes = [tuple(x.shape) for x in made["disparity_scales"]]
    assert sizes == [(2, 1, SIZE[0] // 2**i, SIZE[1] // 2**i) for i in range(scales)]
    assert made["disparity"] is made["disparity_scales"][0]
    for x in made["disparity_scales"]:
        assert x.min() > 0
        assert x.max() < 1


def test_an_untrained_head_starts_at_the_asked_disparity():
    for start in (0.1, 0.5):
        made = run(head(initial_disparity=start, norm="batch"))["disparity"]
        assert made.mean().item() == pytest.approx(start, rel=0.35)
    with pytest.raises(WiringError, match="within 0..1"):
        head(initial_disparity=1.0)


def test_half_resolution_ends_one_block_earlier():
    made = run(head(channels=(3, 4, 5, 6), resolution="half", scales=2))
    assert [x.shape[2] for x in made["disparity_scales"]] == [32, 16]


def test_every_level_is_used():
    for spec in (SMALL_RESNET, SMALL_SWIN, DILATED):
        made = head(spec)
        height, width = SIZE
        levels = [
            torch.randn(1, c, height // s, width // s, requires_grad=True)
            for s, c in zip(spec.strides, spec.channels, strict=True)
        ]
        pyramid = FeaturePyramid(list(levels), spec.strides)
        made(NodeInputs([pyramid], torch.rand(1, 3, *SIZE), {}, 1))["disparity"].sum().backward()
        assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in levels)


def test_norm_is_an_option():
    norms = [m for m in head(norm="batch").modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 10
    assert not [m for m in head().modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_disparity_is_exact_to_float32_under_bf16():
    with torch.autocast("cpu", torch.bfloat16):
        assert run(head())["disparity"].dtype == torch.float32


@pytest.mark.parametrize(
    ("spec", "options", "words"),
    [
        (SMALL_RESNET, {"channels": (2, 3, 4, 5)}, "4 widths .* takes 5 blocks to reach stride 1"),
        (SMALL_RESNET, {"scales": 6}, "6 scales asked for, possible are 1 to 5"),
        (SMALL_RESNET, {"scales": 0}, "0 scales"),
        (PyramidSpec((4, 12), (4, 4)), {}, "strides 12 and 4 are not powers of two apart"),
        (PyramidSpec((32, 64), (4, 4)), {}, "leaves less than two pixels at stride 64"),
    ],
)
def test_what_does_not_fit_is_refused(spec, options, words):
    with pytest.raises(WiringError, match=words):
        head(spec, **options)
