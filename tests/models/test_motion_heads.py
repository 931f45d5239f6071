"""Heads of scene flow and motion mask: their formulas, their sizes, where gradients go."""

import numpy as np
import pytest
import torch
from motion_toys import RESNET, SIZE, SWIN, inputs, only_pose, shaken, site
from numpy_layers import Layers
from torch import nn

from unienc_core.contracts import NodeInputs, PyramidSpec
from unienc_core.models.heads import MotionMask, SceneFlow
from unienc_core.models.motion_decoder import FinerLevel, Refinement

SWIN_T = PyramidSpec((4, 8, 16, 32), (96, 192, 384, 768))
RESNET18 = PyramidSpec((2, 4, 8, 16, 32), (64, 64, 128, 256, 512))
DILATED = PyramidSpec((2, 4, 8, 8, 8), (4, 4, 6, 8, 10))
FORMS = ("paper_elu", "release_relu", "dynamo_linear")
KEYS = ((SceneFlow, "complete_flow"), (MotionMask, "motion_logits"))


def size_of(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("form", FORMS)
def test_sizes_of_the_published_decoders(form):
    """Everything of one head: stages, the pair's own level at half resolution, and the pose's."""
    with torch.device("meta"):
        assert size_of(SceneFlow(site(SWIN_T), motion_block=form)) == 56_739_905
        three = SceneFlow(site(RESNET18, frames=1, view="triple"), motion_block=form)
        assert size_of(three) == 6_378_260


def test_sizes_of_the_other_forms():
    with torch.device("meta"):
        assert size_of(MotionMask(site(SWIN_T))) == 56_674_979
        assert size_of(SceneFlow(site(RESNET18, frames=1))) == 6_377_345  # the teacher's: pairs
        assert size_of(MotionMask(site(RESNET18, frames=1))) == 6_354_659
        assert size_of(SceneFlow(site(SWIN_T), squeeze=64)) == 725_633


def test_a_squeeze_bounds_every_width():
    with torch.device("meta"):
        head = SceneFlow(site(SWIN_T), squeeze=64)
    assert [stage.second.in_channels for stage in head.decode.stages] == [64] * 5
    narrow = SceneFlow(site(SWIN), squeeze=13)  # pairs have 8, 12, 16, 20 channels
    assert [stage.second.in_channels for stage in narrow.decode.stages] == [13, 13, 12, 8, 8]


@pytest.mark.parametrize("size", [(64, 96), (32, 64), (96, 160)])
@pytest.mark.parametrize("spec", [SWIN, RESNET, DILATED], ids=["swin", "resnet", "dilated"])
def test_maps_halve_in_size_from_the_images_on(spec, size):
    given = inputs(spec, size=size)
    for head, key, channels in ((SceneFlow, "complete_flow", 3), (MotionMask, "motion_logits", 1)):
        made = head(site(spec), squeeze=6).double()(given)
        assert set(made) == set(head.produces) == {key, f"{key}_scales"}
        assert torch.equal(made[key], made[f"{key}_scales"][0])
        expected = [(3, channels, size[0] // 2**k, size[1] // 2**k) for k in range(4)]
        assert [tuple(x.shape) for x in made[f"{key}_scales"]] == expected
    assert len(SceneFlow(site(spec), scales=2).double()(given)["complete_flow_scales"]) == 2


# The formulas once more, in float64 NumPy.


def enlarge(x, size):
    """Bilinear, pixel centres at halves, borders repeated."""
    for axis, count in zip((2, 3), size, strict=True):
        old = x.shape[axis]
        at = np.clip((np.arange(count) + 0.5) * old / count - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        share = (at - low).reshape([-1 if i == axis else 1 for i in range(4)])
        high = np.minimum(low + 1, old - 1)
        x = (1 - share) * x.take(low, axis) + share * x.take(high, axis)
    return x


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


class Naive(Layers):
    """The decoder in the order in which it was published."""

    def refine(self, coarser, level, form, name=""):
        up = enlarge(coarser, level.shape[2:])
        a = self.conv(np.concatenate([up, level], 1), f"{name}first")
        b = self.conv(a, f"{name}second")
        if form == "release_relu":
            b = np.maximum(b, 0)
        added = self.conv(np.concatenate([a, b], 1), f"{name}to_map")
        return up + (elu(added) if form == "paper_elu" else added)

    def finer(self, level, name):
        height, width = level.shape[2:]
        x = self.conv(enlarge(level, (2 * height, 2 * width)), f"{name}.mix")
        for i in range(2):
            inner = f"{name}.refine.{i}.residual"
            y = elu(self.norm(self.conv(x, f"{inner}.0"), f"{inner}.1"))
            x = elu(self.norm(self.conv(y, f"{inner}.3"), f"{inner}.4") + x)
        return x

    def decode(self, levels, images, pose, form):
        """Levels of a Swin, finest first."""
        mean = np.tile([0.485, 0.456, 0.406], 2).reshape(1, 6, 1, 1)
        std = np.tile([0.229, 0.224, 0.225], 2).reshape(1, 6, 1, 1)
        finer = self.finer(levels[0], "decode.laterals.4")
        x, maps = self.conv(100 * pose[:, :, None, None], "decode.from_pose"), []
        for i, level in enumerate([*levels[::-1], finer]):
            x = self.refine(x, level, form, f"decode.stages.{i}.")
            maps.insert(0, x)
        return [self.refine(x, (images - mean) / std, form, "decode.from_images."), *maps]


@pytest.mark.parametrize("form", FORMS)
def test_a_stage_equals_its_formula_in_numpy(form):
    stage = shaken(Refinement(4, 3, form))
    coarser, level = torch.randn(2, 3, 2, 3).double(), torch.randn(2, 4, 4, 7).double()
    expected = Naive(stage).refine(coarser.numpy(), level.numpy(), form)
    found = stage(coarser, level).numpy(force=True)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("form", FORMS)
def test_heads_equal_the_published_order_of_things_in_numpy(form):
    head = shaken(SceneFlow(site(SWIN), motion_block=form), 0.1)
    given = inputs(SWIN)
    pose = torch.cat([given.values["translation"], given.values["axis_angle"]], 1)
    levels = [x.numpy() for x in given.pyramids[0].levels]
    expected = Naive(head).decode(levels, given.images.numpy(), pose.numpy(), form)
    for found, map_ in zip(head(given)["complete_flow_scales"], expected, strict=False):
        assert np.abs(map_).mean() > 1e-2
        np.testing.assert_allclose(found.numpy(force=True), 0.005 * map_, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_a_stage(form):
    stage = shaken(Refinement(3, 2, form))
    coarser = torch.randn(1, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    level = torch.randn(1, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(stage, (coarser, level))


def test_gradients_of_a_level_made_up():
    finer = shaken(FinerLevel(4, 2, 2))
    level = torch.randn(1, 4, 2, 2, dtype=torch.float64)

    def of_weight(weight):
        return torch.func.functional_call(finer, {"mix.weight": weight}, (level,))

    weight = finer.mix.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(of_weight, (weight,))


# What the maps start from and depend on.


@pytest.mark.parametrize("form", FORMS)
def test_an_untrained_head_says_half_and_hardly_any_flow(form):
    for seed in range(3):
        torch.manual_seed(seed)
        flow = SceneFlow(site(SWIN), motion_block=form).double()
        mask = MotionMask(site(SWIN), motion_block=form).double()
        assert flow(inputs(SWIN))["complete_flow"].abs().max() < 0.05
        torch.testing.assert_close(
            mask(inputs(SWIN))["motion_logits"].sigmoid(),
            torch.full((3, 1, *SIZE), 0.5, dtype=torch.float64),
            atol=0.01,
            rtol=0,
        )


@pytest.mark.parametrize("form", FORMS)
def test_the_coarsest_map_is_the_motion_times_a_hundred_translation_first(form):
    head = only_pose(SceneFlow(site(SWIN), motion_block=form))
    given = inputs(SWIN)
    for made in head(given)["complete_flow_scales"]:
        translation = given.values["translation"][:, :, None, None].expand_as(made)
        torch.testing.assert_close(made, 0.005 * 100 * translation)
    other = only_pose(SceneFlow(site(SWIN), output_scale=0.01, pose_scale=10.0))
    made = other(given)["complete_flow"]
    torch.testing.assert_close(made[..., 0, 0], 0.1 * given.values["translation"])


def test_the_papers_stages_lower_a_map_by_one_each_at_most():
    head = shaken(MotionMask(site(SWIN)), 3.0)
    given = inputs(SWIN)
    pose = torch.cat([given.values["translation"], given.values["axis_angle"]], 1)
    start = head.decode.from_pose(100 * pose[:, :, None, None])
    lowest = head(given)["motion_logits"] - 0.005 * start
    assert lowest.min() >= -6 * 0.005
    linear = shaken(MotionMask(site(SWIN), motion_block="dynamo_linear"), 3.0)
    assert (linear(given)["motion_logits"] - 0.005 * start).min() < -1


def test_no_gradient_goes_into_the_cameras_motion():
    given = inputs(SWIN)
    for value in given.values.values():
        value.requires_grad_()
    made = [head(site(SWIN), squeeze=6).double()(given)[key] for head, key in KEYS]
    sum(x.square().sum() for x in made).backward()
    assert all(value.grad is None for value in given.values.values())


def test_no_gradient_goes_through_a_level_that_was_made_up():
    head = shaken(SceneFlow(site(SWIN)), 0.1)
    with torch.no_grad():  # the stage that reads the level itself no longer looks at it
        head.decode.stages[3].first.weight[:, 3:] = 0
    given = inputs(SWIN)
    finest, *coarser = [x.requires_grad_() for x in given.pyramids[0].levels]
    made = head(given)["complete_flow"]
    made.square().sum().backward()
    assert finest.grad.abs().max() == 0
    assert all(x.grad.abs().sum() > 0 for x in coarser)
    with torch.no_grad():
        finest += 1
        assert (head(given)["complete_flow"] - made).abs().max() > 1e-4  # it is looked at, though


def test_an_encoder_with_a_level_at_half_resolution_learns_from_it():
    head = shaken(SceneFlow(site(RESNET, frames=1)), 0.1)
    assert not any(isinstance(m, FinerLevel) for m in head.modules())
    given = inputs(RESNET, frames=1)
    levels = [x.requires_grad_() for x in given.pyramids[0].levels]
    head(given)["complete_flow"].square().sum().backward()
    assert all(x.grad.abs().sum() > 0 for x in levels)


def test_a_level_further_off_is_enlarged_more():
    gap = PyramidSpec((8, 16, 32), (6, 8, 10))
    head = SceneFlow(site(gap)).double()
    assert [m.factor for m in head.modules() if isinstance(m, FinerLevel)] == [2, 4]
    assert head(inputs(gap))["complete_flow"].shape == (3, 3, *SIZE)


def test_maps_are_float32_under_bf16():
    head = SceneFlow(site(SWIN))
    given = inputs(SWIN)
    levels = given.pyramids[0].map(torch.Tensor.bfloat16)
    values = {k: v.float() for k, v in given.values.items()}
    with torch.autocast("cpu", torch.bfloat16):
        made = head(NodeInputs([levels], given.images.float(), values, 3))
    assert {x.dtype for x in made["complete_flow_scales"]} == {torch.float32}


def test_half_of_what_joins_frames_first_starts_as_their_difference():
    for squeezed in (False, True):
        head = SceneFlow(site(SWIN), squeeze=4 if squeezed else None)
        joining = [s.first for s in head.decode.stages[:4]]
        if squeezed:
            joining = list(head.decode.laterals[:4])
        joining += [head.decode.laterals[4].mix, head.decode.from_images.first]
        for conv in joining:
            check_blind_to_equal_frames(conv, 2)
    three = SceneFlow(site(RESNET, frames=1, view="triple"))
    check_blind_to_equal_frames(three.decode.from_images.first, 3)
    features = three.decode.stages[0].first.weight[:5, 3:].detach()  # joined by the encoder
    assert (features[:, :5] + features[:, 5:]).abs().min() > 0


def check_blind_to_equal_frames(conv: nn.Conv2d, frames: int) -> None:
    channels = (conv.in_channels - conv.in_channels % frames) // frames
    if conv.kernel_size == (3, 3):  # behind the three channels of the coarser map
        channels = (conv.in_channels - 3) // frames
    frame = torch.randn(1, channels, 3, 3)
    before = torch.zeros(1, conv.in_channels - frames * channels, 3, 3)
    still = conv(torch.cat([before, *[frame] * frames], 1)) - conv.bias.view(1, -1, 1, 1)
    half = conv.out_channels // 2
    torch.testing.assert_close(still[:, :half], torch.zeros_like(still[:, :half]))
    assert still[:, half:].abs().mean() > 0.01
