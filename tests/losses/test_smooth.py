"""Edge-aware smoothness against NumPy, by hand, and against kornia."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from unienc_core.contracts import StepContext
from unienc_core.errors import ShapeError
from unienc_core.losses.smooth import Smooth, edge_aware_smoothness

F64 = torch.float64


def rand(*shape, seed=0, dtype=F64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def numpy_smoothness(maps: np.ndarray, image: np.ndarray) -> float:
    """The definition, pixel pair by pixel pair, for `C H W` and `3 H W`."""
    C, H, W = maps.shape
    x, y = [], []
    for i in range(H):
        for j in range(W):
            for c in range(C):
                if j + 1 < W:
                    edge = np.abs(image[:, i, j + 1] - image[:, i, j]).mean()
                    x.append(abs(maps[c, i, j + 1] - maps[c, i, j]) * math.exp(-edge))
                if i + 1 < H:
                    edge = np.abs(image[:, i + 1, j] - image[:, i, j]).mean()
                    y.append(abs(maps[c, i + 1, j] - maps[c, i, j]) * math.exp(-edge))
    return float(np.mean(x) + np.mean(y))


def blocks(image: np.ndarray, s: int) -> np.ndarray:
    """Mean over s x s blocks of `3 H W`."""
    c, h, w = image.shape
    return image.reshape(c, h // s, s, w // s, s).mean((2, 4))


@pytest.mark.parametrize("C", [1, 3])
def test_smoothness_equals_its_definition(C):
    maps, image = rand(2, C, 5, 7), rand(2, 3, 5, 7, seed=1)
    found = edge_aware_smoothness(maps, image)
    expected = [numpy_smoothness(maps[b].numpy(), image[b].numpy()) for b in range(2)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_an_image_edge_excuses_a_step():
    step = torch.zeros(1, 1, 4, 6, dtype=F64)
    step[..., 3:] = 1.0
    flat = torch.full((1, 3, 4, 6), 0.5, dtype=F64)
    assert edge_aware_smoothness(step, flat).item() == pytest.approx(1 / 5)
    edge = flat.clone()
    edge[..., 3:] = 1.0
    assert edge_aware_smoothness(step, edge).item() == pytest.approx(math.exp(-0.5) / 5)


def test_the_term_equals_its_definition_over_scales():
    image = rand(2, 3, 16, 24, seed=1)
    scales = [rand(2, 1, 16 // s, 24 // s, seed=s) for s in (1, 2, 4)]
    values = {"target_image": image, "disparity_scales": scales}
    found = Smooth()(values, StepContext())
    assert found.shape == (2,)
    for b in range(2):
        expected = 0.0
        for i, d in enumerate(scales):
            relative = (d[b] / (d[b].mean() + 1e-7)).numpy()
            small = blocks(image[b].numpy(), 2**i)
            expected += numpy_smoothness(relative, small) / 2**i / 3
        assert found[b].item() == pytest.approx(expected, rel=1e-10)


def test_the_scale_of_disparity_does_not_matter_but_its_shape_does():
    image, d = rand(2, 3, 9, 13, seed=1), 0.2 + rand(2, 1, 9, 13)
    plain = Smooth()({"target_image": image, "disparity_scales": [d]}, StepContext())
    halved = Smooth()({"target_image": image, "disparity_scales": [d / 2]}, StepContext())
    torch.testing.assert_close(plain, halved, rtol=1e-6, atol=0)
    flat = Smooth()({"target_image": image, "disparity_scales": [0 * d + 0.3]}, StepContext())
    assert flat.abs().max() < 1e-15


def test_odd_sizes_and_a_partial_batch():
    image = rand(3, 3, 37, 53, seed=1)
    scales = [rand(3, 1, *size) for size in ((37, 53), (19, 27), (10, 14))]
    whole = Smooth()({"target_image": image, "disparity_scales": scales}, StepContext())
    last = {"target_image": image[2:], "disparity_scales": [d[2:] for d in scales]}
    torch.testing.assert_close(Smooth()(last, StepContext()), whole[2:])


def test_gradient_matches_finite_differences():
    image, d = rand(1, 3, 6, 8, seed=1), (0.2 + rand(1, 1, 3, 4)).requires_grad_()

    def loss(x):
        return Smooth()({"target_image": image, "disparity_scales": [x]}, StepContext())

    assert gradcheck(loss, (d,))


def test_half_precision_disparity_is_widened():
    image, d = rand(2, 3, 8, 8, dtype=torch.float32), rand(2, 1, 8, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = Smooth()({"target_image": image, "disparity_scales": [d]}, StepContext())
    expected = Smooth()({"target_image": image, "disparity_scales": [d.float()]}, StepContext())
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_wrong_shapes_are_named():
    with pytest.raises(ShapeError, match="image"):
        edge_aware_smoothness(rand(1, 1, 4, 4), rand(1, 3, 4, 5))


@pytest.mark.parity
def test_parity_with_kornia():
    losses = pytest.importorskip("kornia.losses")
    maps, image = rand(3, 1, 11, 14), rand(3, 3, 11, 14, seed=1)
    theirs = losses.inverse_depth_smoothness_loss(maps, image)
    torch.testing.assert_close(edge_aware_smoothness(maps, image).mean(), theirs)
