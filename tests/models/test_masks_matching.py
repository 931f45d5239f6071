"""Matching queries with segments, and the points at which masks are compared."""

import numpy as np
import pytest
import torch

from unienc_core.models.masks.matching import (
    MatchOptions,
    assign,
    compare_at_points,
    match_layers,
    matching_costs,
    sample_points,
    uncertain_points,
)

F64 = torch.float64


def blocks(*areas: tuple[slice, slice], size=(8, 12)) -> torch.Tensor:
    """Masks ``N H W``, each true in one area."""
    masks = torch.zeros(len(areas), *size, dtype=torch.bool)
    for mask, area in zip(masks, areas, strict=True):
        mask[area] = True
    return masks


LEFT, RIGHT, TOP = (
    (slice(None), slice(0, 6)),
    (slice(None), slice(6, 12)),
    (slice(0, 4), slice(None)),
)


def perfect(classes, masks, *, queries=5, kinds=4, order=None):
    """Logits of one image that say these segments, by the queries named in `order`."""
    order = list(range(len(classes))) if order is None else order
    said = torch.zeros(1, queries, kinds + 1)
    said[..., -1] = 9.0
    drawn = torch.full((1, queries, *masks.shape[1:]), -9.0)
    for query, kind, mask in zip(order, classes, masks, strict=True):
        said[0, query] = 0.0
        said[0, query, kind] = 9.0
        drawn[0, query] = torch.where(mask, 9.0, -9.0)
    return said, drawn


def test_a_sample_is_the_bilinear_mean_and_zero_beyond_the_border():
    ramp = torch.arange(12, dtype=F64).view(1, 1, 3, 4)
    # Centres of pixels, half-way between them, a corner of the map (a quarter of its pixel).
    points = torch.tensor([[[0.125, 0.5 / 3], [0.5, 0.5], [0.0, 0.0], [1.0, 1.0]]], dtype=F64)
    found = sample_points(ramp, points)[0, 0]
    torch.testing.assert_close(found, torch.tensor([0.0, 5.5, 0.0, 11 / 4], dtype=F64))


def test_costs_by_hand():
    masks = torch.tensor([[[20.0, 20.0, -20.0, -20.0], [0.0, 0.0, 0.0, 0.0]]], dtype=F64)
    targets = torch.tensor([[[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]], dtype=F64)
    said = torch.tensor([[[2.0, 1.0, 1.0], [1.0, 1.0, 1.0]]], dtype=F64).log()
    classes = torch.tensor([[0, 1]])
    parts = {
        # Class: minus the probability of the target's class.
        "cost_cls": [[-0.5, -0.25], [-1 / 3, -1 / 3]],
        # Cross-entropy: 20 for every point that is surely wrong, over the four points.
        "cost_bce": [[0.0, 60 / 4], [np.log(2), np.log(2)]],
        # 1 - (2 both + 1) / (inside + target + 1)
        "cost_dice": [[0.0, 1 - 1 / 4], [1 - 3 / 5, 1 - 2 / 4]],
    }
    for name, expected in parts.items():
        weights = dict.fromkeys(parts, 0.0) | {name: 1.0}
        found = matching_costs(said, masks, classes, targets, MatchOptions(4, **weights))
        torch.testing.assert_close(found[0], torch.tensor(expected, dtype=F64), rtol=0, atol=1e-7)


def test_each_segment_gets_the_query_that_says_it_whatever_their_order():
    masks, classes = blocks(LEFT, RIGHT, TOP), torch.tensor([1, 1, 3])
    order = [4, 0, 2]
    said, drawn = perfect(classes, masks, order=order)
    for turn in ([0, 1, 2], [2, 0, 1]):  # the targets' order is of no account
        made = match_layers(
            [said], [drawn], [classes[turn]], [masks[turn]], MatchOptions(points=200)
        )
        assert made.query_classes[0].tolist() == [[1, 4, 3, 4, 1]]
        agree = (made.point_logits[0] > 0) == (made.point_targets[0] > 0.5)
        assert agree.float().mean() > 0.95  # between pixels a bilinear target is a fraction


def test_images_and_layers_do_not_mix():
    one = perfect(torch.tensor([0]), blocks(LEFT), order=[3])
    two = perfect(torch.tensor([2, 1]), blocks(TOP, RIGHT), order=[1, 2])
    classes, masks = [torch.tensor([0]), torch.tensor([2, 1])], [blocks(LEFT), blocks(TOP, RIGHT)]
    batch = [torch.cat(parts) for parts in zip(one, two, strict=True)]
    flipped = [x.flip(1) for x in batch]  # another layer, whose queries come in reverse
    made = match_layers(
        [batch[0], flipped[0]], [batch[1], flipped[1]], classes, masks, MatchOptions(points=100)
    )
    assert made.query_classes[0].tolist() == [[4, 4, 4, 0, 4], [4, 2, 1, 4, 4]]
    assert made.query_classes[1].tolist() == [[4, 0, 4, 4, 4], [4, 4, 1, 2, 4]]
    assert [x.shape for x in made.point_logits + made.point_targets] == [(3, 100)] * 4


@pytest.mark.parametrize("counts", [(0, 2), (2, 0), (0, 0)])
def test_images_without_segments(counts):
    torch.manual_seed(0)
    said, drawn = torch.randn(2, 5, 4), torch.randn(2, 5, 4, 6, requires_grad=True)
    classes = [torch.zeros(n, dtype=torch.long) for n in counts]
    masks = [torch.rand(n, 8, 12) > 0.5 for n in counts]
    made = match_layers([said], [drawn], classes, masks, MatchOptions(points=9))
    found = (made.query_classes[0] != 3).sum(1)
    assert found.tolist() == list(counts)
    assert made.point_logits[0].shape == made.point_targets[0].shape == (sum(counts), 9)
    made.point_logits[0].sum().backward()  # the graph is whole
    assert drawn.grad is not None


def test_more_segments_than_queries_leave_the_costliest_out():
    masks = blocks(LEFT, RIGHT, TOP)
    said, drawn = perfect(torch.tensor([0, 2]), masks[[0, 2]], queries=2)
    made = match_layers(
        [said], [drawn], [torch.tensor([0, 1, 2])], [masks], MatchOptions(points=50)
    )
    assert made.query_classes[0].tolist() == [[0, 2]]
    assert len(made.point_targets[0]) == 2


@pytest.mark.parametrize("worst", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_matched_last(worst):
    costs = np.array([[worst, worst], [3.0, 1.0], [2.0, 9.0]])
    assert [x.tolist() for x in assign(costs)] == [[1, 2], [1, 0]]
    costs[1:, 0] = worst
    rows, columns = assign(costs)
    assert len(rows) == 2 and (rows[columns == 1]).tolist() == [1]


def test_a_query_gone_wrong_does_not_stop_matching():
    masks, classes = blocks(LEFT), torch.tensor([1])
    said, drawn = perfect(classes, masks, order=[2])
    drawn[0, 0] = torch.nan
    said[0, 1] = torch.nan
    made = match_layers([said], [drawn], [classes], [masks], MatchOptions(points=50))
    assert made.query_classes[0].tolist() == [[4, 4, 1, 4, 4]]


def test_points_crowd_where_a_mask_is_undecided():
    logits = torch.linspace(-8, 8, 64).expand(2, 1, 16, 64).contiguous()
    torch.manual_seed(0)
    points = uncertain_points(logits, MatchOptions(400, oversample=4.0, importance=0.75))
    assert points.shape == (2, 400, 2) and points.min() >= 0 and points.max() <= 1
    near = (points[..., 0] - 0.5).abs() < 0.22
    # Three quarters are less than a fifth of the candidates, the least sure ones (at the upper and
    # lower border half as sure as within); the others are anywhere.
    assert near[:, :300].all()
    assert 0.25 < near[:, 300:].float().mean() < 0.65
    anywhere = uncertain_points(logits, MatchOptions(4000, importance=0.0))
    assert abs(anywhere.mean() - 0.5) < 0.02 and (anywhere[0] != anywhere[1]).all()


def test_gradients_reach_the_matched_masks_alone():
    torch.manual_seed(0)
    drawn = torch.randn(2, 3, 4, 6, dtype=F64, requires_grad=True)
    logits, targets = compare_at_points(
        drawn, torch.tensor([1, 5]), blocks(LEFT, RIGHT), MatchOptions(points=30)
    )
    assert logits.dtype == targets.dtype == F64 and not targets.requires_grad
    logits.sum().backward()
    reached = drawn.grad.abs().sum((2, 3)) > 0
    assert reached.tolist() == [[False, True, False], [False, False, True]]


def test_autocast_outside_changes_nothing():
    masks, classes = [blocks(LEFT, TOP)], [torch.tensor([0, 1])]
    torch.manual_seed(0)
    said, drawn = torch.randn(1, 5, 4), torch.randn(1, 5, 4, 6)

    def run():
        torch.manual_seed(1)
        return match_layers([said], [drawn], classes, masks, MatchOptions(points=64))

    expected = run()
    with torch.autocast("cpu", torch.bfloat16):
        found = run()
    assert torch.equal(found.query_classes[0], expected.query_classes[0])
    assert torch.equal(found.point_logits[0], expected.point_logits[0])
    assert torch.equal(found.point_targets[0], expected.point_targets[0])
