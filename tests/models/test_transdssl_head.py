"""The skip-attention depth head: its size, its numbers against NumPy, its closed forms."""

import numpy as np
import pytest
import torch
from numpy_layers import Layers
from torch import nn

from unienc_core.contracts import FeaturePyramid, NodeInputs, PyramidSpec
from unienc_core.errors import WiringError
from unienc_core.geometry.camera import disparity_to_depth
from unienc_core.models.heads import TransDSSLDepth
from unienc_core.models.heads.transdssl import expectation
from unienc_core.models.site import NodeSite

SWIN_T = PyramidSpec((4, 8, 16, 32), (96, 192, 384, 768))
SMALL_SWIN = PyramidSpec((4, 8, 16, 32), (3, 4, 5, 6))
SMALL_RESNET = PyramidSpec((2, 4, 8, 16, 32), (2, 3, 4, 5, 6))
DILATED = PyramidSpec((2, 4, 8, 8, 8), (2, 3, 4, 5, 6))
GAP = PyramidSpec((4, 16), (3, 4))
SIZE = (96, 160)  # 3 x 5 at stride 32
SMALL = {"width": 4, "hidden": 3, "bins": 5}


def head(spec=SMALL_SWIN, **options) -> TransDSSLDepth:
    torch.manual_seed(1)
    site = NodeSite("depth", "frame", SIZE, 3, (spec,), (1,))
    return TransDSSLDepth(site, **(SMALL | options))


def levels_of(spec: PyramidSpec, count: int = 2, seed: int = 0, **options) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(count, c, SIZE[0] // s, SIZE[1] // s, generator=generator, **options)
        for s, c in zip(spec.strides, spec.channels, strict=True)
    ]


def run(made: TransDSSLDepth, spec=SMALL_SWIN, levels=None) -> dict:
    levels = levels_of(spec) if levels is None else levels
    pyramid = FeaturePyramid(levels, spec.strides)
    return made(NodeInputs([pyramid], torch.rand(2, 3, *SIZE), {}, 2))


def test_parameters_at_the_published_widths():
    site = NodeSite("depth", "frame", (192, 640), 3, (SWIN_T,), (1,))
    c, laterals = 256, (96 + 192 + 384 + 768) * 256
    unit = 2 * (9 * c * c + c)
    mix = c * c + c
    block = 2 * unit + 2 * mix
    to_bins = (9 * c * 128 + 128) + (9 * 128 * 32 + 32)
    by_hand = laterals + (unit + mix) + 4 * block + 4 * to_bins
    assert by_hand == 12_909_952
    assert sum(p.numel() for p in TransDSSLDepth(site).parameters()) == by_hand


class Naive(Layers):
    """The head in float64 NumPy, written from the formulas and in their order."""

    def __init__(self, made: TransDSSLDepth) -> None:
        super().__init__(made)
        self.bins = np.linspace(0.01, 1.0, 5).reshape(1, -1, 1, 1)

    @staticmethod
    def enlarge(x, factor=2):
        """Corner pixels keep their centres."""
        for axis in (2, 3):
            n = x.shape[axis]
            at = np.arange(factor * n) * (n - 1) / (factor * n - 1)
            low = np.minimum(at.astype(int), n - 2)
            share = np.expand_dims(at - low, tuple(i for i in range(4) if i != axis))
            x = np.take(x, low, axis) * (1 - share) + np.take(x, low + 1, axis) * share
        return x

    def unit(self, x, name):
        inner = self.conv(np.maximum(x, 0), f"{name}.residual.1")
        return x + self.conv(np.maximum(inner, 0), f"{name}.residual.3")

    @staticmethod
    def softmax(x):
        e = np.exp(x - x.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    def out(self, y, name):
        return self.conv(self.enlarge(y), f"{name}.out.0")

    def fuse(self, d, e, name):
        s = d + e
        attention = self.softmax(
            self.conv(self.unit(e, f"{name}.attention.0"), f"{name}.attention.1")
        )
        return self.out(self.unit(s * attention, f"{name}.refine") + s, name)

    def disparity(self, x, number):
        logits = self.conv(self.conv(x, f"to_bins.{number}.0"), f"to_bins.{number}.1")
        return (self.softmax(logits) * self.bins).sum(1, keepdims=True)


def naive_scales(made, levels):
    naive = Naive(made)
    coarse_to_fine = [x.double().numpy() for x in levels[::-1]]
    laterals = [naive.conv(x, f"laterals.{i}") for i, x in enumerate(coarse_to_fine)]
    if len(laterals) == 4:
        laterals.append(naive.enlarge(laterals[-1]))
    p = [naive.out(naive.unit(laterals[0], "top.refine"), "top")]
    for i, e in enumerate(laterals[1:]):
        p.append(naive.fuse(p[-1], e, f"fusions.{i}"))
    return [naive.disparity(p[4 - i], i) for i in range(4)]


@pytest.mark.parametrize("spec", [SMALL_SWIN, SMALL_RESNET], ids=["swin", "resnet"])
def test_numbers_equal_those_of_numpy(spec):
    made = head(spec)
    nn.init.normal_(made.to_bins[0][1].weight, std=2.0)  # far from uniform
    levels = levels_of(spec)
    expected = naive_scales(made, levels)
    found = run(made.double(), spec, [x.double() for x in levels])["disparity_scales"]
    assert [x.shape[2:] for x in found] == [(96, 160), (48, 80), (24, 40), (12, 20)]
    for x, wanted in zip(found, expected, strict=True):
        # The bin values are kept in float32.
        torch.testing.assert_close(x, torch.from_numpy(wanted), rtol=1e-6, atol=1e-7)
    assert found[0].std() > 0.05


def test_half_resolution_is_the_full_one_without_its_last_block():
    full, half = head(scales=4), head(scales=3, resolution="half")
    state = full.state_dict()
    kept = {k.replace("to_bins.", "to_bins.-"): v for k, v in state.items()}
    for i in range(3):
        kept = {k.replace(f"to_bins.-{i + 1}", f"to_bins.{i}"): v for k, v in kept.items()}
    half.load_state_dict({k: v for k, v in kept.items() if k in half.state_dict()})
    for a, b in zip(run(half)["disparity_scales"], run(full)["disparity_scales"][1:], strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("spec", "most"), [(SMALL_SWIN, 5), (SMALL_RESNET, 5), (DILATED, 4), (GAP, 4)]
)
def test_scales_halve_from_full_size(spec, most):
    for scales in (1, most):
        made = run(head(spec, scales=scales), spec)
        sizes = [tuple(x.shape) for x in made["disparity_scales"]]
        assert sizes == [(2, 1, SIZE[0] // 2**i, SIZE[1] // 2**i) for i in range(scales)]
        assert made["disparity"] is made["disparity_scales"][0]
    with pytest.raises(WiringError, match=f"possible are 1 to {most}"):
        head(spec, scales=most + 1)


@pytest.mark.parametrize("resolution", ["full", "half"])
@pytest.mark.parametrize("spec", [SMALL_SWIN, SMALL_RESNET, DILATED])
def test_a_level_at_stride_2_is_read_at_full_resolution_only(spec, resolution):
    levels = levels_of(spec, requires_grad=True)
    run(head(spec, resolution=resolution, scales=1), spec, list(levels))[
        "disparity"
    ].sum().backward()
    for level, stride in zip(levels, spec.strides, strict=True):
        read = resolution == "full" or stride > 2
        assert (level.grad is not None and bool(level.grad.any())) == read


def test_expectation_has_its_closed_forms():
    values = torch.linspace(0.01, 1, 32, dtype=torch.float64).view(-1, 1, 1)
    logits = torch.zeros(5, 32, 1, 1, dtype=torch.float64)
    logits[1, 7] = 1e3  # one bin
    logits[2, [0, 31]] = 1e3  # two, equally
    logits[3, 0], logits[3, 31] = 1e3 + np.log(3), 1e3  # three to one
    logits[4] = 41.0  # uniform, wherever the level lies
    found = expectation(logits, values).flatten()
    wanted = torch.tensor([0.505, 0.01 + 7 * 0.99 / 31, 0.505, 0.2575, 0.505], dtype=torch.float64)
    torch.testing.assert_close(found, wanted)


def test_expectation_of_half_precision_logits_is_taken_in_float32():
    torch.manual_seed(0)
    logits, values = 4 * torch.randn(2, 32, 3, 5).bfloat16(), torch.linspace(0.01, 1, 32)
    found = expectation(logits, values.view(-1, 1, 1))
    p = np.exp(logits.double().numpy())
    wanted = np.einsum("bchw,c->bhw", p / p.sum(1, keepdims=True), values.double().numpy())
    np.testing.assert_allclose(found[:, 0].numpy(), wanted, rtol=1e-5)


def test_a_head_that_says_nothing_is_in_the_middle():
    site = NodeSite("depth", "frame", SIZE, 3, (SMALL_SWIN,), (1,))
    made = TransDSSLDepth(site, width=4, hidden=4)
    for convs in made.to_bins:
        nn.init.zeros_(convs[1].weight)
        nn.init.zeros_(convs[1].bias)
    for x in run(made)["disparity_scales"]:
        torch.testing.assert_close(x, torch.full_like(x, 0.505))


def test_disparity_stays_within_the_grid_and_its_depth_within_reach():
    made = head(scales=1)
    nn.init.normal_(made.to_bins[0][1].weight, std=300.0)
    disparity = run(made)["disparity"]
    assert disparity.min().item() == pytest.approx(0.01, abs=1e-3)
    assert disparity.max().item() == pytest.approx(1.0, abs=1e-3)
    assert disparity.min() >= 0.01 - 1e-6
    assert disparity.max() <= 1 + 1e-6
    ends = torch.tensor([0.01, 1.0], dtype=torch.float64)
    reach = disparity_to_depth(ends, 0.1, 100.0, "scaled")
    torch.testing.assert_close(reach, torch.tensor([1 / 0.1099, 0.1], dtype=torch.float64))
    reach = disparity_to_depth(ends, 0.1, 100.0, "inverse")
    torch.testing.assert_close(reach, torch.tensor([100.0, 1.0], dtype=torch.float64))


def test_attention_is_a_softmax_over_channels_of_the_skip_alone():
    """Where refining and mixing change nothing, y = s (1 + A), so that A can be read off."""
    fusion = head().fusions[0].double()
    for unit in (fusion.refine,):
        nn.init.zeros_(unit.residual[3].weight)
        nn.init.zeros_(unit.residual[3].bias)
    fusion.out = nn.Identity()
    torch.manual_seed(0)
    skip = torch.randn(2, 4, 6, 10, dtype=torch.float64)
    read = []
    for _ in range(2):
        decoded = torch.randn_like(skip)
        read.append(fusion(decoded, skip) / (decoded + skip) - 1)
    torch.testing.assert_close(read[0], read[1])
    torch.testing.assert_close(read[0].sum(1), torch.ones(2, 6, 10, dtype=torch.float64))
    assert read[0].std() > 1e-3
    other = fusion(decoded, skip + 1) / (decoded + skip + 1) - 1
    assert (other - read[0]).abs().max() > 1e-3


def test_a_unit_leaves_its_input_alone():
    made = head()
    x = torch.randn(1, 4, 3, 5)
    before = x.clone()
    made.top.refine(x)
    assert torch.equal(x, before)


def test_gradients_are_right():
    spec = PyramidSpec((4, 8), (2, 3))
    site = NodeSite("depth", "frame", (8, 24), 3, (spec,), (1,))
    torch.manual_seed(0)
    made = TransDSSLDepth(site, width=3, hidden=2, bins=4, scales=2).double()

    def disparities(fine, coarse):
        pyramid = FeaturePyramid([fine, coarse], spec.strides)
        return tuple(made(NodeInputs([pyramid], fine, {}, 1))["disparity_scales"])

    fine = torch.randn(1, 2, 2, 6, dtype=torch.float64, requires_grad=True)
    coarse = torch.randn(1, 3, 1, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(disparities, (fine, coarse))


def test_disparity_is_computed_in_float32_under_bf16():
    made = head(scales=1)
    exact = run(made)["disparity"]
    with torch.autocast("cpu", torch.bfloat16):
        found = run(made)["disparity"]
    assert found.dtype == torch.float32
    # They lie between 0.38 and 0.56, where bfloat16 has some 80 numbers.
    assert found.unique().numel() > 1000
    torch.testing.assert_close(found, exact, atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("spec", "options", "words"),
    [
        (SMALL_SWIN, {"scales": 0}, "0 scales"),
        (SMALL_SWIN, {"bins": 1}, "1 bins over grid .*at least 2"),
        (SMALL_SWIN, {"grid": (0.5, 0.5)}, "grid \\[0.5, 0.5\\]"),
        (SMALL_SWIN, {"grid": (0.01, 1.5)}, "within 0..1"),
        (PyramidSpec((4, 12), (4, 4)), {}, "strides 12 and 4 are not powers of two apart"),
    ],
)
def test_what_does_not_fit_is_refused(spec, options, words):
    with pytest.raises(WiringError, match=words):
        head(spec, **options)
