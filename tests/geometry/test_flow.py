"""Flow in space and on the image plane: closed forms of pure translation and rotation."""

import pytest
import torch
from torch.autograd import gradcheck

from unienc_core.errors import ShapeError
from unienc_core.geometry import camera, flow, se3

F64 = torch.float64
K = torch.tensor([[[50.0, 0.0, 4.3], [0.0, 60.0, 2.1], [0.0, 0.0, 1.0]]], dtype=F64)
DEPTH = 2.0 + 5.0 * torch.rand(1, 1, 5, 8, generator=torch.Generator().manual_seed(1), dtype=F64)
ZERO = torch.zeros(1, 3, dtype=F64)


def test_translation_moves_every_point_alike():
    t = torch.tensor([[0.1, -0.2, -0.7]], dtype=F64)
    found = flow.rigid_flow(DEPTH, K, se3.make_T(ZERO, t))
    torch.testing.assert_close(found, t.view(1, 3, 1, 1).expand(1, 3, 5, 8))


def test_no_motion_no_flow():
    T_st = se3.make_T(ZERO, ZERO)
    assert flow.rigid_flow(DEPTH, K, T_st).abs().max() == 0
    points = camera.backproject(DEPTH, K)
    assert flow.optical_flow(points, K).abs().max() < 1e-12
    assert flow.project_flow(points, torch.zeros_like(points), K).abs().max() == 0


def test_driving_forward_spreads_from_the_principal_point():
    """The scene comes t closer: u - cx grows by the factor z / (z - t)."""
    t = 0.5
    T_st = se3.make_T(ZERO, torch.tensor([[0.0, 0.0, -t]], dtype=F64))
    points = camera.backproject(DEPTH, K)
    found = flow.optical_flow(points + flow.rigid_flow(DEPTH, K, T_st), K)
    u, v, _ = camera.pixel_grid(5, 8, dtype=F64)
    growth = (t / (DEPTH - t))[:, 0]
    torch.testing.assert_close(found[:, 0], growth * (u - 4.3))
    torch.testing.assert_close(found[:, 1], growth * (v - 2.1))


def test_rotation_moves_pixels_whatever_their_depth():
    T_st = se3.make_T(torch.tensor([[0.01, -0.03, 0.02]], dtype=F64), ZERO)
    near, far = (camera.backproject(d * torch.ones_like(DEPTH), K) for d in (1.0, 90.0))
    torch.testing.assert_close(
        flow.optical_flow(se3.transform(T_st, near), K),
        flow.optical_flow(se3.transform(T_st, far), K),
    )


def test_image_motion_of_a_moving_point_by_hand():
    points = torch.tensor([1.0, 2.0, 4.0], dtype=F64).view(1, 3, 1, 1)
    step = torch.tensor([1.0, 0.0, -2.0], dtype=F64).view(1, 3, 1, 1)
    found = flow.project_flow(points, step, K).flatten().tolist()
    assert found == pytest.approx([50 * (2 / 2 - 1 / 4), 60 * (2 / 2 - 2 / 4)])


def test_on_the_pixel_grid_both_image_flows_agree():
    points = camera.backproject(DEPTH, K)
    step = flow.rigid_flow(DEPTH, K, se3.make_T(ZERO + 0.02, ZERO + 0.1))
    torch.testing.assert_close(
        flow.project_flow(points, step, K), flow.optical_flow(points + step, K)
    )


def test_points_that_pass_behind_the_camera_have_no_image_flow():
    points = camera.backproject(DEPTH, K)
    step = torch.tensor([0.0, 0.0, -20.0], dtype=F64).view(1, 3, 1, 1).expand_as(points).clone()
    step.requires_grad_()
    for found in (
        flow.optical_flow(points + step, K),
        flow.project_flow(points, step, K),
        flow.project_flow(points + step, -step, K),
    ):
        assert found.abs().max() == 0
        (gradient,) = torch.autograd.grad(found.sum(), step)
        assert gradient.isfinite().all()


def test_gradients_match_finite_differences():
    depth = DEPTH[..., :2, :3].clone().requires_grad_()
    v, t = (ZERO.clone().requires_grad_() for _ in range(2))
    assert gradcheck(lambda d, a, b: flow.rigid_flow(d, K, se3.make_T(a, b)), (depth, v, t))
    step = torch.rand(1, 3, 2, 3, dtype=F64, requires_grad=True)
    points = camera.backproject(depth.detach(), K)
    assert gradcheck(lambda s: flow.project_flow(points, s, K), (step,))


def test_batches_do_not_mix_and_types_stay():
    depth = DEPTH.float().repeat(3, 1, 1, 1) * torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1)
    T_st = se3.make_T(torch.randn(3, 3) * 0.1, torch.randn(3, 3))
    found = flow.rigid_flow(depth, K.float().expand(3, 3, 3), T_st)
    assert found.dtype == torch.float32
    alone = flow.rigid_flow(depth[1:2], K.float(), T_st[1:2])
    torch.testing.assert_close(found[1:2], alone, rtol=0, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(flow.rigid_flow(depth, K.float().expand(3, 3, 3), T_st), found)


def test_wrong_shapes_are_named():
    points = camera.backproject(DEPTH, K)
    with pytest.raises(ShapeError, match="flow"):
        flow.project_flow(points, points[..., :-1], K)
