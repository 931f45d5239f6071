"""Positions, deformable attention and the pixel decoder equal those of transformers' OneFormer."""

import pytest
import torch
from hf_oneformer import HEADS, SPEC, WIDTH, assert_close, copy_weights, pyramid, toy

from unienc_core.models.masks import MultiScaleDeformableAttention, PixelDecoder
from unienc_core.models.masks.position import pixel_centres, sine_positions

pytestmark = pytest.mark.parity
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
CPU = torch.device("cpu")
NAMES = {
    "offsets": "sampling_offsets",
    "weights": "attention_weights",
    "value": "value_proj",
    "output": "output_proj",
}


def hf():
    pytest.importorskip("transformers")
    from transformers.models.oneformer import modeling_oneformer

    return modeling_oneformer


@DTYPES
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (12, 32)], ids=str)
def test_positions(dtype, size):
    embed = hf().OneFormerSinePositionEmbedding(WIDTH // 2, normalize=True)
    theirs = embed((1, WIDTH, *size), CPU, dtype)
    assert_close(sine_positions(size, WIDTH, CPU, dtype), theirs[0].flatten(1).T)


@DTYPES
def test_deformable_attention_with_its_gradients(dtype):
    theirs = hf().OneFormerPixelDecoderEncoderMultiscaleDeformableAttention(WIDTH, HEADS, 3, 4)
    theirs = theirs.to(dtype)
    ours = MultiScaleDeformableAttention(WIDTH, heads=HEADS, levels=3, points=4).to(dtype)
    pairs = [
        (getattr(ours, mine).get_parameter(kind), getattr(theirs, their).get_parameter(kind))
        for mine, their in NAMES.items()
        for kind in ("weight", "bias")
    ]
    torch.manual_seed(0)
    with torch.no_grad():
        for mine, their in pairs:
            their.copy_(mine.normal_())
    sizes = ((2, 3), (4, 6), (8, 12))
    references = pixel_centres(sizes, CPU, dtype)
    inputs = torch.randn(2, 2, len(references), WIDTH, dtype=dtype).requires_grad_()
    query, value = inputs
    read = ours(query, references, value, sizes)
    expected = theirs(
        query,
        encoder_hidden_states=value,
        reference_points=references[None, :, None].expand(2, -1, 3, -1),
        spatial_shapes=torch.tensor(sizes),
        spatial_shapes_list=sizes,
    )[0]
    assert_close(read, expected)
    weigh = torch.randn_like(read)
    mine, their = (
        torch.autograd.grad((x * weigh).sum(), [inputs, *parameters])
        for x, parameters in zip((read, expected), zip(*pairs, strict=True), strict=True)
    )
    for a, b in zip(mine, their, strict=True):
        assert_close(a, b)


@DTYPES
def test_pixel_decoder(dtype):
    theirs = toy(dtype)
    ours = PixelDecoder(SPEC, width=WIDTH, layers=2, heads=HEADS, hidden=48).to(dtype).eval()
    copy_weights("pixel_decoder", ours, theirs)
    levels = pyramid(dtype)
    with torch.no_grad():
        mask_features, maps = ours(levels)
        expected = theirs.pixel_level_module.decoder(levels)
    assert_close(mask_features, expected.mask_features)
    for mine, their in zip(maps, expected.multi_scale_features, strict=True):
        assert_close(mine, their)
