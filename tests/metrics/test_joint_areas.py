"""Areas of combinations of values against counting pixel by pixel."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unienc_core.metrics.joint import joint_areas


def count_pixels(*maps):
    return Counter(zip(*(values.reshape(-1).tolist() for values in maps), strict=True))


def check(*maps):
    values, areas = joint_areas(*maps)
    assert values.dtype == areas.dtype == np.int64
    rows = [tuple(row) for row in values.tolist()]
    assert rows == sorted(set(rows))
    assert dict(zip(rows, areas.tolist(), strict=True)) == count_pixels(*maps)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    num_values=st.integers(1, 5),
    num_maps=st.integers(1, 4),
    seed=st.integers(0, 10_000),
)
def test_equals_counting(shape, num_values, num_maps, seed):
    rng = np.random.default_rng(seed)
    check(*(rng.integers(-2, num_values, shape) for _ in range(num_maps)))


def test_segments_are_counted_over_the_ends_of_rows():
    true = np.zeros((4, 6), np.uint8)
    true[1:3, 2:5] = 7
    predicted = np.zeros((4, 6), np.uint16)
    predicted[1:3, 3:6] = 26000
    values, areas = joint_areas(true, predicted)
    assert values.tolist() == [[0, 0], [0, 26000], [7, 0], [7, 26000]]
    assert areas.tolist() == [16, 2, 2, 4]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64])
def test_any_integer_type_keeps_its_extremes(dtype):
    limits = np.iinfo(dtype)
    check(np.array([[limits.min, limits.max, limits.max]], dtype), np.array([[1, 0, 0]], dtype))


def test_values_too_far_apart_for_one_number_are_exact_as_well():
    rng = np.random.default_rng(0)
    far = [rng.choice([-(2**40), 0, 5, 2**40], (7, 8)) for _ in range(3)]
    check(*far)


def test_strided_and_empty_maps():
    whole = np.arange(48, dtype=np.int32).reshape(6, 8) // 5
    check(whole[:, ::2], whole[:, 1::2])
    values, areas = joint_areas(np.zeros((0, 5), int), np.zeros((0, 5), int))
    assert values.shape == (0, 2)
    assert areas.shape == (0,)
