"""What panoptic quality masks of a coarse stride can reach: true masks averaged, then enlarged.

Each true segment becomes its share of every cell of `stride` pixels, is enlarged bilinearly, and
the largest share takes the pixel. No class is ever wrong. Networks are not bound by it to the
digit, since logits may exceed shares, but nothing smaller than a cell is told apart.

Run: python benchmarks/mask_bound.py STORE [--strides 1 2 4 8] [--frames N]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from unienc_core.class_tables import ClassTable, cityscapes_table
from unienc_core.data.store import Store
from unienc_core.metrics.panoptic_quality import (
    PanopticCounts,
    count_panoptic,
    instance_segments,
    panoptic_quality,
)
from unienc_core.segmentation import VOID

SMALL = 16
"""Pixels under which a segment is called small: one cell of stride 4."""


def through_stride(ids: np.ndarray, stride: int) -> np.ndarray:
    """Return segment ids, `H W`, as masks of a stride give them back."""
    values = np.unique(ids)
    masks = torch.stack([torch.from_numpy(ids == value) for value in values])[None].float()
    shares = F.avg_pool2d(masks, stride, ceil_mode=True)
    enlarged = F.interpolate(shares, ids.shape, mode="bilinear", align_corners=False)
    return values[enlarged[0].argmax(0).numpy()]


def count(ids: np.ndarray, stride: int, table: ClassTable) -> PanopticCounts:
    """Score one picture; what is void in truth is void in the prediction."""
    truth = instance_segments(ids, table)
    scored = [s for s in truth if not table.by_id[s.category_id].ignored and not s.is_crowd]
    ids_of_scored = [s.id for s in scored]
    found = np.where(np.isin(ids, ids_of_scored), through_stride(ids, stride), VOID)
    found[~np.isin(found, ids_of_scored)] = VOID
    left = [s for s in scored if (found == s.id).any()]
    return count_panoptic(found, left, ids, truth, table)


def main() -> None:
    """Print a row per stride."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--strides", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--frames", type=int, default=8)
    args = parser.parse_args()
    table, store = cityscapes_table(), Store(args.store)
    places = [(d, n) for d, drive in enumerate(store.drives) for n in range(drive.num_frames)]
    places = places[:: max(1, len(places) // args.frames)][: args.frames]
    pictures = [store.frame(d, n, ["instance"])["instance"] for d, n in places]
    areas = [s.area for ids in pictures for s in instance_segments(ids, table)]
    small = np.mean(np.asarray(areas) < SMALL)
    height, width = pictures[0].shape
    print(
        f"{len(pictures)} pictures of {height}x{width}, {len(areas) / len(pictures):.0f} segments "
        f"each, {small:.0%} of them under {SMALL} pixels"
    )
    for stride in args.strides:
        counts = sum((count(ids, stride, table) for ids in pictures), PanopticCounts.zero(table))
        scores = panoptic_quality(counts, table).metrics
        print(
            f"stride {stride}: PQ at most {scores['pq']:.3f} "
            f"(things {scores['pq_things']:.3f}, stuff {scores['pq_stuff']:.3f})"
        )


if __name__ == "__main__":
    main()
