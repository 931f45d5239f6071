"""Sentences, task token and text queries."""

import pytest
import torch

from unienc_core.classes import TRAIN_NAMES
from unienc_core.errors import WiringError
from unienc_core.models.masks import TaskToken, TextQueries
from unienc_core.sentences import (
    CLIP_TOKENS,
    CONTEXT_LENGTH,
    END,
    class_sentence,
    closed_vocabulary,
    photo_sentence,
    task_sentence,
)

# Made by CLIP's own tokenizer.
TOKENIZED = {
    task_sentence("semantic"): [518, 10549, 533, 29119, 1550],
    task_sentence("instance"): [518, 10549, 533, 34572],
    task_sentence("panoptic"): [518, 10549, 533, 1072, 24755],
    photo_sentence("semantic"): [320, 29119, 1550, 1125],
    photo_sentence("instance"): [550, 34572, 1125],
    photo_sentence("panoptic"): [320, 1072, 24755, 1125],
    class_sentence("road"): [320, 1125, 593, 320, 1759],
    class_sentence("traffic light"): [320, 1125, 593, 320, 3399, 1395],
    class_sentence("traffic sign"): [320, 1125, 593, 320, 3399, 2292],
    class_sentence("bicycle"): [320, 1125, 593, 320, 11652],
}


def texts(*sentences: str, vocabulary=None) -> torch.Tensor:
    words = vocabulary or closed_vocabulary()
    return torch.stack([torch.from_numpy(words.encode(s)) for s in sentences])


def branch(tokens=None, **options) -> TextQueries:
    torch.manual_seed(0)
    made = TextQueries(
        tokens or closed_vocabulary().tokens,
        **({"width": 16, "layers": 2, "heads": 2, "out": 8, "context": 2} | options),
    )
    torch.nn.init.normal_(made.embed.weight)
    return made.double()


@pytest.mark.parametrize("sentence", TOKENIZED)
def test_tokens_are_those_of_clip(sentence):
    expected = [49406, *TOKENIZED[sentence], 49407]
    found = closed_vocabulary().encode(sentence)
    assert found.tolist() == expected + [0] * (CONTEXT_LENGTH - len(expected))


def test_the_closed_vocabulary_knows_all_classes_and_is_small():
    plain, named = closed_vocabulary(), closed_vocabulary(TRAIN_NAMES)
    assert plain == named
    assert max(plain.tokens) == END and plain.tokens[0] == 0 and len(plain.tokens) < 50


def test_a_sentence_too_long_is_cut_and_ends():
    found = closed_vocabulary().encode("the " * 100)
    assert found.shape == (77,) and found[-1] == END and (found[1:-1] == 518).all()


def test_words_of_ones_own_get_tokens_in_order():
    vocabulary = closed_vocabulary(["Cable car", "road", "tram", "cable"])
    assert vocabulary.words["cable"] == (CLIP_TOKENS,)
    assert vocabulary.words["tram"] == (CLIP_TOKENS + 1,)
    made = branch(vocabulary.tokens)
    ids = texts(class_sentence("cable car"), class_sentence("tram"), vocabulary=vocabulary)
    made(ids[None])[0, :2].sum().backward()
    learned = made.tokens[made.embed.weight.grad.any(1)].tolist()
    assert {CLIP_TOKENS, CLIP_TOKENS + 1} < set(learned)
    assert END in learned and not {0, 1759} & set(learned)


def test_tokens_without_embedding_are_an_error():
    with pytest.raises(WiringError, match="49408"):
        branch()(texts("tram", vocabulary=closed_vocabulary(["tram"]))[None])


def test_distinct_sentences_are_encoded_once_and_no_further_than_their_end():
    made, shapes = branch(), []
    made.blocks[0].register_forward_hook(lambda m, x, y: shapes.append(tuple(x[0].shape)))
    road, photo = class_sentence("road"), photo_sentence("panoptic")
    ids = texts(road, road, photo, photo, photo, class_sentence("car")).view(2, 3, 77)
    queries = made(ids)
    assert shapes == [(3, 7, 16)]
    assert queries.shape == (2, 5, 8)
    assert torch.equal(queries[:, 3:], made.context.weight.expand(2, -1, -1))
    for image in range(2):
        for slot in range(3):
            alone = made(ids[image, slot].view(1, 1, -1))[0, 0]
            torch.testing.assert_close(queries[image, slot], alone, rtol=0, atol=1e-12)


def test_equal_slots_add_up_their_gradients():
    made, one = branch(), texts(class_sentence("sky"))
    made(one.expand(4, -1)[None])[:, :4].sum().backward()
    four = made.embed.weight.grad.clone()
    made.zero_grad()
    made(one[None])[:, :1].sum().backward()
    torch.testing.assert_close(four, 4 * made.embed.weight.grad)


def test_what_follows_the_end_is_not_seen():
    made = branch()
    road = texts(class_sentence("road"))
    longer = texts(class_sentence("road"), class_sentence("traffic light"))
    changed = road.clone()
    changed[0, 10:20] = 518
    expected = made(road[None])[0, 0]
    for ids in (changed, longer):
        torch.testing.assert_close(made(ids[None])[0, 0], expected, rtol=0, atol=1e-12)


def test_order_of_words_counts():
    made = branch()
    one, other = texts("a car photo", "a photo car")
    assert (made(one.view(1, 1, -1))[0, 0] - made(other.view(1, 1, -1))[0, 0]).abs().max() > 1e-3


def test_the_task_token_is_made_of_raw_ids():
    made = TaskToken(4).double()
    ids = texts(task_sentence("semantic"))
    first, second = made.layers[0], made.layers[2]
    hidden = (ids.double() @ first.weight.T + first.bias).clamp(min=0)
    torch.testing.assert_close(made(ids), hidden @ second.weight.T + second.bias)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
def test_the_task_token_keeps_single_precision_under_autocast(half):
    made = TaskToken(4)
    torch.nn.init.constant_(made.layers[0].weight, 1.0)
    torch.nn.init.constant_(made.layers[2].weight, 1.0)
    ids = texts(task_sentence("instance"))
    with torch.autocast("cpu", half):
        token = made(ids)
    # The sum of all ids, four times; beyond the range of float16.
    assert token.dtype == torch.float32 and token.isfinite().all()
    torch.testing.assert_close(token, torch.full((1, 4), 4.0 * ids.sum()), rtol=1e-5, atol=1)
