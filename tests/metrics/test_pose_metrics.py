"""Pose metrics against SciPy's rotations, hand-computed snippets and identities."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from unienc_core.metrics.pose import (
    MIN_TRANSLATION,
    absolute_trajectory_error,
    chain,
    rotation_angle,
    rotation_error,
    swap_error,
    translation_direction_error,
)

number = st.floats(-3, 3, allow_subnormal=False)
vector = st.tuples(number, number, number).map(np.array)


def motion(rotation_vector, translation) -> np.ndarray:
    T_ab = np.eye(4)
    T_ab[:3, :3] = Rotation.from_rotvec(rotation_vector).as_matrix()
    T_ab[:3, 3] = translation
    return T_ab


motions = st.builds(motion, vector, vector)


def forward(x: float, y: float, z: float) -> np.ndarray:
    return motion([0, 0, 0], [x, y, z])


@settings(max_examples=100, deadline=None)
@given(motions, motions)
def test_rotation_error_equals_scipys(T_gt, T_ab) -> None:
    truth, found = (Rotation.from_matrix(x[:3, :3]) for x in (T_gt, T_ab))
    expected = math.degrees((truth.inv() * found).magnitude())
    # Near 180 degrees the sine loses half of its digits.
    assert rotation_error(T_gt, T_ab) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("degrees", [0, 1e-7, 1e-3, 0.5, 90, 179, 180])
def test_rotation_angle_is_exact_for_small_angles_too(degrees: float) -> None:
    R = Rotation.from_rotvec(math.radians(degrees) * np.array([2, -1, 2]) / 3).as_matrix()
    assert rotation_angle(R) == pytest.approx(degrees, rel=1e-8, abs=1e-13)


def test_translation_direction_by_hand() -> None:
    ahead = forward(0, 0, 0.5)
    for T_ab, degrees in (
        (forward(0, 0, 7), 0),
        (forward(0.01, 0, 0), 90),
        (forward(0, 0, -1), 180),
        (forward(1, 0, 1), 45),
        (forward(0, math.sqrt(3), 1), 60),
        (forward(0, 0, 0), 90),
    ):
        assert translation_direction_error(ahead, T_ab) == pytest.approx(degrees, abs=1e-12)
    tiny = translation_direction_error(ahead, forward(1e-9, 0, 1))  # arccos would say 0
    assert tiny == pytest.approx(math.degrees(1e-9), rel=1e-9)


def test_a_camera_at_rest_has_no_direction() -> None:
    assert translation_direction_error(forward(0, 0, MIN_TRANSLATION), forward(0, 0, 1)) == 0
    still = forward(0, 0, 0.99 * MIN_TRANSLATION)
    assert translation_direction_error(still, forward(0, 0, 1)) is None


@settings(max_examples=100, deadline=None)
@given(motions, motions, st.floats(1e-3, 1e3))
def test_direction_forgets_the_unit_and_the_rotation(T_gt, T_ab, factor: float) -> None:
    other = T_ab.copy()
    other[:3, 3] *= factor
    other[:3, :3] = np.eye(3)
    one, two = translation_direction_error(T_gt, T_ab), translation_direction_error(T_gt, other)
    if one is None:
        assert two is None
        return
    assert two == pytest.approx(one, abs=1e-6)
    other[:3, 3] *= -1
    if T_ab[:3, 3].any():
        assert translation_direction_error(T_gt, other) == pytest.approx(180 - one, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(motions)
def test_swap_error_of_an_inverse_is_zero(T_ab) -> None:
    rotation, translation = swap_error(T_ab, np.linalg.inv(T_ab))
    assert rotation == pytest.approx(0, abs=1e-10)
    assert translation == pytest.approx(0, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(motions, motions)
def test_swap_translation_lies_in_0_to_2(T_ab, T_ba) -> None:
    rotation, translation = swap_error(T_ab, T_ba)
    assert 0 <= rotation <= 180
    assert 0 <= translation <= 2 + 1e-12


def test_swap_error_by_hand() -> None:
    T_ab = motion([0, math.radians(3), 0], [0, 0, 0])
    # A network that says the same for both orders: the rotation counts twice.
    assert swap_error(T_ab, T_ab) == (pytest.approx(6), 0)
    assert swap_error(forward(0, 0, 2), forward(0, 0, 2)) == (0, pytest.approx(2))
    assert swap_error(forward(0, 0, 2), forward(0, 0, -1)) == (0, pytest.approx(1 / 1.5))
    # A quarter turn about y between two steps ahead: T_ab t_ba = (3, 0, 0) + (0, 0, 4).
    quarter = motion([0, math.pi / 2, 0], [0, 0, 4])
    rotation, translation = swap_error(quarter, forward(0, 0, 3))
    assert rotation == pytest.approx(90)
    assert translation == pytest.approx(5 / 3.5)
    assert swap_error(np.eye(4), np.eye(4)) == (0, 0)


def test_chain_by_hand() -> None:
    # Ahead by 1, then twice a quarter turn to the right (z to x) with a step of 1 after it.
    right = motion([0, math.pi / 2, 0], [0, 0, 0]) @ forward(0, 0, 1)
    centres = chain([forward(0, 0, 1), right, right])
    np.testing.assert_allclose(centres, [[0, 0, 0], [0, 0, 1], [1, 0, 1], [1, 0, 0]], atol=1e-15)


@settings(max_examples=50, deadline=None)
@given(st.lists(motions, min_size=2, max_size=6))
def test_chaining_the_true_motions_gives_the_true_centres(T_world_camera) -> None:
    pairs = zip(T_world_camera, T_world_camera[1:], strict=False)
    centres = chain(np.linalg.inv(a) @ b for a, b in pairs)
    first = np.linalg.inv(T_world_camera[0])
    expected = [(first @ T_ab)[:3, 3] for T_ab in T_world_camera]
    np.testing.assert_allclose(centres, expected, atol=1e-8)


def test_trajectory_error_by_hand() -> None:
    truth = np.array([[0, 0, z] for z in (0.0, 1, 2, 3, 4)])
    found = 10 + 0.5 * truth
    assert absolute_trajectory_error(truth, found) == pytest.approx(0, abs=1e-15)
    # Found (0, 0, z / 2) but the last, (1, 0, 2): s = (0.5 + 2 + 4.5 + 8) / (0.25 + 1 + 2.25 + 5)
    # = 15 / 8.5 = 30 / 17, so z is off by (15 / 17 - 1) z = -2 / 17 z, and x by 30 / 17 at last.
    bent = 0.5 * truth
    bent[4, 0] = 1
    expected = math.sqrt((2 / 17) ** 2 * (1 + 4 + 9 + 16) + (30 / 17) ** 2) / 5
    assert absolute_trajectory_error(truth, bent) == pytest.approx(expected, rel=1e-12)
    # Sideways in place of ahead: the best factor is 0, what is left is the truth itself.
    sideways = truth[:, [2, 1, 0]]
    assert absolute_trajectory_error(truth, sideways) == pytest.approx(math.sqrt(30) / 5)
    assert absolute_trajectory_error(truth, 0 * truth) == pytest.approx(math.sqrt(30) / 5)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 10_000),
    st.floats(0.01, 100),
    vector,
)
def test_trajectory_error_uses_the_best_factor(seed: int, factor: float, shift) -> None:
    rng = np.random.default_rng(seed)
    truth, found = rng.normal(size=(2, 5, 3))
    error = absolute_trajectory_error(truth, found)
    assert absolute_trajectory_error(truth, factor * found + shift) == pytest.approx(error)
    # An oracle: least squares of numpy on the shifted points.
    g, p = (truth - truth[0]).ravel(), (found - found[0]).ravel()
    _, residual, _, _ = np.linalg.lstsq(p[:, None], g, rcond=None)
    assert error == pytest.approx(math.sqrt(residual[0]) / 5)
