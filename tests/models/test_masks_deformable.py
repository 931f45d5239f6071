"""Positions and deformable attention: closed forms, borders, precision."""

import math

import pytest
import torch

from unienc_core.models.masks import MultiScaleDeformableAttention
from unienc_core.models.masks.deformable import sample_weighted
from unienc_core.models.masks.position import pixel_centres, sine_positions

CPU = torch.device("cpu")
SIZES = ((2, 3), (4, 6))


def ramp(size: tuple[int, int]) -> torch.Tensor:
    """Values ``H*W`` that a bilinear sample within the map gives exactly: 10 y + x."""
    y, x = torch.meshgrid(*(torch.arange(n).double() for n in size), indexing="ij")
    return (10 * y + x).flatten()


def sampled(place: tuple[float, float], level: int) -> float:
    values = torch.cat([ramp(SIZES[0]), 100 + ramp(SIZES[1])]).view(1, -1, 1, 1)
    pixels = torch.tensor(place).double().expand(1, 1, 1, 2, 1, 2)
    weights = torch.zeros(1, 1, 1, 2, 1).double()
    weights[..., level, 0] = 1
    return sample_weighted(values, SIZES, pixels, weights).item()


def test_channels_of_a_position():
    code = sine_positions((2, 4), 8, CPU, torch.float64).view(2, 4, 8)
    row, column = (2 * math.pi * x for x in (1 / 2, 3 / 4))
    expected = [f(a / s) for a in (row, column) for s in (1, 100) for f in (math.sin, math.cos)]
    assert code[0, 2].tolist() == pytest.approx(expected, abs=1e-5)


def test_positions_first_asked_for_in_inference_serve_training():
    with torch.inference_mode():
        code = sine_positions((3, 7), 8, CPU, torch.float32)
    weight = torch.ones(8, requires_grad=True)
    (code * weight).sum().backward()
    assert torch.allclose(weight.grad, code.sum(0))


def test_centres_of_pixels():
    centres = pixel_centres(((1, 2), (2, 1)), CPU, torch.float64)
    assert centres.tolist() == [[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]]


@pytest.mark.parametrize(
    ("place", "level", "value"),
    [
        ((0.0, 0.0), 0, 0.0),
        ((1.25, 0.5), 0, 6.25),
        ((1.25, 0.5), 1, 106.25),
        ((4.5, 2.75), 1, 132.0),
        ((2.5, 1.0), 0, 6.0),  # half beyond the last column, of value 12
        ((2.0, -0.75), 0, 0.5),  # three quarters above the first row, of value 2
        ((3.0, 1.0), 0, 0.0),
        ((-40.0, 1e12), 1, 0.0),
    ],
)
def test_sample_of_a_ramp_and_zero_beyond_the_border(place, level, value):
    assert sampled(place, level) == pytest.approx(value, abs=1e-12)


def test_a_place_that_is_no_number_gives_none():
    assert math.isnan(sampled((float("nan"), 0.0), 0))


def test_gradients_of_values_places_and_weights():
    torch.manual_seed(0)
    values = torch.randn(2, 30, 2, 1, dtype=torch.float64, requires_grad=True)
    # Away from integers, where the derivative jumps.
    pixels = torch.randint(-1, 4, (2, 2, 2, 2, 1, 2)) + 0.2 + 0.6 * torch.rand(2, 2, 2, 2, 1, 2)
    pixels = pixels.double().requires_grad_()
    weights = torch.randn(2, 2, 2, 2, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda v, p, w: sample_weighted(v, SIZES, p, w), (values, pixels, weights)
    )


def test_untrained_heads_look_in_eight_directions_one_two_and_three_pixels_far():
    attention = MultiScaleDeformableAttention(16, heads=8, levels=2, points=3)
    assert not attention.offsets.weight.any() and not attention.weights.weight.any()
    shift = attention.offsets.bias.view(8, 2, 3, 2)
    assert torch.equal(shift[:, 0], shift[:, 1])
    corners = [[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1]]
    for point in range(3):
        expected = torch.tensor(corners) * (point + 1.0)
        torch.testing.assert_close(shift[:, 0, point], expected, rtol=0, atol=1e-5)


def test_offsets_are_pixels_of_each_level_and_weights_share_all_its_places():
    attention = MultiScaleDeformableAttention(4, heads=1, levels=2, points=1).double()
    with torch.no_grad():
        attention.offsets.bias.copy_(torch.tensor([1.0, 0.0, 2.0, 1.0]))
        attention.weights.bias.copy_(torch.tensor([math.log(3), 0.0]))
        attention.value.weight.copy_(torch.eye(4))
        attention.output.weight.copy_(torch.eye(4))
    value = torch.cat([ramp(SIZES[0]), ramp(SIZES[1])]).view(1, -1, 1).expand(-1, -1, 4)
    reference = torch.tensor([[0.5, 0.25]]).double()  # (1, 0) and (2.5, 0.5) in pixels
    read = attention(torch.zeros(1, 1, 4).double(), reference, value, SIZES)
    expected = 0.75 * 2 + 0.25 * (10 * 1.5 + 4.5)
    assert read.flatten().tolist() == pytest.approx([expected] * 4)


def test_single_precision_under_autocast():
    torch.manual_seed(0)
    attention = MultiScaleDeformableAttention(16, heads=2, levels=2, points=2)
    torch.nn.init.normal_(attention.offsets.weight)
    query, value = torch.randn(2, 1, 30, 16)
    references = pixel_centres(SIZES, CPU, torch.float32)
    plain = attention(query, references, value, SIZES)
    with torch.autocast("cpu", torch.bfloat16):
        under = attention(query, references, value, SIZES)
    assert under.dtype == torch.float32
    assert torch.equal(under, plain)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_same_with_its_gradients():
    torch.manual_seed(0)
    inputs = (
        torch.randn(2, 30, 2, 4, dtype=torch.float64),
        torch.randn(2, 5, 2, 2, 3, 2, dtype=torch.float64) * 3,
        torch.randn(2, 5, 2, 2, 3, dtype=torch.float64),
    )
    results = []
    for device in ("cpu", "cuda"):
        values, pixels, weights = (x.to(device).requires_grad_() for x in inputs)
        read = sample_weighted(values, SIZES, pixels, weights)
        grads = torch.autograd.grad(read.square().sum(), (values, pixels, weights))
        results.append([x.cpu() for x in (read, *grads)])
    for cpu, cuda in zip(*results, strict=True):
        torch.testing.assert_close(cuda, cpu)
