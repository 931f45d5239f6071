"""Run lengths equal those of pycocotools, to the character."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unienc_core.inference.rle import encode_map, encode_mask

oracle = pytest.importorskip("pycocotools.mask", reason="needs pycocotools")
pytestmark = pytest.mark.parity


def expected(mask: np.ndarray) -> str:
    return oracle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def check(values: np.ndarray) -> None:
    found = encode_map(values)
    assert list(found) == np.unique(values).tolist()
    for value, counts in found.items():
        assert counts == expected(values == value)
        decoded = oracle.decode({"size": list(values.shape), "counts": counts.encode()})
        np.testing.assert_array_equal(decoded, values == value)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    kinds=st.integers(1, 5),
    side=st.integers(1, 9),
)
def test_any_map(seed, height, width, kinds, side) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, kinds, (-(-height // side), -(-width // side)))
    check(coarse.repeat(side, 0).repeat(side, 1)[:height, :width].astype(np.int32) * 26001)


def test_long_and_short_runs_take_turns() -> None:
    """Differences of millions, either sign, need most digits."""
    values = np.zeros((3000, 1500), np.uint8)
    values[0, 0] = values[17, 700] = values[18, 1400] = values[-1, -1] = 1
    values[5:2900, 900:1300] = 2
    check(values)


def test_a_mask_and_nothing() -> None:
    mask = np.zeros((7, 9), bool)
    mask[2:5, 3:4] = True
    assert encode_mask(mask) == expected(mask)
    assert encode_map(np.zeros((0, 4), np.int32)) == {}
    check(np.ones((4, 5), np.uint8))
