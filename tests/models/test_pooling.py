"""Self-attentive pooling against its definition in float64, and the grid of a frame."""

import numpy as np
import pytest
import torch
from numpy_layers import Layers
from torch import nn
from torch.autograd import gradcheck

from unienc_core.contracts import FeaturePyramid, PyramidSpec
from unienc_core.errors import ShapeError, WiringError
from unienc_core.models.pooling import (
    MAX_CELLS,
    SelfAttentivePooling,
    grid_of,
    join_grid,
    pool_to_grid,
    split_grid,
)

STRIDES = (4, 8, 16)


def settled(module: nn.Module) -> nn.Module:
    """In evaluation mode and float64, every number of the state drawn."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn_like(tensor) * 0.5)
            if name.endswith("running_var"):
                tensor.copy_(torch.rand_like(tensor) + 0.5)
    return module.double().eval()


def spans(length: int, count: int) -> list[slice]:
    """As many windows, side by side; of uneven ones every cell is in each that it reaches into."""
    return [slice(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]


def defined(module: SelfAttentivePooling, x: np.ndarray, heads: int) -> np.ndarray:
    """The six steps of Chen et al., one after another, place by place where that is plainest."""
    net = Layers(module)
    count, channels, height, width = x.shape
    patch = module.patch
    # 1: a patch becomes d numbers; 2: plus its position; tokens in reading order.
    kernel = net.weights["embed.weight"]
    patches = x.reshape(count, channels, height // patch, patch, width // patch, patch)
    embedded = np.einsum("bchiwj,dcij->bdhw", patches, kernel)
    embedded = np.maximum(net.norm(embedded, "embed_norm"), 0) + net.weights["position_embedding"]
    inner = embedded.shape[1]
    tokens = embedded.reshape(count, inner, -1).transpose(0, 2, 1)
    # 3: attention of each head over its share of the numbers.
    weight, bias = (net.weights[f"attention.in_proj_{part}"] for part in ("weight", "bias"))
    query, key, value = np.split(tokens @ weight.T + bias, 3, axis=2)
    share = inner // heads
    mixed = np.empty_like(tokens)
    for b, h in np.ndindex(count, heads):
        part = slice(h * share, (h + 1) * share)
        scores = query[b, :, part] @ key[b, :, part].T / np.sqrt(share)
        scores = np.exp(scores - scores.max(1, keepdims=True))
        mixed[b, :, part] = scores / scores.sum(1, keepdims=True) @ value[b, :, part]
    mixed = mixed @ net.weights["attention.out_proj.weight"].T
    mixed = mixed + net.weights["attention.out_proj.bias"]
    # 4: back to the size of the map.
    restored = mixed.transpose(0, 2, 1).reshape(count, inner, height // patch, width // patch)
    restored = restored.repeat(patch, axis=2).repeat(patch, axis=3)
    logits = net.norm(net.conv(restored, "restore"), "restore_norm")
    # 5 and 6: weights between 1 and e, and their averages.
    weights = np.exp(1 / (1 + np.exp(-logits)))
    pooled = np.empty((count, channels, *module.windows))
    rows, columns = spans(height, module.windows[0]), spans(width, module.windows[1])
    for i, j in np.ndindex(*module.windows):
        window = np.s_[:, :, rows[i], columns[j]]
        pooled[:, :, i, j] = (x[window] * weights[window]).mean((2, 3))
        if module.normalised:
            pooled[:, :, i, j] /= weights[window].mean((2, 3))
    return pooled


@pytest.mark.parametrize(
    ("patch", "ratio", "windows", "normalised"),
    [
        (1, 1.0, (2, 4), True),
        (2, 0.5, (1, 1), True),
        (2, 2.0, (2, 2), False),
        (1, 1.0, (3, 5), True),
    ],
)
def test_pooling_is_what_the_paper_defines(patch, ratio, windows, normalised):
    made = SelfAttentivePooling(6, (4, 8), windows, patch=patch, ratio=ratio, normalised=normalised)
    made = settled(made)
    assert made.embed.out_channels == 2 * round(ratio * 3)
    x = np.random.default_rng(0).normal(size=(3, 6, 4, 8))
    expected = defined(made, x, heads=2)
    with torch.no_grad():
        found = made(torch.from_numpy(x)).numpy()
    assert found.shape == (3, 6, *windows)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    plain = [
        [x[:, :, r, c].mean((2, 3)) for c in spans(8, windows[1])] for r in spans(4, windows[0])
    ]
    plain = np.transpose(plain, (2, 3, 0, 1))
    assert np.abs(found - plain).max() > 1e-2  # attention does something here


def test_a_weight_is_at_most_e_times_another():
    made = settled(SelfAttentivePooling(4, (2, 3), (1, 1)))
    with torch.no_grad():
        logits = made.logits(100 * torch.randn(5, 4, 2, 3, dtype=torch.float64))
        flat = made(torch.full((1, 4, 2, 3), 7.0, dtype=torch.float64))
    assert ((logits > 0) & (logits < 1)).all()
    torch.testing.assert_close(flat, torch.full_like(flat, 7.0))


def test_gradients_of_pooling():
    made = settled(SelfAttentivePooling(2, (2, 4), (2, 2), patch=2))
    assert gradcheck(made, torch.randn(2, 2, 2, 4, dtype=torch.float64, requires_grad=True))


def test_what_does_not_fit_the_grid_is_refused():
    with pytest.raises(WiringError, match="3x10 cells does not divide into patches of 2x2"):
        SelfAttentivePooling(4, (3, 10), (1, 2), patch=2)
    with pytest.raises(ShapeError, match="maps has shape"):
        SelfAttentivePooling(4, (2, 4), (1, 2))(torch.zeros(1, 4, 4, 4))


def test_a_grid_is_the_coarsest_level_or_smaller():
    assert grid_of(6, 16) == (6, 16)  # 192x512 at stride 32
    assert grid_of(6, 20) == (5, 17)
    for size in ((1, 500), (500, 1), (40, 40), (13, 8), (97, 1)):
        rows, columns = grid_of(*size)
        assert 0 < rows * columns <= MAX_CELLS and rows <= size[0] and columns <= size[1]


def pyramid(seed: int = 0, count: int = 2) -> FeaturePyramid:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(2, 8, 24), (3, 4, 12), (5, 2, 6)]
    return FeaturePyramid([torch.randn(count, *s, generator=generator) for s in shapes], STRIDES)


def test_levels_are_averaged_over_cells_and_rounded_to_half():
    made = pool_to_grid(pyramid())
    assert [tuple(x.shape[1:]) for x in made.levels] == [(2, 2, 6), (3, 2, 6), (5, 2, 6)]
    means = pyramid().levels[0].double().reshape(2, 2, 2, 4, 6, 4).mean((3, 5))
    np.testing.assert_allclose(made.levels[0].double().numpy(), means.numpy(), rtol=1e-3, atol=1e-6)
    for level in made.levels:
        assert torch.equal(level, level.half().float())


def test_a_pooled_pyramid_stays_as_it_is_and_survives_joining():
    once = pool_to_grid(pyramid())
    spec = PyramidSpec(STRIDES, (2, 3, 5))
    for again in (pool_to_grid(once), split_grid(join_grid(once), spec)):
        assert all(torch.equal(a, b) for a, b in zip(once.levels, again.levels, strict=True))
        assert again.strides == STRIDES
    with pytest.raises(ShapeError, match="grids of 10 channels, the levels \\[2, 3, 4\\] have 9"):
        split_grid(join_grid(once), PyramidSpec(STRIDES, (2, 3, 4)))


def test_rounding_keeps_to_the_range_and_passes_gradients():
    huge = torch.tensor([1e6, -1e6, 1e-9]).view(1, 3, 1, 1).requires_grad_()
    (level,) = pool_to_grid(FeaturePyramid([huge], (32,))).levels
    assert level.flatten().tolist() == [65504.0, -65504.0, 0.0]
    (1e-6 * level).sum().backward()
    np.testing.assert_allclose(huge.grad.flatten().numpy(), 1e-6, rtol=1e-6)
