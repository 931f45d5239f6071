"""What the queries of one image say of its pixels, by OneFormer's rules for each task.

`Q` queries, each with a distribution over `K_cls` classes and "no object" (the last) and a mask.
Masks are brought to the size that the network saw, and from there to that of the picture, before
anything is decided. That is done in bands of rows, so that memory hardly depends on `Q`; only the
masks of objects, which may overlap, are kept whole, a byte a pixel. Classes are training ids.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Size = tuple[int, int]

OBJECT_THRESHOLD = 0.8
"""A query speaks of a segment where the probability of its class is above it."""

OVERLAP_THRESHOLD = 0.8
"""Share of its mask that a segment must at least keep beside the others."""

TOP_K = 150
"""Pairs of query and class that may become instances."""

_INSIDE = 0.5  # probability from which a pixel belongs to a mask
_BAND_VALUES = 1 << 23  # of a band of masks: 32 MiB


class PanopticSegment(NamedTuple):
    """One segment.

    Attributes:
        id: Value of its pixels, counted from 1.
        label: Its class.
        area: Its size, px.
    """

    id: int
    label: int
    area: int


class MaskedObject(NamedTuple):
    """One object.

    Attributes:
        label: Its class.
        score: Probability of its class times the mean probability of its mask.
        mask: `H W` bool.
    """

    label: int
    score: float
    mask: Tensor


def semantic_map(class_logits: Tensor, mask_logits: Tensor, input_size: Size, size: Size) -> Tensor:
    """Return the class of each pixel: argmax over c of sum_q p_q(c) m_q.

    There is neither "no object" nor void: each pixel gets a class.

    Args:
        class_logits: `Q K_cls+1`.
        mask_logits: `Q h w`.
        input_size: (height, width) of the network's input.
        size: (H, W) of the picture.

    Returns:
        `H W` int64.
    """
    probabilities = class_logits.softmax(-1)[:, :-1]
    labels = class_logits.new_empty(size, dtype=torch.int64)
    for rows, band in _bands(mask_logits, input_size, size):
        labels[rows] = torch.einsum("qc,qrw->crw", probabilities, band.sigmoid_()).max(0)[1]
    return labels


def panoptic_map(
    class_logits: Tensor,
    mask_logits: Tensor,
    input_size: Size,
    size: Size,
    things: Collection[int],
    *,
    object_threshold: float = OBJECT_THRESHOLD,
    overlap_threshold: float = OVERLAP_THRESHOLD,
) -> tuple[Tensor, tuple[PanopticSegment, ...]]:
    """Give each pixel to one segment, or to none.

    Of the queries whose likeliest class is one with more than `object_threshold`, a pixel goes to
    the one with the largest product of class and mask probability, and belongs to it where the
    mask alone has 0.5. A query that keeps too little of its mask gives no segment; the pixels that
    it owns stay void. All stuff of a class is one segment.

    Args:
        class_logits: `Q K_cls+1`.
        mask_logits: `Q h w`.
        input_size: (height, width) of the network's input.
        size: (H, W) of the picture.
        things: Classes whose segments stay apart.
        object_threshold: See above.
        overlap_threshold: Share that the pixels a query owns must have of its mask's.

    Returns:
        `H W` int32, segment ids, 0 for void; and what they mean, by id.
    """
    scores, labels = class_logits.softmax(-1).max(-1)
    no_object = class_logits.shape[-1] - 1
    kept = ((labels != no_object) & (scores > object_threshold)).nonzero()[:, 0]
    if not len(kept):
        return class_logits.new_zeros(size, dtype=torch.int32), ()
    owners, areas = _owners(scores[kept], mask_logits[kept], input_size, size)
    segments: list[PanopticSegment] = []
    ids_of: list[int] = []
    stuff: dict[int, int] = {}
    for label, (owned, whole, both) in zip(labels[kept].tolist(), areas.tolist(), strict=True):
        place = stuff.get(label)
        if not (owned and whole and both) or owned / whole < overlap_threshold:
            ids_of.append(0)
        elif place is not None:
            before = segments[place]
            segments[place] = before._replace(area=before.area + both)
            ids_of.append(before.id)
        else:
            if label not in things:
                stuff[label] = len(segments)
            segments.append(PanopticSegment(len(segments) + 1, label, both))
            ids_of.append(len(segments))
    table = torch.tensor([*ids_of, 0], dtype=torch.int32, device=owners.device)
    return table[owners], tuple(segments)


def find_instances(
    class_logits: Tensor,
    mask_logits: Tensor,
    input_size: Size,
    size: Size,
    things: Collection[int],
    *,
    top_k: int = TOP_K,
    object_threshold: float = 0.0,
) -> list[MaskedObject]:
    """Find objects, which may overlap: the likeliest pairs of a query and a class.

    Args:
        class_logits: `Q K_cls+1`.
        mask_logits: `Q h w`.
        input_size: (height, width) of the network's input.
        size: (H, W) of the picture.
        things: Classes to keep, once the likeliest pairs of all classes are chosen.
        top_k: How many pairs.
        object_threshold: Keep those only whose class has a larger probability: for people to look
            at, since benchmarks rank all of them.

    Returns:
        The objects, surest first; objects of one query share their mask. Those whose mask is empty
        have a score of 0 by the rule and are left out.
    """
    probabilities = class_logits.softmax(-1)[:, :-1]
    num_classes = probabilities.shape[1]
    scores, pairs = probabilities.flatten().topk(min(top_k, probabilities.numel()))
    wanted = torch.tensor(sorted(things), dtype=torch.int64, device=pairs.device)
    kept = torch.isin(pairs % num_classes, wanted) & (scores > object_threshold)
    scores, labels = scores[kept], pairs[kept] % num_classes
    queries, places = (pairs[kept] // num_classes).unique(return_inverse=True)
    masks = class_logits.new_zeros((len(queries), *size), dtype=torch.bool)
    sums, areas = torch.zeros(2, len(queries), dtype=torch.float64, device=masks.device)
    for rows, band in _bands(mask_logits[queries], input_size, size):
        inside = band > 0
        masks[:, rows] = inside
        areas += inside.flatten(1).count_nonzero(1)
        sums += band.sigmoid_().mul_(inside).sum((1, 2))
    means = sums / (areas + 1e-6)
    found = [
        MaskedObject(label, score, masks[place])
        for label, score, place in zip(
            labels.tolist(), (scores * means[places]).tolist(), places.tolist(), strict=True
        )
        if score > 0
    ]
    return sorted(found, key=lambda one: -one.score)


def _owners(
    scores: Tensor, mask_logits: Tensor, input_size: Size, size: Size
) -> tuple[Tensor, Tensor]:
    """Return which query each pixel belongs to, and what the queries have.

    Returns:
        `H W` int64, `Q` for none; and `Q 3`: pixels owned, pixels of the mask, pixels of both.
    """
    num = len(scores)
    owners = mask_logits.new_empty(size, dtype=torch.int64)
    areas = mask_logits.new_zeros((num, 3), dtype=torch.int64)
    for rows, band in _bands(mask_logits, input_size, size):
        probabilities = band.sigmoid_()
        inside = probabilities >= _INSIDE
        owner = probabilities.mul_(scores[:, None, None]).max(0)[1]
        belongs = inside.gather(0, owner[None])[0]
        areas[:, 0] += owner.flatten().bincount(minlength=num)
        areas[:, 1] += inside.sum((1, 2))
        areas[:, 2] += owner[belongs].bincount(minlength=num)
        owners[rows] = owner.where(belongs, owner.new_tensor(num))
    return owners, areas


def _bands(mask_logits: Tensor, input_size: Size, size: Size) -> Iterator[tuple[slice, Tensor]]:
    """Resize masks, bilinearly and in two steps, some rows at a time.

    Yields:
        Rows of the picture, and the logits there, `Q rows W`.
    """
    num, height, width = mask_logits.shape
    matrix = torch.eye(height, dtype=mask_logits.dtype, device=mask_logits.device)
    matrix = _resize_last(matrix[None], input_size[0], size[0])[0].T  # `H h`, mostly zero
    num_rows = max(1, _BAND_VALUES // max(1, num * max(size[1], input_size[1])))
    for top in range(0, size[0], num_rows):
        rows = slice(top, min(top + num_rows, size[0]))
        used = matrix[rows].any(0).nonzero()[:, 0]
        reads = slice(int(used[0]), int(used[-1]) + 1)
        wide = _resize_last(mask_logits[:, reads], input_size[1], size[1])
        yield rows, matrix[rows, reads] @ wide


def _resize_last(x: Tensor, *lengths: int) -> Tensor:
    for length in lengths:
        if x.shape[-1] != length:
            x = functional.interpolate(x, length, mode="linear", align_corners=False)
    return x
