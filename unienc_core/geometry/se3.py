"""Rigid motions: rotation vectors and 4 x 4 matrices `T_to_from`, smooth at zero.

X_a = T_ab @ X_b, and letters cancel: T_ac = T_ab @ T_bc.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unienc_core.contracts import check_shape
from unienc_core.geometry.precision import full_precision

# Below these a power series replaces a quotient of two numbers near zero; its first missing term
# is under the rounding of float64.
_SMALL_ANGLE_SQUARED = 1e-2
_SMALL_SINE_SQUARED = 1e-4


@full_precision
def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Turn rotation vectors into matrices (Rodrigues' formula).

    R = I + sinc(a) [v] + (1 - cos a) / a^2 [v]^2 with a = |v|; smooth everywhere.

    Args:
        axis_angle: `... 3`, rad.

    Returns:
        `... 3 3`.
    """
    check_shape(axis_angle, "... 3", "axis_angle")
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).reshape(*x.shape, 3, 3)
    squared = axis_angle.square().sum(-1)[..., None, None]
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    # (1 - cos a) / a^2 = sinc(a / 2)^2 / 2, free of cancellation.
    half_sinc = _sinc_of_square(squared / 4)
    return eye + _sinc_of_square(squared) * cross + half_sinc.square() / 2 * _product(cross, cross)


@full_precision
def matrix_to_axis_angle(R: Tensor) -> Tensor:
    """Turn rotation matrices into rotation vectors.

    Args:
        R: `... 3 3`.

    Returns:
        `... 3`, rad, of length 0 to pi.
    """
    check_shape(R, "... 3 3", "R")
    quaternion = _matrix_to_quaternion(R)
    w, xyz = quaternion[..., :1], quaternion[..., 1:]
    squared = xyz.square().sum(-1, keepdim=True)
    small = squared < _SMALL_SINE_SQUARED
    sine = torch.where(small, 1.0, squared).sqrt()
    series = 1 + squared / 6 + squared**2 * (3 / 40) + squared**3 * (5 / 112)
    return 2 * torch.where(small, series, torch.atan2(sine, w) / sine) * xyz


@full_precision
def make_T(axis_angle: Tensor, translation: Tensor) -> Tensor:  # noqa: N802
    """Build the rigid motion X -> R X + t.

    Args:
        axis_angle: `... 3`, rad.
        translation: `... 3`.

    Returns:
        `... 4 4`.
    """
    check_shape(axis_angle, "... 3", "axis_angle")
    check_shape(translation, "... 3", "translation")
    return _assemble(axis_angle_to_matrix(axis_angle), translation)


@full_precision
def invert_T(T_ab: Tensor) -> Tensor:  # noqa: N802
    """Invert a rigid motion: T_ba from T_ab, in closed form (R^T, -R^T t).

    Args:
        T_ab: `... 4 4`.

    Returns:
        `... 4 4`.
    """
    check_shape(T_ab, "... 4 4", "T_ab")
    rotation = T_ab[..., :3, :3].transpose(-1, -2)
    return _assemble(rotation, -_product(rotation, T_ab[..., :3, 3:]).squeeze(-1))


@full_precision
def compose(T_ab: Tensor, T_bc: Tensor) -> Tensor:
    """Chain two motions: T_ac = T_ab @ T_bc.

    Args:
        T_ab: `... 4 4`.
        T_bc: `... 4 4`.

    Returns:
        `... 4 4`.
    """
    check_shape(T_ab, "... 4 4", "T_ab")
    check_shape(T_bc, "... 4 4", "T_bc")
    return _product(T_ab, T_bc)


@full_precision
def transform(T_ab: Tensor, points: Tensor) -> Tensor:
    """Move points: X_a = T_ab X_b.

    Args:
        T_ab: `B 4 4`.
        points: In frame b, `B 3 H W`.

    Returns:
        In frame a, `B 3 H W`.
    """
    sizes = check_shape(points, "B 3 H W", "points")
    check_shape(T_ab, "B 4 4", "T_ab", B=sizes["B"])
    # The matrix units of a GPU may be set to round to 10 bits (TF32), half a metre in 500: float64
    # keeps clear of that, and one product of this size costs nothing there.
    exact = torch.float64 if points.is_cuda else points.dtype
    motion = T_ab[:, :3].to(exact)
    moved = torch.baddbmm(motion[:, :, 3:], motion[:, :, :3], points.flatten(2).to(exact))
    return moved.to(points.dtype).view_as(points)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply small matrices without the matrix units, whose reduced modes (TF32) are coarse."""
    return (a.unsqueeze(-1) * b.unsqueeze(-3)).sum(-2)


def _assemble(R: Tensor, translation: Tensor) -> Tensor:
    """Return `... 4 4` from `... 3 3` and `... 3`."""
    top = torch.cat((R, translation.unsqueeze(-1)), -1)
    bottom = torch.zeros_like(top[..., :1, :])
    bottom[..., 3] = 1
    return torch.cat((top, bottom), -2)


def _sinc_of_square(squared: Tensor) -> Tensor:
    """Return sin(a) / a as a smooth function of a^2."""
    small = squared < _SMALL_ANGLE_SQUARED
    angle = torch.where(small, 1.0, squared).sqrt()
    series = 1 + squared * (-1 / 6 + squared * (1 / 120 + squared * (-1 / 5040 + squared / 362880)))
    return torch.where(small, series, angle.sin() / angle)


def _matrix_to_quaternion(R: Tensor) -> Tensor:
    """Return unit quaternions (w, x, y, z) with w >= 0, `... 4`.

    The ten products 4 q_i q_j are sums of entries of R; the row of the largest q_i^2, normalised,
    is the quaternion, and it never comes near zero.
    """
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in R.unbind(-2))
    wx, wy, wz, xy, xz, yz = h - f, c - g, d - b, b + d, c + g, f + h
    rows = torch.stack(
        (
            torch.stack((1 + a + e + i, wx, wy, wz), -1),
            torch.stack((wx, 1 + a - e - i, xy, xz), -1),
            torch.stack((wy, xy, 1 - a + e - i, yz), -1),
            torch.stack((wz, xz, yz, 1 - a - e + i), -1),
        ),
        -2,
    )
    largest = rows.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None]
    row = rows.gather(-2, largest.expand(*rows.shape[:-2], 1, 4)).squeeze(-2)
    sign = torch.where(row[..., :1] < 0, -1.0, 1.0)
    return sign * row * row.square().sum(-1, keepdim=True).rsqrt()
