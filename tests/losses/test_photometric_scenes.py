"""The photometric term on exact scenes: what it keeps, and which way its gradient points."""

import numpy as np
import pytest
import torch
from analytic_scenes import F64, plane_values

from unienc_core.contracts import StepContext
from unienc_core.geometry import camera, se3
from unienc_core.geometry.warp import warp_ego
from unienc_core.losses.photometric import TIE_NOISE, Photometric
from unienc_core.presets import DepthSpec
from unienc_core.view_synthesis import synthesise


def scene_values(**changes):
    values = plane_values() | changes
    return values | {
        "warped_scales": [
            warp_ego(
                values["source_images"],
                values["depth_gt"],
                values["K"],
                values["T_source_target"],
            )[0]
        ]
    }


def test_a_standing_camera_teaches_nothing():
    values = plane_values(B=1)
    target = values["target_image"]
    values["source_images"] = target.unsqueeze(1).expand(1, 2, *target.shape[1:]).clone()
    t = values["T_source_target"].clone().requires_grad_()
    values["warped_scales"] = [
        warp_ego(values["source_images"], values["depth_gt"], values["K"], t)[0]
    ]
    term = Photometric()
    loss = term(values, StepContext())
    assert term.logs["automask_keep"] == 0
    assert loss.abs().item() < TIE_NOISE
    loss.sum().backward()
    assert t.grad is not None
    assert t.grad.abs().max() == 0


def test_a_moving_camera_with_true_depth_and_pose_keeps_nearly_all():
    term = Photometric()
    loss = term(scene_values(), StepContext())
    logs = {key: value.item() for key, value in term.logs.items()}
    assert logs["automask_keep"] > 0.85
    assert logs["warped"] < 0.25 * logs["identity"]
    assert loss.mean().item() <= logs["warped"]


def test_without_learning_the_log_shows_the_identity_level():
    values = scene_values(T_source_target=torch.eye(4, dtype=F64).expand(2, 2, 4, 4))
    term = Photometric()
    loss = term(values, StepContext())
    assert term.logs["warped"].item() == pytest.approx(term.logs["identity"].item(), abs=2e-5)
    assert loss.mean().item() == pytest.approx(term.logs["identity"].item(), abs=2e-5)
    assert Photometric(automask=False).logs == {}


@pytest.mark.parametrize("factor", [0.85, 0.95, 1.05, 1.15])
def test_moving_depth_towards_the_truth_lowers_the_loss(factor):
    values = plane_values()
    scale = torch.tensor(factor, dtype=F64, requires_grad=True)

    def loss(s):
        args = values["depth_gt"] * s, values["K"], values["T_source_target"]
        warped, _ = warp_ego(values["source_images"], *args)
        return Photometric(automask=False)(values | {"warped_scales": [warped]}, StepContext())

    (gradient,) = torch.autograd.grad(loss(scale).mean(), scale)
    assert gradient.sign().item() == np.sign(factor - 1)
    nearer = 1 + 0.8 * (factor - 1)
    assert loss(nearer).mean() < loss(scale).mean()
    assert loss(1.0).mean() < loss(nearer).mean()


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_every_scale_of_disparity_is_pushed_towards_the_truth_all_over_the_image(factor, dtype):
    """Depth too large: descent raises the disparity, so the gradient is negative; and back."""
    values = {key: value.to(dtype) for key, value in plane_values(H=37, W=61).items()}
    spec = DepthSpec(min=0.5, max=50.0)
    disparity = camera.depth_to_disparity(values["depth_gt"] * factor, 0.5, 50.0)
    sizes = ((37, 61), (19, 31), (10, 16))
    scales = [
        torch.nn.functional.interpolate(disparity, size, mode="bilinear").requires_grad_()
        for size in sizes
    ]
    made = synthesise(values | {"disparity_scales": scales}, "ego", spec, (37, 61))
    loss = Photometric(automask=False)(made, StepContext())
    for gradient in torch.autograd.grad(loss.sum(), scales):
        wanted = np.sign(factor - 1) * -gradient
        assert (wanted.sum((1, 2, 3)) > 0).all()
        blocks = torch.nn.functional.adaptive_avg_pool2d(wanted, (3, 5))
        assert (blocks > 0).double().mean() > 0.8


@pytest.mark.parametrize("part", ["axis_angle", "translation"])
def test_following_the_pose_gradient_leads_towards_the_truth(part):
    values = plane_values()
    truth = values[part]
    error = 0.01 if part == "axis_angle" else 0.1
    offset = error * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1), dtype=F64)
    wrong = (truth + offset).requires_grad_()

    def loss(pose):
        pose = {k: values[k] for k in ("axis_angle", "translation")} | {part: pose}
        T_st = se3.make_T(pose["axis_angle"], pose["translation"])
        warped, _ = warp_ego(values["source_images"], values["depth_gt"], values["K"], T_st)
        # One source at a time: each has to find its own way.
        return sum(
            Photometric(automask=False)(
                values | {"warped_scales": [warped[:, s : s + 1]]}, StepContext()
            )
            for s in range(2)
        )

    (gradient,) = torch.autograd.grad(loss(wrong).sum(), wrong)
    assert ((gradient * offset).sum(-1) > 0).all()
    nearer = truth + 0.7 * offset
    assert (loss(nearer) < loss(wrong)).all()
    assert (loss(truth) < loss(nearer)).all()


def test_the_mirrored_world_has_the_same_loss():
    """Images, K, disparity and poses mirrored together, cx far from the centre."""
    values = plane_values()
    W, size = 60, (36, 60)
    spec = DepthSpec(min=0.5, max=50.0)
    disparity = camera.depth_to_disparity(values["depth_gt"] * 1.1, 0.5, 50.0)
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0], dtype=F64))
    values["disparity_scales"] = [disparity]
    flipped = {
        "target_image": values["target_image"].flip(-1),
        "source_images": values["source_images"].flip(-1),
        "K": camera.flip_K(values["K"], W),
        "disparity_scales": [disparity.flip(-1)],
        "T_source_target": mirror @ values["T_source_target"] @ mirror,
    }
    term = Photometric(automask=False)
    plain, mirrored = (
        term(synthesise(v, "ego", spec, size), StepContext()) for v in (values, flipped)
    )
    torch.testing.assert_close(plain, mirrored, rtol=0, atol=1e-12)
    flipped["K"] = values["K"]  # forgetting K must show, or this test could not fail
    wrong = term(synthesise(flipped, "ego", spec, size), StepContext())
    assert (wrong - plain).abs().min() > 1e-4
