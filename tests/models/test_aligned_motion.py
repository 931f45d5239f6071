"""Motion heads that see the source where the camera's own motion brings it."""

import pytest
import torch
from motion_toys import RESNET, SIZE, inputs, site

from unienc_core.contracts import NodeInputs
from unienc_core.errors import WiringError
from unienc_core.geometry import se3
from unienc_core.geometry.camera import K_from_fov, disparity_to_depth
from unienc_core.geometry.flow import rigid_flow
from unienc_core.models.ego_alignment import EgoAlignment
from unienc_core.models.heads import MotionMask, SceneFlow
from unienc_core.presets import DepthSpec
from unienc_core.view_synthesis import synthesise

SPEC = DepthSpec()
H, W = SIZE


def pairs(disparity, T_source_target, K, images=None):
    """Two targets of one source each, or one target of two: as many pairs as there are motions."""
    given = inputs(RESNET, count=len(T_source_target))
    pose = {"disparity": disparity, "T_source_target": T_source_target, "K": K}
    images = given.images if images is None else images
    return NodeInputs(given.pyramids, images, {**given.values, **pose}, len(K))


def sideways(pixels, K, depth):
    """The motion that moves all points at a depth by so many pixels to the right."""
    T_source_target = torch.eye(4, dtype=torch.float64).repeat(len(pixels), 1, 1)
    T_source_target[:, 0, 3] = torch.tensor(pixels).double() * depth / K[:, 0, 0]
    return T_source_target


def camera(count=1):
    return K_from_fov(60, H, W).double().expand(count, 3, 3)


def plane(disparity, count):
    depth = disparity_to_depth(torch.tensor(disparity), SPEC.min, SPEC.max, SPEC.convention)
    return torch.full((count, 1, H // 2, W // 2), disparity, dtype=torch.float64), depth


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_source_comes_to_lie_on_its_target(stride):
    """A wall ahead, and the camera moves sideways: by 8 pixels, that is 8 / stride cells."""
    disparity, depth = plane(0.3, 2)
    K = camera(2)
    align = EgoAlignment(pairs(disparity, sideways([8, -4], K, depth), K), SPEC)
    source = torch.rand(2, 3, H // stride, W // stride).double()
    target = torch.rand(2, 5, H // stride, W // stride).double()[:, :3]
    moved, kept = align(torch.cat([source, target], 1)).chunk(2, 1)
    right, left = 8 // stride, 4 // stride
    assert torch.equal(kept, target)
    assert torch.allclose(moved[0, :, :, :-right], source[0, :, :, right:], atol=1e-4)
    assert torch.allclose(moved[1, :, :, left:], source[1, :, :, :-left], atol=1e-4)
    # Beyond what the source shows, its border repeats.
    assert torch.allclose(moved[0, :, :, -right:], source[0, :, :, -1:].expand(3, -1, right))


def test_two_sources_of_one_target_share_its_intrinsics():
    disparity, depth = plane(0.5, 2)
    K = camera()
    align = EgoAlignment(pairs(disparity, sideways([2, -2], K, depth), K), SPEC)
    image = torch.rand(1, 3, H, W).double().repeat(2, 2, 1, 1)
    moved = align(image)[:, :3]
    assert torch.allclose(moved[0, :, :, :-2], image[0, :3, :, 2:], atol=1e-4)
    assert torch.allclose(moved[1, :, :, 2:], image[1, :3, :, :-2], atol=1e-4)


def random_pairs():
    torch.manual_seed(1)
    disparity = torch.rand(2, 1, H // 2, W // 2).double().requires_grad_()
    rotation, translation = 0.02 * torch.randn(2, 3).double(), 0.05 * torch.randn(2, 3).double()
    T_source_target = se3.make_T(rotation, translation).requires_grad_()
    return disparity, T_source_target, camera(2)


def silenced(head):
    """Let the decoder say nothing."""
    for name, parameter in head.named_parameters():
        if "to_map" in name or "from_pose" in name:
            torch.nn.init.zeros_(parameter)
    return head.double()


def test_a_silent_decoder_leaves_the_rigid_flow():
    disparity, T_source_target, K = random_pairs()
    head = silenced(SceneFlow(site(RESNET), aligned=True, scales=3))
    made = head(pairs(disparity, T_source_target, K))
    full = torch.nn.functional.interpolate(disparity, SIZE, mode="bilinear", align_corners=False)
    depth = disparity_to_depth(full, SPEC.min, SPEC.max, SPEC.convention)
    assert torch.allclose(made["complete_flow"], rigid_flow(depth, K, T_source_target), atol=1e-12)
    values = {
        "disparity_scales": [disparity.detach()],
        "complete_flow_scales": [x[:, None].detach() for x in made["complete_flow_scales"]],
        "T_source_target": T_source_target.detach()[:, None],
        "K": K,
    }
    own = synthesise(values, "ego", SPEC, SIZE, wanted=("independent_flow_scales",))
    assert len(own["independent_flow_scales"]) == 3
    assert all(x.abs().max() < 1e-12 for x in own["independent_flow_scales"])


@pytest.mark.parametrize("head", [SceneFlow, MotionMask])
def test_gradients_reach_the_features_and_neither_depth_nor_motion(head):
    disparity, T_source_target, K = random_pairs()
    given = pairs(disparity, T_source_target, K)
    level = given.pyramids[0].levels[2].requires_grad_()
    made = head(site(RESNET), aligned=True).double()(given)
    made[head.key].square().sum().backward()
    assert disparity.grad is None
    assert T_source_target.grad is None
    assert level.grad is not None
    source, target = level.grad.chunk(2, 1)
    assert source.abs().sum() > 0
    assert target.abs().sum() > 0


@pytest.mark.parametrize("head", [SceneFlow, MotionMask])
def test_an_aligned_head_sees_the_moved_source(head):
    """With the source moved beforehand and no motion left, it answers alike."""
    disparity, T_source_target, K = random_pairs()
    made = silenced(head(site(RESNET), aligned=True))
    torch.manual_seed(2)
    for stage in (*made.decode.stages, made.decode.from_images):
        torch.nn.init.normal_(stage.to_map.weight, std=0.1)
    given = pairs(disparity, T_source_target, K)
    align = EgoAlignment(given, SPEC)
    levels = [align(level) for level in given.pyramids[0].levels]
    still = pairs(disparity, torch.eye(4).double().repeat(2, 1, 1), K, align(given.images))
    still.pyramids[0] = type(given.pyramids[0])(levels, given.pyramids[0].strides)
    found, expected = made(given)[head.key], made(still)[head.key]
    if head is SceneFlow:
        found = found - align.rigid_flow
    assert expected.abs().max() > 1e-4
    assert torch.allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize(
    "place",
    [
        {"frames": 1, "view": "triple"},
        {"frames": 1},
        {"frames": 1, "temporal": True},
    ],
    ids=["three frames", "encoder of pairs", "pairs in time"],
)
def test_what_cannot_be_aligned_is_refused(place):
    order = "temporal" if place.get("temporal") else "target_last"
    with pytest.raises(WiringError, match="head 'motion': aligned needs view: pair"):
        SceneFlow(site(RESNET, **place), aligned=True, pair_order=order)
    with pytest.raises(WiringError, match="aligned needs"):
        MotionMask(site(RESNET), aligned=True, pair_order="temporal")
