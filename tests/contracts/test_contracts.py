"""Shapes at public doors, pyramids, and ramps."""

import pytest
import torch

from unienc_core.contracts import (
    FeaturePyramid,
    PyramidSpec,
    StepContext,
    check_shape,
    concat_pyramids,
)
from unienc_core.errors import ShapeError


def test_check_shape_binds_letters_and_refuses_repeats() -> None:
    assert check_shape(torch.zeros(2, 1, 4, 5), "B 1 H W") == {"B": 2, "H": 4, "W": 5}
    assert check_shape(torch.zeros(7, 8, 3, 3), "... 3 3") == {}
    with pytest.raises(ShapeError, match=r"depth has shape \(2, 3, 4, 5\), expected 'B 1 H W'"):
        check_shape(torch.zeros(2, 3, 4, 5), "B 1 H W", "depth")
    with pytest.raises(ShapeError):
        check_shape(torch.zeros(4, 5), "N N")
    with pytest.raises(ShapeError):
        check_shape(torch.zeros(4, 5), "B C W")
    with pytest.raises(ShapeError, match="B=3"):
        check_shape(torch.zeros(4, 5), "B C", B=3)


def test_pyramids_concatenate_along_channels_only_at_equal_strides() -> None:
    a = FeaturePyramid([torch.zeros(1, 2, 8, 8), torch.zeros(1, 3, 4, 4)], (4, 8))
    b = FeaturePyramid([torch.ones(1, 5, 8, 8), torch.ones(1, 7, 4, 4)], (4, 8))
    joined = concat_pyramids([a, b])
    assert joined.spec == PyramidSpec((4, 8), (7, 10))
    assert joined.levels[0][:, :2].sum() == 0
    assert joined.levels[0][:, 2:].min() == 1
    with pytest.raises(ShapeError, match="different strides"):
        concat_pyramids([a, FeaturePyramid(b.levels, (2, 4))])
    assert a.spec.times(2).channels == (4, 6)


def test_map_reaches_inner_tensors() -> None:
    pyramid = FeaturePyramid([torch.ones(2, 1, 2, 2)], (4,), [[torch.ones(2, 3, 2, 2)]])
    halved = pyramid.map(lambda x: x[:1])
    assert halved.levels[0].shape[0] == halved.inner[0][0].shape[0] == 1


@pytest.mark.parametrize(("step", "ramp"), [(0, 0.0), (100, 0.3), (333, 0.999), (334, 1), (900, 1)])
def test_ramp_is_full_after_a_third(step: int, ramp: float) -> None:
    assert StepContext(step=step, steps_per_ramp=1000).ramp == pytest.approx(ramp)
