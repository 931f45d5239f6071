"""Pixel decoder and query decoder: sizes, order, masks, tasks side by side."""

import pytest
import torch
from torch import nn

from unienc_core.contracts import PyramidSpec
from unienc_core.models.masks import MaskedAttentionDecoder, PixelDecoder, TaskToken, TextQueries
from unienc_core.models.masks.query_decoder import _allowed
from unienc_core.sentences import closed_vocabulary

SPEC = PyramidSpec((4, 8, 16, 32), (6, 8, 10, 12))
TINY = {"width": 32, "layers": 2, "heads": 4, "hidden": 24}


def levels(batch: int = 2) -> list[torch.Tensor]:
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3)]
    return [torch.randn(batch, c, *s) for c, s in zip(SPEC.channels, sizes, strict=True)]


def decoder(**options) -> MaskedAttentionDecoder:
    torch.manual_seed(0)
    return MaskedAttentionDecoder(3, **(TINY | {"queries": 5} | options)).eval()


def inputs(batch: int = 2) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
    torch.manual_seed(1)
    maps = [torch.randn(batch, 32, 2 * n, 3 * n) for n in (1, 2, 4)]
    return torch.randn(batch, 32, 16, 24), maps, torch.randn(batch, 32)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_pixel_decoder_gives_a_fine_map_and_three_coarse_ones():
    made = PixelDecoder(SPEC, **TINY, points=2)
    mask_features, maps = made(levels())
    assert mask_features.shape == (2, 32, 16, 24)
    assert [x.shape for x in maps] == [(2, 32, 2, 3), (2, 32, 4, 6), (2, 32, 8, 12)]
    (mask_features.square().mean() + sum(x.square().mean() for x in maps)).backward()
    assert all(p.grad is not None for p in made.parameters())


def test_pixel_decoder_reads_the_last_four_levels_of_any_size():
    spec = PyramidSpec((2, *SPEC.strides), (5, *SPEC.channels))
    torch.manual_seed(0)
    longer = PixelDecoder(spec, **TINY).eval()
    odd = [
        torch.randn(1, c, *s)
        for c, s in zip(SPEC.channels, [(13, 9), (7, 5), (4, 3), (2, 2)], strict=True)
    ]
    with torch.no_grad():
        mask_features, maps = longer([torch.randn(1, 5, 26, 18), *odd])
        again, _ = longer(odd)
    assert mask_features.shape == (1, 32, 13, 9) and maps[-1].shape == (1, 32, 7, 5)
    assert torch.equal(mask_features, again)


def test_sizes_of_the_published_network():
    spec = PyramidSpec(SPEC.strides, (96, 192, 384, 768))  # Swin-T, itself 27.52 M
    pixels, queries, task = PixelDecoder(spec), MaskedAttentionDecoder(19), TaskToken(256)
    assert f"{count(pixels) / 1e6:.2f} {count(queries) / 1e6:.2f}" == "5.42 17.67"
    assert count(task) == 77 * 256 + 256 + 256 * 256 + 256
    decoders = count(pixels) + count(queries) + count(task)
    assert f"{27.520698 + decoders / 1e6:.2f}" == "50.70"
    whole = count(TextQueries(range(49408)))
    closed = count(TextQueries(closed_vocabulary().tokens))
    assert f"{whole / 1e6:.2f}" == "17.54"
    temperature = 1
    assert f"{27.520698 + (decoders + whole + temperature) / 1e6:.2f}" == "68.25"
    assert f"{27.520698 + (decoders + closed + temperature) / 1e6:.1f}" == "55.6"


def test_ten_predictions_of_nine_layers_or_the_last_alone():
    made, given = decoder(layers=9), inputs()
    with torch.no_grad():
        every, last = made(*given), made(*given, every_layer=False)
    assert [x.shape for x in every.class_logits] == [(2, 5, 4)] * 10
    assert [x.shape for x in every.mask_logits] == [(2, 5, 16, 24)] * 10
    assert len(last.class_logits) == len(last.mask_logits) == 1
    assert torch.equal(last.mask_logits[0], every.mask_logits[-1])
    assert torch.equal(last.class_logits[0], every.class_logits[-1])


def test_layers_look_at_the_coarsest_map_first_and_at_the_image_before_each_other():
    made, calls = decoder(layers=4), []
    for layer in made.layers:
        layer.look.register_forward_hook(lambda m, x, y: calls.append(x[1].shape[1]))
        layer.among.register_forward_hook(lambda m, x, y: calls.append("among"))
    with torch.no_grad():
        made(*inputs())
    places = [6, 24, 96, 6]
    assert calls == [call for n in places for call in (n, "among")]


def test_the_last_query_is_the_task_token_under_the_norm_of_the_predictions():
    made, (mask_features, maps, token) = decoder(), inputs()
    nn.init.normal_(made.norm.weight)
    with torch.no_grad():
        found = made(mask_features, maps, 1e4 * token)
        assert torch.equal(found.object_queries[:, -1], made.norm(1e4 * token))
        classes = made.to_class(made.norm(found.object_queries))
    assert torch.equal(found.class_logits[0], classes)


def test_queries_look_within_their_masks_and_anywhere_if_those_are_empty():
    features = torch.tensor([[[1.0, -1.0], [0.0, 2.0]]]).view(1, 1, 2, 2)
    embedded = torch.tensor([[[1.0], [-1.0]], [[-2.0], [1.0]]])  # two tasks of one image
    allowed = _allowed(embedded, features)
    positive, negative = [True, False, True, True], [False, True, True, False]
    assert allowed.tolist() == [[positive, negative], [negative, positive]]
    nowhere = _allowed(-torch.ones(1, 1, 1), torch.ones(1, 1, 2, 2))
    assert nowhere.tolist() == [[[True] * 4]]


def test_no_query_reads_what_its_mask_leaves_out():
    made, (mask_features, maps, token) = decoder(layers=1), inputs(1)
    with torch.no_grad():
        begun = made(mask_features, maps, token)
        # Smallest map: masks are resized to it, and a place outside all of them is changed.
        resized = nn.functional.interpolate(begun.mask_logits[0], (2, 3), mode="bilinear")
        inside = resized.flatten(2) >= 0
        opened = inside | ~inside.any(-1, keepdim=True)
        for place in range(6):
            changed = [maps[0].clone(), *maps[1:]]
            changed[0].flatten(2)[:, :, place] += 5
            reads = made.layers[0].look
            seen = []
            hook = reads.register_forward_hook(lambda m, x, y, seen=seen: seen.append(y))
            made(mask_features, maps, token)
            made(mask_features, changed, token)
            hook.remove()
            differs = (seen[0] != seen[1]).any(-1)
            assert torch.equal(differs, opened[:, :, place])


@pytest.mark.parametrize("batch", [1, 2])
def test_tasks_of_an_image_side_by_side_equal_one_after_another(batch):
    made, (mask_features, maps, _) = decoder(), inputs(batch)
    tokens = torch.randn(batch, 3, 32)
    with torch.no_grad():
        together = made(mask_features, maps, tokens.flatten(0, 1))
        for task in range(3):
            alone = made(mask_features, maps, tokens[:, task])
            for name in ("class_logits", "mask_logits"):
                a, b = getattr(together, name)[-1], getattr(alone, name)[-1]
                torch.testing.assert_close(
                    a.unflatten(0, (batch, 3))[:, task], b, rtol=0, atol=1e-4
                )


@pytest.mark.parametrize("values", ["positions", "features"])
def test_features_reach_the_first_queries_through_keys_and_if_asked_values(values):
    made, (mask_features, maps, token) = decoder(query_values=values), inputs()
    with torch.no_grad():
        for layer in made.initialiser.layers:  # no keys: every place counts alike
            layer.look.project.weight[32:64] = 0
        one = made(mask_features, maps, token).object_queries
        other = made(mask_features + 1, maps, token).object_queries
    assert torch.allclose(one, other, atol=1e-5) == (values == "positions")


def test_keys_hold_both_positions_and_features():
    made, (mask_features, maps, token) = decoder(), inputs()
    with torch.no_grad():
        one = made(mask_features, maps, token).object_queries
        other = made(mask_features.flip(3), maps, token).object_queries
    assert not torch.allclose(one, other, atol=1e-5)


def test_predictions_are_single_precision_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        found = decoder()(*inputs())
    assert all(x.dtype == torch.float32 for x in found.class_logits + found.mask_logits)
    assert all(x.isfinite().all() for x in found.class_logits + found.mask_logits)


def test_every_parameter_learns():
    made = decoder().train()
    found = made(*inputs())
    sum(x.square().mean() for x in found.class_logits + found.mask_logits).backward()
    assert all(p.grad is not None for p in made.parameters())
