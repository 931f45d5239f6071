"""Matching, points and every loss equal those of transformers' OneFormer, at its own points."""

import pytest
import torch
from hf_oneformer import assert_close

from unienc_core.contracts import StepContext
from unienc_core.losses.masks import ClassTerm, MaskDice, MaskEntropy, QueryTextContrast
from unienc_core.models.masks import matching
from unienc_core.models.masks.matching import (
    MatchOptions,
    assign,
    match_layers,
    matching_costs,
    sample_points,
)

pytestmark = pytest.mark.parity
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
CLASSES, QUERIES, POINTS, LAYERS = 5, 9, 64, 3
COUNTS = {"all": (3, 6), "none in one": (4, 0), "none at all": (0, 0)}


@pytest.fixture
def theirs(dtype, monkeypatch):
    """Their loss; every random point that it draws lies in `drawn`, every cost in `costs`."""
    library = pytest.importorskip("transformers.models.oneformer.modeling_oneformer")
    matcher = library.OneFormerHungarianMatcher(2.0, 5.0, 5.0, POINTS)
    loss = library.OneFormerLoss(CLASSES, matcher, {}, 0.1, POINTS, 3.0, 0.75, 0.07).to(dtype)
    loss.empty_weight[-1] = 0.1  # it comes in single precision, as does the number of masks
    count = loss.get_num_masks
    loss.get_num_masks = lambda *args, **kwargs: count(*args, **kwargs).to(dtype)
    loss.drawn, loss.costs = [], []
    # It narrows what it compares to single precision.
    monkeypatch.setattr(torch.Tensor, "float", lambda x: x)
    solve = library.linear_sum_assignment

    def draw(*shape, device=None):
        made = torch.testing.make_tensor(*shape, low=0, high=1, dtype=dtype, device="cpu")
        loss.drawn.append(made)
        return made

    def assignment(cost):
        loss.costs.append(cost)
        return solve(cost)

    with monkeypatch.context() as patch:
        patch.setattr(library.torch, "rand", draw)
        patch.setattr(library, "linear_sum_assignment", assignment)
        torch.manual_seed(0)
        yield loss


def predictions(dtype: torch.dtype) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Random classes and masks of every layer, as leaves."""
    torch.manual_seed(1)
    classes = [torch.randn(2, QUERIES, CLASSES + 1, dtype=dtype) * 2 for _ in range(LAYERS)]
    masks = [torch.randn(2, QUERIES, 6, 10, dtype=dtype) * 3 for _ in range(LAYERS)]
    return [x.requires_grad_() for x in classes], [x.requires_grad_() for x in masks]


def targets(counts: tuple[int, ...]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    torch.manual_seed(2)
    classes = [torch.randint(0, CLASSES, (n,)).sort().values for n in counts]
    blocks = [torch.randn(n, 6, 10) > 0.3 for n in counts]
    return classes, [x.repeat_interleave(4, 1).repeat_interleave(4, 2) for x in blocks]


def by_layer(drawn: list[torch.Tensor]) -> list[list[torch.Tensor]]:
    """Their draws of each layer, the last layer first: of each image, candidates, the rest."""
    return [drawn[i : i + 4] for i in range(0, len(drawn), 4)]


@DTYPES
@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
def test_costs_and_matches(dtype, theirs, counts):
    (said, *_), (drawn, *_) = predictions(dtype)
    classes, masks = targets(counts)
    found = theirs.matcher(drawn, said, [x.to(dtype) for x in masks], classes)
    for i, count in enumerate(counts):
        points = theirs.drawn[i]
        wanted = torch.zeros(1, 0, POINTS, dtype=dtype)
        if count:
            wanted = sample_points(masks[i][None].to(dtype), points)
        costs = matching_costs(
            said[i : i + 1],
            sample_points(drawn[i : i + 1], points),
            classes[i][None],
            wanted,
            MatchOptions(POINTS),
        )
        rows, columns = assign(costs[0].detach().numpy())
        assert [rows.tolist(), columns.tolist()] == [x.tolist() for x in found[i]]
        if count:
            assert_close(costs[0].detach(), theirs.costs[i])


@DTYPES
@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
def test_losses_and_their_gradients_over_all_layers(dtype, theirs, counts, monkeypatch):
    said, drawn = predictions(dtype)
    classes, masks = targets(counts)
    earlier = [
        {"class_queries_logits": c, "masks_queries_logits": m}
        for c, m in zip(said[:-1], drawn[:-1], strict=True)
    ]
    float_masks = [x.to(dtype) for x in masks]
    losses = theirs(drawn[-1], said[-1], None, float_masks, classes, None, earlier, False)

    def total(name: str) -> torch.Tensor:
        return torch.stack([x.reshape(()) for k, x in losses.items() if k.startswith(name)]).sum()

    expected = [total(f"loss_{name}") for name in ("cross_entropy", "mask", "dice")]
    last, *others = by_layer(theirs.drawn)
    layers = [*others, last]
    points = [torch.cat(layer[:2]) for layer in layers]
    points += [x for layer in layers for x in layer[2:]]

    def replay(like, rows, count):
        made = points.pop(0)
        assert made.shape == (rows, count, 2)
        return made

    monkeypatch.setattr(matching, "_draw", replay)
    made = match_layers(said, drawn, classes, masks, MatchOptions(POINTS))
    assert not points
    values = {
        "class_logits_layers": said,
        "query_classes_layers": made.query_classes,
        "point_logits_layers": made.point_logits,
        "point_targets_layers": made.point_targets,
    }
    terms = (ClassTerm(), MaskEntropy(), MaskDice())
    for term, theirs_of_it in zip(terms, expected, strict=True):
        mine = term(values, StepContext())
        if not sum(counts) and not isinstance(term, ClassTerm):
            assert mine == theirs_of_it == 0
            continue
        assert_close(mine.detach(), theirs_of_it.detach())
        leaves = said if isinstance(term, ClassTerm) else drawn
        gradients = torch.autograd.grad(mine, leaves, retain_graph=True)
        others = torch.autograd.grad(theirs_of_it, leaves, retain_graph=True)
        for a, b in zip(gradients, others, strict=True):
            assert_close(a, b)


@DTYPES
def test_contrast(dtype, theirs):
    torch.manual_seed(3)
    objects, texts = (torch.randn(3, QUERIES, 8, dtype=dtype, requires_grad=True) for _ in "ab")
    theirs_of_it = theirs.loss_contrastive(objects, texts)["loss_contrastive"]
    term = QueryTextContrast().to(dtype)
    # Theirs is a double for any type.
    term.log_scale.data = theirs.logit_scale.data
    mine = term({"object_queries": objects, "text_queries": texts}, StepContext())
    assert_close(mine.detach(), theirs_of_it.detach())
    gradients = torch.autograd.grad(mine, [objects, texts, term.log_scale])
    others = torch.autograd.grad(theirs_of_it, [objects, texts, theirs.logit_scale])
    for a, b in zip(gradients, others, strict=True):
        assert_close(a, b)
