"""Task token, query transformer, all ten predictions and the texts equal transformers' OneFormer.

Its text encoder makes a causal mask and never applies it; here it is applied.
"""

import pytest
import torch
from hf_oneformer import (
    CLASSES,
    HEADS,
    LAYERS,
    QUERIES,
    SPEC,
    WIDTH,
    assert_close,
    copy_weights,
    pyramid,
    toy,
)

from unienc_core.models.masks import MaskedAttentionDecoder, PixelDecoder, TaskToken, TextQueries
from unienc_core.models.masks.hf_keys import from_hf, hf_names
from unienc_core.sentences import (
    TASKS,
    class_sentence,
    closed_vocabulary,
    photo_sentence,
    task_sentence,
)

pytestmark = pytest.mark.parity
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])


def sentences(*texts: str) -> torch.Tensor:
    vocabulary = closed_vocabulary()
    return torch.stack([torch.from_numpy(vocabulary.encode(text)) for text in texts])


def decoder(dtype: torch.dtype, theirs: torch.nn.Module) -> MaskedAttentionDecoder:
    ours = MaskedAttentionDecoder(
        CLASSES, width=WIDTH, queries=QUERIES, layers=LAYERS, heads=HEADS, hidden=64
    )
    ours = ours.to(dtype).eval()
    copy_weights("query_decoder", ours, theirs)
    return ours


def task_token(dtype: torch.dtype, theirs: torch.nn.Module) -> TaskToken:
    ours = TaskToken(WIDTH).to(dtype)
    copy_weights("task_token", ours, theirs)
    return ours


@DTYPES
def test_task_token_after_the_norm_of_the_decoder(dtype):
    theirs = toy(dtype)
    ids = sentences(*map(task_sentence, TASKS))
    with torch.no_grad():
        expected = theirs.transformer_module.decoder.decoder_norm(
            theirs.task_encoder(ids.to(dtype))
        )
        mine = decoder(dtype, theirs).norm(task_token(dtype, theirs)(ids))
    assert_close(mine, expected)


@DTYPES
def test_queries_and_all_predictions(dtype):
    theirs = toy(dtype)
    ids = sentences("the task is panoptic", "the task is instance")
    with torch.no_grad():
        pixels = theirs.pixel_level_module.decoder(pyramid(dtype))
        maps, mask_features = pixels.multi_scale_features, pixels.mask_features
        expected = theirs.transformer_module(
            maps, mask_features, theirs.task_encoder(ids.to(dtype))
        )
        token = task_token(dtype, theirs)(ids)
        mine = decoder(dtype, theirs)(mask_features, maps, token)
    assert_close(mine.object_queries, expected.contrastive_logits)
    auxiliary = expected.auxiliary_predictions
    classes = [*(x["class_queries_logits"] for x in auxiliary), expected.prediction_class]
    masks = [*(x["masks_queries_logits"] for x in auxiliary), expected.prediction_masks]
    assert len(mine.class_logits) == len(mine.mask_logits) == LAYERS + 1
    for a, b in zip(mine.class_logits + mine.mask_logits, classes + masks, strict=True):
        assert_close(a, b)


@DTYPES
def test_decoders_from_an_encoders_levels_on(dtype):
    theirs = toy(dtype)
    ids = sentences("the task is semantic", "the task is semantic")
    pixel_decoder = PixelDecoder(SPEC, width=WIDTH, layers=2, heads=HEADS, hidden=48)
    pixel_decoder = pixel_decoder.to(dtype).eval()
    copy_weights("pixel_decoder", pixel_decoder, theirs)
    levels = pyramid(dtype)
    with torch.no_grad():
        pixels = theirs.pixel_level_module.decoder(levels)
        expected = theirs.transformer_module(
            pixels.multi_scale_features, pixels.mask_features, theirs.task_encoder(ids.to(dtype))
        )
        token = task_token(dtype, theirs)(ids)
        mine = decoder(dtype, theirs)(*pixel_decoder(levels), token, every_layer=False)
    assert len(mine.class_logits) == len(mine.mask_logits) == 1
    assert_close(mine.class_logits[0], expected.prediction_class)
    assert_close(mine.mask_logits[0], expected.prediction_masks)


def causal_texts(mapper: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """transformers' text mapper, each sentence at full length, with the mask that it means."""
    encoder = mapper.text_encoder
    x = (encoder.token_embedding(ids) + encoder.positional_embedding).transpose(0, 1)
    mask = encoder.build_attention_mask().to(x.dtype)
    for layer in encoder.transformer.layers:
        normed = layer.layer_norm1(x)
        x = x + layer.self_attn(normed, normed, normed, attn_mask=mask, need_weights=False)[0]
        x = x + layer.mlp(layer.layer_norm2(x))
    x = encoder.ln_final(x).transpose(0, 1)
    return mapper.text_projector(x[torch.arange(len(ids)), ids.argmax(-1)])


@DTYPES
@pytest.mark.parametrize("compact", [False, True], ids=["whole", "closed"])
def test_text_queries(dtype, compact):
    theirs = toy(dtype, is_training=True)
    tokens = closed_vocabulary().tokens if compact else range(49408)
    ours = TextQueries(tokens, width=128, layers=2, heads=2, out=WIDTH, context=0).to(dtype)
    state = theirs.state_dict()
    table = "text_mapper.text_encoder.token_embedding.weight"
    state[table] = state[table][list(tokens)]
    names = [name for name, _ in ours.named_parameters() if not name.startswith("context")]
    moved = from_hf("text_queries", names, state)
    ours.load_state_dict(moved | {"context.weight": ours.context.weight})
    ids = sentences(
        class_sentence("traffic light"),
        class_sentence("car"),
        photo_sentence("panoptic"),
        class_sentence("car"),
        photo_sentence("panoptic"),
        photo_sentence("instance"),
    ).view(2, 3, 77)
    with torch.no_grad():
        mine = ours(ids)
        expected = causal_texts(theirs.text_mapper, ids.flatten(0, 1)).unflatten(0, (2, 3))
        unmasked = theirs.text_mapper(ids)
    assert_close(mine, expected)
    # Were the mask of no account, this test would not see whether it is there.
    assert (expected - unmasked).abs().max() > 1e-3 * expected.abs().max()


def test_their_context_comes_after_the_texts():
    theirs = toy(
        torch.float64,
        is_training=True,
        text_encoder_width=WIDTH * 2,
        hidden_dim=WIDTH * 2,
        text_encoder_n_ctx=3,
    )
    ours = TextQueries(range(49408), width=64, layers=2, heads=1, out=64, context=3).double()
    copy_weights("text_queries", ours, theirs)
    ids = sentences(photo_sentence("semantic"))[None].expand(2, -1, -1)
    with torch.no_grad():
        assert_close(ours(ids)[:, 1:], theirs.text_mapper(ids)[:, 1:])


def test_every_weight_of_theirs_is_used():
    theirs = toy(torch.float32, is_training=True, text_encoder_n_ctx=3)
    parts = {
        "pixel_decoder": PixelDecoder(SPEC, width=WIDTH, layers=2, heads=HEADS, hidden=48),
        "query_decoder": MaskedAttentionDecoder(
            CLASSES, width=WIDTH, queries=QUERIES, layers=LAYERS, heads=HEADS, hidden=64
        ),
        "task_token": TaskToken(WIDTH),
        "text_queries": TextQueries([0, 49406, 49407], width=128, layers=2, heads=2, context=3),
    }
    found = [
        name
        for part, module in parts.items()
        for key in module.state_dict()
        for name in hf_names(part, key)
    ]
    assert len(found) == len(set(found))
    encoder = "pixel_level_module.encoder."
    assert set(found) == {name for name in theirs.state_dict() if not name.startswith(encoder)}
