"""The terms of queries and segments: by hand, by gradient, and shared out among processes."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional

from unienc_core.contracts import StepContext
from unienc_core.losses.masks import (
    ClassTerm,
    MaskDice,
    MaskEntropy,
    QueryTextContrast,
    gather_rows,
)

F64 = torch.float64
ALONE = StepContext()


def classes_of(*layers: tuple[list, list]) -> dict:
    logits, wanted = zip(*layers, strict=True)
    return {
        "class_logits_layers": [torch.tensor(x, dtype=F64) for x in logits],
        "query_classes_layers": [torch.tensor(x) for x in wanted],
    }


def points_of(*layers: tuple[list, list]) -> dict:
    logits, targets = zip(*layers, strict=True)
    return {
        "point_logits_layers": [torch.tensor(x, dtype=F64) for x in logits],
        "point_targets_layers": [torch.tensor(x, dtype=F64) for x in targets],
    }


def test_class_is_a_weighted_mean_per_layer():
    half, third = math.log(2), math.log(3)
    # Probabilities 1/2, 1/4, 1/4 (matched with class 0) and 1/3 each (no object).
    layer = ([[[half, 0.0, 0.0]], [[0.0, 0.0, 0.0]]], [[0], [2]])
    expected = (half + 0.1 * third) / 1.1
    assert ClassTerm()(classes_of(layer), ALONE).item() == pytest.approx(expected, rel=1e-12)
    both = ClassTerm()(classes_of(layer, layer), ALONE).item()
    assert both == pytest.approx(2 * expected, rel=1e-12)
    even = ClassTerm(no_object=1.0)(classes_of(layer), ALONE).item()
    assert even == pytest.approx((half + third) / 2, rel=1e-12)


def test_masks_are_measured_at_their_points():
    layer = ([[40.0, 40.0, -40.0, -40.0], [0.0, 0.0, 0.0, 0.0]], [[1, 0.5, 0, 0], [1, 1, 0, 0]])
    entropy = (20 / 4 + math.log(2)) / 2
    dice = ((1 - 4 / 4.5) + (1 - 3 / 5)) / 2
    values = points_of(layer, layer)
    assert MaskEntropy()(values, ALONE).item() == pytest.approx(2 * entropy, rel=1e-9)
    assert MaskDice()(values, ALONE).item() == pytest.approx(2 * dice, rel=1e-9)


@pytest.mark.parametrize("term", [MaskEntropy, MaskDice])
def test_a_batch_without_segments_is_a_zero_of_the_graph(term):
    logits = torch.randn(0, 8, dtype=F64, requires_grad=True)
    values = {"point_logits_layers": [logits], "point_targets_layers": [logits.detach()]}
    loss = term()(values, ALONE)
    assert loss == 0
    loss.backward()
    assert logits.grad is not None


@pytest.mark.parametrize("term", [MaskEntropy, MaskDice])
def test_gradients_of_masks(term):
    torch.manual_seed(0)
    targets = torch.rand(3, 5, dtype=F64)

    def loss(logits):
        made = {"point_logits_layers": [logits], "point_targets_layers": [targets]}
        return term()(made, ALONE)

    assert gradcheck(loss, torch.randn(3, 5, dtype=F64, requires_grad=True))


def test_gradients_of_classes():
    torch.manual_seed(0)
    wanted = torch.tensor([[0, 3, 1], [3, 3, 2]])

    def loss(logits):
        made = {"class_logits_layers": [logits], "query_classes_layers": [wanted]}
        return ClassTerm()(made, ALONE)

    assert gradcheck(loss, torch.randn(2, 3, 4, dtype=F64, requires_grad=True))


def contrast(**options) -> QueryTextContrast:
    return QueryTextContrast(**options).double()


def pair(batch: int, seed: int = 0) -> dict:
    torch.manual_seed(seed)
    return {k: torch.randn(batch, 4, 3, dtype=F64) for k in ("object_queries", "text_queries")}


def test_contrast_of_one_image_is_zero():
    term, values = contrast(), pair(1)
    values["object_queries"].requires_grad_()
    loss = term(values, ALONE)
    assert loss == 0
    loss.backward()
    assert not values["object_queries"].grad.any() and not term.log_scale.grad.any()


def test_contrast_by_hand():
    # Two images whose queries and texts are the axes of the plane, at a cosine of 1 and 0.
    axes = torch.eye(2, dtype=F64)[:, None]
    term = contrast(temperature=0.5)
    values = {"object_queries": 3 * axes, "text_queries": 7 * axes}
    expected = 2 * math.log(1 + math.exp(-2))
    assert term(values, ALONE).item() == pytest.approx(expected, rel=1e-6)
    values["text_queries"] = axes.flip(0)
    expected = 2 * math.log(1 + math.exp(2))
    assert term(values, ALONE).item() == pytest.approx(expected, rel=1e-6)
    assert term.logs["scale"].item() == pytest.approx(2.0)


def test_the_temperature_is_learned_and_bounded():
    term = contrast()
    assert term.log_scale.exp().item() == pytest.approx(1 / 0.07)
    term(pair(3), ALONE).backward()
    assert term.log_scale.grad.abs() > 0
    with torch.no_grad():
        term.log_scale.fill_(9.0)
    term(pair(3), ALONE)
    assert term.logs["scale"] == 100


def test_gradients_of_contrast():
    term, values = contrast(temperature=0.3), pair(3)

    def loss(objects, texts, log_scale):
        term.log_scale.data = log_scale
        return term({"object_queries": objects, "text_queries": texts}, ALONE)

    leaves = [x.requires_grad_() for x in values.values()]
    assert gradcheck(lambda *x: loss(*x, term.log_scale.data), leaves)


def losses_of_ranks(term, shares: list[dict]) -> list[torch.Tensor]:
    """The loss of each process of a run, which are threads here."""
    size = len(shares)
    together, brought = threading.Barrier(size, timeout=30), [torch.empty(0)] * size

    def add_up(rank: int, x: torch.Tensor) -> torch.Tensor:
        assert not x.requires_grad
        brought[rank] = x
        together.wait()
        total = torch.stack(brought).sum(0)
        together.wait()
        return total

    def run(rank: int) -> torch.Tensor:
        context = StepContext(processes=size, rank=rank, sum_over_processes=partial(add_up, rank))
        return term(shares[rank], context)

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run, range(size)))


def shares_of_contrast(rows: list[int]) -> tuple[dict, list[dict]]:
    whole = {k: x.requires_grad_() for k, x in pair(sum(rows)).items()}
    parts = [x.split(rows) for x in whole.values()]
    return whole, [dict(zip(whole, part, strict=True)) for part in zip(*parts, strict=True)]


def averaged(losses: list[torch.Tensor], leaves) -> list[torch.Tensor]:
    """Gradients as DDP leaves them: the mean over processes."""
    grads = [torch.autograd.grad(x, leaves, retain_graph=True, allow_unused=True) for x in losses]
    return [
        sum(g if g is not None else torch.zeros_like(leaf) for g in of_leaf) / len(losses)
        for leaf, of_leaf in zip(leaves, zip(*grads, strict=True), strict=True)
    ]


@pytest.mark.parametrize("rows", [[2, 2], [1, 1], [2, 1], [1, 3, 2]])
def test_contrast_sees_the_pairs_of_all_processes(rows):
    whole, shares = shares_of_contrast(rows)
    term = contrast()
    expected = term(whole, ALONE)
    losses = losses_of_ranks(term, shares)
    for loss in losses:
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    leaves = [*whole.values(), term.log_scale]
    found = averaged(losses, leaves)
    for mine, right in zip(found, torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-10, atol=1e-14)


def random_values(images: list[int], segments: list[int]) -> tuple[dict, list[dict]]:
    """Values of a whole batch, and of processes with so many images and segments each."""
    torch.manual_seed(1)
    logits = [torch.randn(sum(images), 5, 4, dtype=F64, requires_grad=True) for _ in "ab"]
    wanted = [torch.randint(0, 4, (sum(images), 5)) for _ in "ab"]
    points = [torch.randn(sum(segments), 6, dtype=F64, requires_grad=True) for _ in "ab"]
    targets = [torch.rand(sum(segments), 6, dtype=F64) for _ in "ab"]
    keys = {
        "class_logits_layers": (logits, images),
        "query_classes_layers": (wanted, images),
        "point_logits_layers": (points, segments),
        "point_targets_layers": (targets, segments),
    }
    whole = {key: layers for key, (layers, _) in keys.items()}
    shares = [
        {key: [x.split(rows)[rank] for x in layers] for key, (layers, rows) in keys.items()}
        for rank in range(len(images))
    ]
    return whole, shares


@pytest.mark.parametrize("segments", [[3, 1], [4, 0], [0, 0]])
@pytest.mark.parametrize("kind", [ClassTerm, MaskEntropy, MaskDice])
def test_shared_out_a_batch_has_the_same_loss(kind, segments):
    whole, shares = random_values([2, 1], segments)
    term = kind()
    expected = term(whole, ALONE)
    losses = losses_of_ranks(term, shares)
    torch.testing.assert_close(sum(losses) / 2, expected)
    leaves = whole["class_logits_layers" if kind is ClassTerm else "point_logits_layers"]
    right = torch.autograd.grad(expected, leaves)
    for mine, other in zip(averaged(losses, leaves), right, strict=True):
        torch.testing.assert_close(mine, other)


def test_gathered_rows_lie_in_order_of_rank():
    rows = torch.arange(12.0).view(1, 6, 2)
    own = rows[:, 2:3].clone().requires_grad_()
    sums = iter([torch.tensor([2, 1, 3]), rows])
    context = StepContext(processes=3, rank=1, sum_over_processes=lambda x: next(sums))
    found = gather_rows(own, context)
    assert torch.equal(found, rows)
    (found * rows).sum().backward()
    torch.testing.assert_close(own.grad, 3 * rows[:, 2:3])


def test_equal_texts_make_the_loss_of_a_guess():
    values = pair(3)
    values["text_queries"] = values["text_queries"][:1].expand(3, -1, -1)
    found = contrast()(values, ALONE)
    objects = functional.normalize(values["object_queries"].flatten(1), dim=1)
    text = functional.normalize(values["text_queries"].flatten(1), dim=1)[0]
    cosines = objects @ text / 0.07
    expected = math.log(3) + (torch.logsumexp(cosines, 0) - cosines.mean())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
