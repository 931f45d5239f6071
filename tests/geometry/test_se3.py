"""Rigid motions: closed forms, the matrix exponential, derivatives at zero, kornia."""

import math

import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from unienc_core.errors import ShapeError
from unienc_core.geometry import se3

F64 = torch.float64
VECTOR = st.lists(st.floats(-4, 4), min_size=3, max_size=3).map(
    lambda v: torch.tensor(v, dtype=F64)
)


def cross_matrix(v):
    x, y, z = v.tolist()
    return torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=v.dtype)


def test_quarter_turns_by_hand():
    quarter = math.pi / 2
    turns = se3.axis_angle_to_matrix(quarter * torch.eye(3, dtype=F64))
    x, y, z = torch.eye(3, dtype=F64)
    torch.testing.assert_close(turns[0] @ y, z)
    torch.testing.assert_close(turns[1] @ z, x)
    torch.testing.assert_close(turns[2] @ x, y)


@given(v=VECTOR, size=st.sampled_from([1.0, 1e-2, 0.05, 1e-5, 1e-9, 0.0]))
@settings(max_examples=60, deadline=None)
def test_rotation_is_the_exponential_of_its_generator(v, size):
    v = v * size
    R = se3.axis_angle_to_matrix(v)
    # SciPy's exponential: torch's is off by 3e-12 at small angles.
    oracle = torch.from_numpy(scipy.linalg.expm(cross_matrix(v).numpy()))
    torch.testing.assert_close(R, oracle, rtol=0, atol=1e-13)
    torch.testing.assert_close(R @ R.T, torch.eye(3, dtype=F64), rtol=0, atol=1e-13)
    assert torch.linalg.det(R).item() == pytest.approx(1.0, abs=1e-13)


def test_zero_rotation_is_exactly_the_identity():
    assert torch.equal(se3.axis_angle_to_matrix(torch.zeros(2, 3)), torch.eye(3).expand(2, 3, 3))


# On both sides of the switch to the power series (a^2 = 0.01), at zero, tiny and large.
@pytest.mark.parametrize("length", [0.0, 1e-12, 1e-4, 0.0999, 0.1001, 1.0, 3.0])
def test_derivatives_exist_everywhere(length):
    direction = torch.tensor([[0.48, -0.6, 0.64]], dtype=F64)
    v = (length * direction).requires_grad_()
    assert gradcheck(se3.axis_angle_to_matrix, (v,))
    assert gradgradcheck(se3.axis_angle_to_matrix, (v,))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_derivative_at_zero_is_the_generator(dtype):
    v = torch.zeros(3, dtype=dtype, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(se3.axis_angle_to_matrix, v)
    for i in range(3):
        assert torch.equal(jacobian[..., i], cross_matrix(torch.eye(3, dtype=dtype)[i]))


def test_float32_rotations_are_smooth_across_the_series_switch():
    angles = torch.linspace(0.09, 0.11, 2001)
    v = torch.stack((angles, torch.zeros_like(angles), torch.zeros_like(angles)), -1)
    sines = se3.axis_angle_to_matrix(v)[:, 2, 1]
    torch.testing.assert_close(sines, angles.double().sin().float(), rtol=2e-7, atol=0)


@given(v=VECTOR, size=st.sampled_from([0.7, 1e-2, 1e-4, 1e-9, 0.0]))
@settings(max_examples=60, deadline=None)
def test_matrix_to_axis_angle_undoes_it(v, size):
    v = v * size
    length = v.norm()
    if length > math.pi - 1e-3:  # the same rotation, the shorter way round
        v = v / length * (math.pi - 1e-3)
    back = se3.matrix_to_axis_angle(se3.axis_angle_to_matrix(v))
    torch.testing.assert_close(back, v, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("axis", [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0.6, 0, -0.8]])
@pytest.mark.parametrize("gap", [0.0, 1e-9, 1e-6])
def test_half_turns(axis, gap):
    v = (math.pi - gap) * torch.tensor(axis, dtype=F64)
    R = se3.axis_angle_to_matrix(v)
    back = se3.matrix_to_axis_angle(R)
    assert back.norm().item() == pytest.approx(math.pi - gap, abs=1e-8)
    torch.testing.assert_close(se3.axis_angle_to_matrix(back), R, rtol=0, atol=1e-8)


@pytest.mark.parametrize("length", [0.0, 1e-6, 0.015, 0.025, 1.0, 2.9])
def test_logarithm_has_derivatives(length):
    v = length * torch.tensor([[0.48, -0.6, 0.64]], dtype=F64)
    R = se3.axis_angle_to_matrix(v).requires_grad_()
    assert gradcheck(se3.matrix_to_axis_angle, (R,))


def test_make_T_and_transform_by_hand():
    T_ab = se3.make_T(
        torch.tensor([[0.0, 0.0, math.pi / 2]], dtype=F64),
        torch.tensor([[1.0, 2.0, 3.0]], dtype=F64),
    )
    assert T_ab[0, 3].tolist() == [0, 0, 0, 1]
    point = torch.tensor([5.0, 7.0, 11.0], dtype=F64).view(1, 3, 1, 1)
    assert se3.transform(T_ab, point).flatten().tolist() == pytest.approx([1 - 7, 2 + 5, 3 + 11])


@given(v=VECTOR, t=VECTOR, w=VECTOR, s=VECTOR)
@settings(max_examples=40, deadline=None)
def test_compose_and_invert_agree_with_matrix_algebra(v, t, w, s):
    T_ab, T_bc = se3.make_T(v, t), se3.make_T(w, s)
    T_ac = se3.compose(T_ab, T_bc)
    torch.testing.assert_close(T_ac, T_ab @ T_bc)
    torch.testing.assert_close(se3.invert_T(T_ab), torch.linalg.inv(T_ab), rtol=0, atol=1e-12)
    eye = torch.eye(4, dtype=F64)
    torch.testing.assert_close(se3.compose(T_ab, se3.invert_T(T_ab)), eye, rtol=0, atol=1e-12)
    points = torch.rand(1, 3, 2, 3, dtype=F64)
    twice = se3.transform(T_ab[None], se3.transform(T_bc[None], points))
    torch.testing.assert_close(se3.transform(T_ac[None], points), twice)
    back = se3.transform(se3.invert_T(T_ac)[None], twice)
    torch.testing.assert_close(back, points, rtol=0, atol=1e-12)


def test_any_leading_axes_and_dtype():
    for dtype in (torch.float32, F64):
        T_ab = se3.make_T(torch.rand(2, 5, 3, dtype=dtype), torch.rand(2, 5, 3, dtype=dtype))
        assert T_ab.shape == (2, 5, 4, 4)
        assert se3.invert_T(T_ab).dtype == se3.compose(T_ab, T_ab).dtype == dtype
        assert se3.matrix_to_axis_angle(T_ab[..., :3, :3]).shape == (2, 5, 3)


def test_gradients_of_motion_match_finite_differences():
    v = torch.zeros(2, 3, dtype=F64, requires_grad=True)
    t = torch.rand(2, 3, dtype=F64, requires_grad=True)
    points = torch.rand(2, 3, 2, 2, dtype=F64, requires_grad=True)
    assert gradcheck(lambda *x: se3.transform(se3.make_T(x[0], x[1]), x[2]), (v, t, points))
    assert gradcheck(lambda *x: se3.invert_T(se3.make_T(*x)), (v, t))


def test_autocast_does_not_coarsen_motion():
    v, t, points = torch.rand(2, 3), torch.rand(2, 3), 50 * torch.rand(2, 3, 4, 5)
    expected = se3.transform(se3.invert_T(se3.make_T(v, t)), points)
    exact = se3.transform(se3.invert_T(se3.make_T(v.double(), t.double())), points.double())
    torch.testing.assert_close(expected.double(), exact, rtol=0, atol=2e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(se3.transform(se3.invert_T(se3.make_T(v, t)), points), expected)
    halves = se3.make_T(v.bfloat16(), t.bfloat16())
    assert halves.dtype == torch.float32
    torch.testing.assert_close(
        halves[:, :3, :3] @ halves[:, :3, :3].mT, torch.eye(3).expand(2, 3, 3)
    )


def test_geometry_can_be_exported_and_shaped_without_data():
    class Motion(torch.nn.Module):
        def forward(self, v, t, points):
            return se3.transform(se3.make_T(v, t), points)

    args = torch.rand(2, 3), torch.rand(2, 3), torch.rand(2, 3, 4, 5)
    exported = torch.export.export(Motion(), args).module()
    torch.testing.assert_close(exported(*args), Motion()(*args))
    with torch.device("meta"):
        assert se3.make_T(torch.empty(2, 5, 3), torch.empty(2, 5, 3)).shape == (2, 5, 4, 4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_coarse_matrix_units_do_not_touch_points():
    points, T_ab = 50 * torch.rand(2, 3, 4, 5), se3.make_T(torch.rand(2, 3), torch.rand(2, 3))
    expected = se3.transform(T_ab.double(), points.double())
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        found = se3.transform(T_ab.cuda(), points.cuda())
    finally:
        torch.set_float32_matmul_precision(before)
    torch.testing.assert_close(found.cpu().double(), expected, rtol=0, atol=2e-5)


def test_wrong_shapes_are_named():
    with pytest.raises(ShapeError, match="axis_angle"):
        se3.axis_angle_to_matrix(torch.rand(2, 4))
    with pytest.raises(ShapeError, match="T_ab"):
        se3.transform(torch.rand(1, 4, 4), torch.rand(2, 3, 4, 5))
    with pytest.raises(ShapeError, match="points"):
        se3.transform(torch.rand(2, 4, 4), torch.rand(2, 4, 4, 5))


@pytest.mark.parity
def test_parity_with_kornia():
    conversions = pytest.importorskip("kornia.geometry.conversions")
    v = 0.8 * torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    R = se3.axis_angle_to_matrix(v)
    theirs = conversions.axis_angle_to_rotation_matrix(v)
    torch.testing.assert_close(R, theirs, rtol=0, atol=2e-5)  # they add 1e-6 to the angle
    theirs = conversions.rotation_matrix_to_axis_angle(R)
    torch.testing.assert_close(se3.matrix_to_axis_angle(R), theirs, rtol=0, atol=1e-5)
    linalg = pytest.importorskip("kornia.geometry.linalg")
    T_ab = se3.make_T(v[:10], v[10:])
    torch.testing.assert_close(se3.invert_T(T_ab), linalg.inverse_transformation(T_ab))
