"""Which query answers for which segment, and the points at which their masks are compared.

After each layer every segment of an image is given the query that suits it best (Sec. 3.3, Carion
et al.; costs and points of Sec. 3.3, Cheng et al.). Masks are compared at random points alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

_IMPOSSIBLE = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class MatchOptions:
    """How queries and segments are compared.

    Attributes:
        points: Points at which two masks are compared.
        oversample: Candidates per point, of which the least certain ones are taken.
        importance: Share of the points that are taken so; the others fall anywhere.
        cost_cls: Weight of the class in matching: minus its probability.
        cost_bce: Weight of binary cross-entropy in matching.
        cost_dice: Weight of Dice in matching.
    """

    points: int = 12544
    oversample: float = 3.0
    importance: float = 0.75
    cost_cls: float = 2.0
    cost_bce: float = 5.0
    cost_dice: float = 5.0


@dataclass(frozen=True)
class Matches:
    """What queries are held to, a list entry per layer.

    `M` is the number of matched segments of the whole batch.

    Attributes:
        query_classes: ``B Q`` int64, the class that each query shall say.
        point_logits: ``M P``, masks of the matched queries.
        point_targets: ``M P``, 0..1, those of their segments at the same points.
    """

    query_classes: list[Tensor]
    point_logits: list[Tensor]
    point_targets: list[Tensor]


def match_layers(
    class_logits: Sequence[Tensor],
    mask_logits: Sequence[Tensor],
    classes: Sequence[Tensor],
    masks: Sequence[Tensor],
    options: MatchOptions,
) -> Matches:
    """Match every layer's queries with the segments, and compare the masks at points.

    Computed in the type of the logits, whatever autocast is on outside.

    Args:
        class_logits: ``B Q K_cls+1`` of each layer, float32 or float64.
        mask_logits: ``B Q h w`` of each layer.
        classes: ``N_i`` int64 of each image.
        masks: ``N_i H W`` bool of each image, all of one size.
        options: How.
    """
    batch, queries, outputs = class_logits[0].shape
    device = mask_logits[0].device
    with torch.autocast(device.type, enabled=False):
        chosen, segments = _match(class_logits, mask_logits, classes, masks, options)
        said = torch.full((len(chosen), batch * queries), outputs - 1, device=device)
        said.scatter_(1, chosen, torch.cat(list(classes))[segments])
        together = torch.cat(list(masks))
        pairs = [
            compare_at_points(logits, query, together[segment], options)
            for logits, query, segment in zip(mask_logits, chosen, segments, strict=True)
        ]
    logits, targets = zip(*pairs, strict=True)
    return Matches(list(said.view(-1, batch, queries)), list(logits), list(targets))


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Return bilinear samples ``M C P``; what lies beyond the border is zero.

    Args:
        maps: ``M C H W``.
        points: ``M P 2``, x and y as shares of width and height.
    """
    return functional.grid_sample(maps, 2 * points[:, None] - 1, align_corners=False)[:, :, 0]


def matching_costs(
    class_logits: Tensor,
    mask_logits: Tensor,
    classes: Tensor,
    targets: Tensor,
    options: MatchOptions,
) -> Tensor:
    """Return what it costs to give each query to each segment, ``B Q N``.

    Args:
        class_logits: ``B Q K_cls+1``.
        mask_logits: ``B Q P``, at points.
        classes: ``B N``, of the segments.
        targets: ``B N P``, 0..1, at the same points.
        options: Weights of the three parts.
    """
    queries, points = mask_logits.shape[1:]
    probability = class_logits.softmax(-1).gather(2, classes[:, None].expand(-1, queries, -1))
    turned = targets.transpose(1, 2)
    # Cross-entropy is softplus(x) - x t, so one product serves all pairs.
    entropy = functional.softplus(mask_logits).sum(-1, keepdim=True) - mask_logits @ turned
    inside = mask_logits.sigmoid()
    sizes = inside.sum(-1, keepdim=True) + targets.sum(-1)[:, None]
    dice = 1 - (2 * (inside @ turned) + 1) / (sizes + 1)
    return (
        options.cost_bce * entropy / points
        + options.cost_dice * dice
        - options.cost_cls * probability
    )


def assign(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cheapest pairs of rows and columns, by row.

    What is not finite costs more than anything: such pairs are made only where nothing is left.
    """
    finite = np.where(np.isfinite(costs), costs, _IMPOSSIBLE)
    return linear_sum_assignment(finite)


def compare_at_points(
    mask_logits: Tensor, queries: Tensor, masks: Tensor, options: MatchOptions
) -> tuple[Tensor, Tensor]:
    """Return logits and targets ``M P``, at points of each pair's own.

    Args:
        mask_logits: ``B Q h w``.
        queries: ``M``, the query of each pair, counted over the batch.
        masks: ``M H W`` bool, the segment of each pair.
        options: How many points, and how they are chosen.
    """
    logits = mask_logits.flatten(0, 1).index_select(0, queries)[:, None]
    with torch.no_grad():
        points = uncertain_points(logits, options)
        targets = sample_points(masks[:, None].to(logits.dtype), points)[:, 0]
    return sample_points(logits, points)[:, 0], targets


def uncertain_points(logits: Tensor, options: MatchOptions) -> Tensor:
    """Return points ``M P 2``: most where the mask is undecided, the others anywhere.

    Sec. 3.1, Kirillov et al. (PointRend).

    Args:
        logits: ``M 1 h w``.
        options: How many points, of how many candidates.
    """
    candidates = _draw(logits, len(logits), int(options.points * options.oversample))
    undecided = int(options.points * options.importance)
    sureness = sample_points(logits, candidates)[:, 0].abs()
    best = sureness.topk(undecided, largest=False, sorted=False).indices
    taken = candidates.gather(1, best[..., None].expand(-1, -1, 2))
    return torch.cat([taken, _draw(logits, len(logits), options.points - undecided)], 1)


@torch.no_grad()
def _match(
    class_logits: Sequence[Tensor],
    mask_logits: Sequence[Tensor],
    classes: Sequence[Tensor],
    masks: Sequence[Tensor],
    options: MatchOptions,
) -> tuple[Tensor, Tensor]:
    """Return matched queries and segments, ``layers M`` each, counted over the batch."""
    batch, queries, _ = class_logits[0].shape
    device, counts = mask_logits[0].device, [len(x) for x in classes]
    pairs: list[np.ndarray] = []
    padded = torch.nn.utils.rnn.pad_sequence(list(classes), batch_first=True)
    points = [_draw(x, batch, options.points) for x in mask_logits]
    targets = _targets_at(points, masks, max(counts))
    costs = torch.stack(
        [
            matching_costs(said, sample_points(logits, at), padded, wanted, options)
            for said, logits, at, wanted in zip(
                class_logits, mask_logits, points, targets, strict=True
            )
        ]
    )
    for of_layer in costs.cpu().numpy():  # the only wait for the device
        found, first = [], 0
        for image, (cost, count) in enumerate(zip(of_layer, counts, strict=True)):
            rows, columns = assign(cost[:, :count])
            found.append(np.stack([rows + image * queries, columns + first]))
            first += count
        pairs.append(np.concatenate(found, 1))
    chosen, segments = torch.from_numpy(np.stack(pairs, 1)).to(device)
    return chosen, segments


def _targets_at(points: Sequence[Tensor], masks: Sequence[Tensor], most: int) -> list[Tensor]:
    """Return the segments of all images at the points ``B P 2`` of each layer, ``B most P``."""
    batch, count, _ = points[0].shape
    sampled = points[0].new_zeros(batch, most, len(points) * count)
    for image, of_image in enumerate(masks):
        if len(of_image):
            at = torch.cat([x[image] for x in points])[None]
            maps = of_image[None].to(at.dtype)
            sampled[image, : len(of_image)] = sample_points(maps, at)[0]
    return list(sampled.split(count, -1))


def _draw(like: Tensor, rows: int, points: int) -> Tensor:
    """Return uniform points, ``rows points 2``."""
    return torch.rand(rows, points, 2, dtype=like.dtype, device=like.device)
