"""Pose heads: sizes of the published networks, and what their six numbers mean."""

import numpy as np
import pytest
import torch
from numpy_layers import Layers

from unienc_core.contracts import FeaturePyramid, NodeInputs, PyramidSpec
from unienc_core.errors import WiringError
from unienc_core.geometry.se3 import make_T, matrix_to_axis_angle
from unienc_core.models.heads import MultiScalePose, SingleScalePose
from unienc_core.models.site import NodeSite

SWIN_T = PyramidSpec((4, 8, 16, 32), (96, 192, 384, 768))
RESNET18 = PyramidSpec((2, 4, 8, 16, 32), (64, 64, 128, 256, 512))
SMALL = PyramidSpec((2, 4, 8, 16, 32), (4, 4, 6, 8, 10))


def site(spec: PyramidSpec, frames: int = 2, view="pair") -> NodeSite:
    return NodeSite("pose", view, (64, 96), 6, (spec.times(frames),), (frames,))


def inputs(spec: PyramidSpec, frames: int = 2, count: int = 3) -> NodeInputs:
    torch.manual_seed(0)
    levels = [
        torch.randn(count, c * frames, 64 // s, 96 // s)
        for s, c in zip(spec.strides, spec.channels, strict=True)
    ]
    pyramid = FeaturePyramid(levels, spec.strides)
    return NodeInputs([pyramid], torch.rand(count, 6, 64, 96), {}, count)


def size(head: torch.nn.Module) -> int:
    return sum(p.numel() for p in head.parameters())


def test_sizes_of_the_published_heads():
    assert size(MultiScalePose(site(SWIN_T))) == pytest.approx(15.42e6, abs=5e3)
    assert size(SingleScalePose(site(RESNET18, frames=1))) == 1_314_572
    assert size(SingleScalePose(site(RESNET18, frames=2))) == 1_902_854


HEADS = {
    "multi": lambda: MultiScalePose(site(SMALL), widths=(4, 4, 6, 8), squeeze=4),
    "single": lambda: SingleScalePose(site(SMALL), squeeze=4),
}


@pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)
def test_the_six_numbers_are_the_motion_uninverted(make):
    made = make()(inputs(SMALL))
    motion = made["T_source_target"]
    assert motion.shape == (3, 4, 4)
    torch.testing.assert_close(motion[:, :3, 3], made["translation"])
    torch.testing.assert_close(matrix_to_axis_angle(motion[:, :3, :3]), made["axis_angle"])
    assert set(made) == {"axis_angle", "translation", "T_source_target"}


@pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)
def test_motion_is_the_mean_of_the_last_map_times_a_hundredth(make):
    head = make()
    last = head.decode.body[-1]
    torch.nn.init.zeros_(last.weight)
    with torch.no_grad():
        last.bias.copy_(torch.arange(len(last.bias)))
    made = head(inputs(SMALL))
    expected = 0.01 * torch.arange(6.0).expand(3, 6)
    torch.testing.assert_close(torch.cat([made["axis_angle"], made["translation"]], 1), expected)


class Naive(Layers):
    """Both heads in float64 NumPy: levels of a pair to six numbers."""

    def six_numbers(self, levels, frames):
        squeezed = [
            np.maximum(self.conv(x, "decode.squeeze"), 0) for x in np.split(levels, frames, 1)
        ]
        x = np.maximum(self.conv(np.concatenate(squeezed, 1), "decode.body.0"), 0)
        x = np.maximum(self.conv(x, "decode.body.2"), 0)
        return 0.01 * self.conv(x, "decode.body.4").mean((2, 3))[:, :6]

    def block(self, x, name, stride):
        inner = self.norm(self.conv(x, f"{name}.residual.0", stride), f"{name}.residual.1")
        inner = self.conv(np.maximum(inner, 0), f"{name}.residual.3")
        if stride == 2:
            x = self.norm(self.conv(x, f"{name}.shortcut.0", 2), f"{name}.shortcut.1")
        return np.maximum(self.norm(inner, f"{name}.residual.4") + x, 0)

    def multi_scale(self, levels):
        x = None
        for k, level in enumerate(levels):
            joined = level if x is None else np.concatenate([x, level], 1)
            x = self.conv(joined, f"stages.{k}.0")
            x = self.block(self.block(x, f"stages.{k}.1", 2), f"stages.{k}.2", 1)
        return self.six_numbers(x, 1)


def shaken(head: torch.nn.Module) -> torch.nn.Module:
    """Give weights and statistics values that tell layers apart, and motions from zero."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, value in head.state_dict().items():
            if "running_var" in name:
                value.uniform_(0.5, 2)
            elif value.dtype.is_floating_point:
                value.normal_(0, 0.4)
    return head.double().eval()


@pytest.mark.parametrize("kind", ["multi", "single, two frames", "single, a pair's encoder"])
def test_heads_equal_their_formulas_in_numpy(kind):
    frames = 1 if "encoder" in kind else 2
    spec = SMALL.times(2) if frames == 1 else SMALL
    make = MultiScalePose if kind == "multi" else SingleScalePose
    options = {"widths": (4, 4, 6, 8)} if kind == "multi" else {}
    head = shaken(make(site(spec, frames), squeeze=4, **options))
    given = inputs(spec, frames)
    levels = [x.double() for x in given.pyramids[0].levels]
    given.pyramids[0].levels[:] = levels
    made = head(given)
    arrays = [x.numpy() for x in levels]
    naive = Naive(head)
    if kind == "multi":
        expected = naive.multi_scale(arrays[1:])
    else:
        expected = naive.six_numbers(arrays[-1], frames)
    found = torch.cat([made["axis_angle"], made["translation"]], 1).numpy(force=True)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert np.abs(expected).min() > 1e-6


TEMPORAL = {
    "multi": lambda: MultiScalePose(
        site(SMALL), widths=(4, 4, 6, 8), squeeze=4, pair_order="temporal"
    ),
    "single": lambda: SingleScalePose(site(SMALL), squeeze=4, pair_order="temporal"),
}


@pytest.mark.parametrize("make", TEMPORAL.values(), ids=TEMPORAL)
def test_in_temporal_order_swapping_the_frames_inverts_the_motion(make):
    head = make().eval()
    torch.nn.init.normal_(head.decode.body[-1].weight, std=40.0)  # motions that can be told apart
    given = inputs(SMALL)
    swapped = given.pyramids[0].map(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1))
    offsets = torch.tensor([[-1], [1], [-2]])
    forth = head(NodeInputs(given.pyramids, given.images, {"source_offsets": offsets}, 3))
    back = head(NodeInputs([swapped], given.images, {"source_offsets": -offsets}, 3))
    product = forth["T_source_target"] @ back["T_source_target"]
    torch.testing.assert_close(product, torch.eye(4).expand(3, 4, 4))
    assert forth["translation"].abs().mean() > 0.005
    motion = forth["T_source_target"]
    torch.testing.assert_close(motion[:, :3, 3], forth["translation"])
    torch.testing.assert_close(matrix_to_axis_angle(motion[:, :3, :3]), forth["axis_angle"])


@pytest.mark.parametrize("make", TEMPORAL.values(), ids=TEMPORAL)
def test_in_temporal_order_the_numbers_are_the_motion_from_earlier_to_later(make):
    """T_later_earlier: as it comes where the source is the later frame, else inverted."""
    head = make()
    last = head.decode.body[-1]
    numbers = torch.tensor([1.0, -2, 3, 4, 5, -6])
    with torch.no_grad():
        last.weight.zero_()
        last.bias[:6] = numbers
    offsets = torch.tensor([[1], [-1], [2]])
    given = inputs(SMALL)
    made = head(NodeInputs(given.pyramids, given.images, {"source_offsets": offsets}, 3))
    as_it_comes = make_T(0.01 * numbers[None, :3], 0.01 * numbers[None, 3:])[0]
    inverse = torch.linalg.inv(as_it_comes)
    expected = torch.stack([as_it_comes, inverse, as_it_comes])
    torch.testing.assert_close(made["T_source_target"], expected)


def test_in_temporal_order_the_earlier_frame_comes_first():
    head = TEMPORAL["single"]()
    seen = []
    head.decode.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    given = inputs(SMALL)
    offsets = torch.tensor([[-1], [1], [-2]])
    head(NodeInputs(given.pyramids, given.images, {"source_offsets": offsets}, 3))
    last = given.pyramids[0].levels[-1]
    source, target = last.chunk(2, 1)
    expected = torch.stack([last[0], torch.cat([target[1], source[1]]), last[2]])
    torch.testing.assert_close(seen[0], expected)


def test_half_of_a_mixing_layer_starts_as_differences():
    head = MultiScalePose(site(SMALL), widths=(4, 4, 6, 8), squeeze=4)
    for stage, channels in zip(head.stages, (4, 6, 8, 10), strict=True):
        mix = stage[0]
        frame = torch.randn(1, channels, 2, 2)
        before = torch.zeros(1, mix.in_channels - 2 * channels, 2, 2)
        still = mix(torch.cat([before, frame, frame], 1)) - mix.bias.view(1, -1, 1, 1)
        half = mix.out_channels // 2
        torch.testing.assert_close(still[:, :half], torch.zeros_like(still[:, :half]))
        assert still[:, half:].abs().min() > 0


def test_half_of_the_joining_layer_starts_as_differences_too():
    joining = SingleScalePose(site(SMALL), squeeze=4).decode.body[0]
    frame = torch.randn(1, 4, 3, 3)
    still = joining(torch.cat([frame, frame], 1))
    torch.testing.assert_close(still[:, :2], torch.zeros(1, 2, 3, 3))
    assert still[:, 2:].abs().min() > 0


def test_multi_scale_reads_the_coarsest_levels_of_both_frames():
    head = MultiScalePose(site(SMALL), widths=(4, 4, 6, 8), squeeze=4)
    given = inputs(SMALL)
    levels = [x.requires_grad_() for x in given.pyramids[0].levels]
    head(given)["T_source_target"].square().sum().backward()
    assert levels[0].grad is None  # stride 2 has no stage
    for level in levels[1:]:
        assert level.grad is not None
        source, target = level.grad.chunk(2, 1)
        assert source.abs().sum() > 0
        assert target.abs().sum() > 0


def test_the_last_stage_halves_below_the_encoder():
    sizes = []
    head = MultiScalePose(site(SMALL), widths=(4, 4, 6, 8), squeeze=4)
    head.stages[-1].register_forward_hook(lambda m, i, out: sizes.append(out.shape[2:]))
    head(inputs(SMALL))
    assert sizes == [(1, 2)]  # 64 x 96 at stride 64, rounded up


def test_single_scale_treats_both_frames_by_the_same_weights():
    head = SingleScalePose(site(SMALL), squeeze=4)
    given = inputs(SMALL)
    seen = []
    head.decode.squeeze.register_forward_hook(lambda m, i, out: seen.append(i[0]))
    head(given)
    source, target = given.pyramids[0].levels[-1].chunk(2, 1)
    assert torch.equal(seen[0], source)
    assert torch.equal(seen[1], target)


def test_activations_do_not_fade_before_the_last_layer():
    """With torch's default initialisation they shrink to a twentieth, and no motion is learnt."""
    torch.manual_seed(0)
    decode = SingleScalePose(site(RESNET18, frames=1)).decode
    entering = []
    decode.body[-1].register_forward_hook(lambda m, args, out: entering.append(args[0]))
    decode(torch.randn(2, 512, 6, 8).relu())
    assert 0.3 < entering[0].square().mean().sqrt() < 1.5


def test_motion_is_float32_under_bf16():
    with torch.autocast("cpu", torch.bfloat16):
        made = HEADS["multi"]()(inputs(SMALL))
    assert {x.dtype for x in made.values()} == {torch.float32}


def test_what_does_not_fit_is_refused():
    with pytest.raises(WiringError, match="view: pair"):
        MultiScalePose(site(SMALL, view="frame"))
    with pytest.raises(WiringError, match="6 widths need as many levels"):
        MultiScalePose(site(SMALL), widths=(4,) * 6)
    with pytest.raises(WiringError, match="each half the size"):
        MultiScalePose(site(PyramidSpec((2, 4, 8, 8), (4, 4, 4, 4))), widths=(4, 4, 4, 4))
