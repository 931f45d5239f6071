"""Score what a network says of motion triplet by triplet: mask, flow, scale, and depth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from unienc_core.inference.scene_motion import MOVES
from unienc_core.metrics.depth import MetricMean, ScoredPixels, score_pixels
from unienc_core.metrics.motion import SCORE_THRESHOLDS, SUBSETS, ThresholdCounts
from unienc_core.metrics.pose import MIN_TRANSLATION
from unienc_core.metrics.protocols import DepthProtocol
from unienc_core.workflows.motion_flows import THRESHOLDED, FlowScores, flow_scores
from unienc_core.workflows.motion_sources import MotionFound, MotionSample, MotionTruth


@dataclass
class MotionScores:
    """What an evaluation found; grows by a few numbers a triplet, never by an image.

    Attributes:
        protocol: Which pixels have depth and flow that count.
        flows: End-point errors.
        mask: Pixels of pairs by the network's motion mask.
        thresholded: The same by what its independent flow says.
        depth: Means over the images.
        subsets: Means over the static and the moving pixels of each image that has such.
        num_images: Triplets of which something was scored.
        num_skipped: The others.
        factors: Index of each image with depth, and what its depth and flow were multiplied by.
        translations: |t| true over predicted, of each pair whose camera moves enough.
        ratios: Those over the factor of their image.
        num_moving: Pixels of pairs that move.
        num_known: Those of which it is known.
        ranked: Index and mask IoU of the triplets in which something moves.
    """

    protocol: DepthProtocol
    flows: FlowScores = field(default_factory=FlowScores)
    mask: ThresholdCounts = field(default_factory=ThresholdCounts)
    thresholded: dict[str, ThresholdCounts] = field(
        default_factory=lambda: {name: ThresholdCounts(SCORE_THRESHOLDS) for name in THRESHOLDED}
    )
    depth: MetricMean = field(default_factory=MetricMean)
    subsets: dict[str, MetricMean] = field(
        default_factory=lambda: {name: MetricMean() for name in SUBSETS}
    )
    num_images: int = 0
    num_skipped: int = 0
    factors: dict[int, float] = field(default_factory=dict)
    translations: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    num_moving: int = 0
    num_known: int = 0
    ranked: list[tuple[int, float]] = field(default_factory=list)

    def add(self, index: int, sample: MotionSample) -> None:
        """Score a triplet: both sources, each a pair with the target."""
        truth, found = sample.truth, sample.found
        scored = None
        if truth.depth is not None:
            scored = score_pixels(truth.depth, found.depth, self.protocol, name=sample.name)
        known = any(chosen.any() for chosen in (truth.labels or {}).values())
        if scored is None and not known:
            self.num_skipped += 1
            return
        self.num_images += 1
        if scored is not None:
            self.factors[index] = scored.factor
            self._add_depth(scored, truth, found)
            for pair in sample.pairs():
                self.flows.add(scored, *pair)
        if truth.labels is not None and known:
            self._add_masks(index, found, truth.labels)
            factor = 1.0 if scored is None else scored.factor
            for _, pair in sample.pairs():
                self._add_thresholded(pair, truth.K, truth.labels, factor)

    def extremes(self) -> dict[str, int]:
        """Return the index of the worst, median and best triplet by the IoU of its mask."""
        ordered = [index for index, _ in sorted(self.ranked, key=lambda pair: (pair[1], pair[0]))]
        if not ordered:
            return {}
        return {"worst": ordered[0], "median": ordered[len(ordered) // 2], "best": ordered[-1]}

    def scale_found(self) -> dict[str, Any]:
        """Return median and spread of the factors of depth, of translation, and of their ratio."""
        found = {
            "depth": list(self.factors.values()),
            "translation": self.translations,
            "translation_over_depth": self.ratios,
        }
        spreads = {
            name: {
                "median": float(np.median(values)) if values else None,
                "std": float(np.std(values)) if values else None,
            }
            for name, values in found.items()
        }
        return {"mode": "median", **spreads}

    def _add_depth(self, scored: ScoredPixels, truth: MotionTruth, found: MotionFound) -> None:
        self.depth.add(scored.metrics())
        for name, pixels in (truth.labels or {}).items():
            self.subsets[name].add(scored.subset_metrics(pixels))
        if truth.T_source_target is None:
            return
        for T_gt, T_found in zip(truth.T_source_target, found.T_source_target, strict=True):
            length, length_found = (float(T[:3, 3].norm()) for T in (T_gt, T_found))
            if length >= MIN_TRANSLATION and length_found > 0:
                self.translations.append(length / length_found)
                self.ratios.append(length / length_found / scored.factor)

    def _add_masks(self, index: int, found: MotionFound, labels: dict[str, np.ndarray]) -> None:
        """Count the pixels of both pairs by the mask."""
        pairs = len(found.T_source_target)
        self.num_moving += pairs * int(np.count_nonzero(labels["moving"]))
        self.num_known += pairs * sum(int(np.count_nonzero(m)) for m in labels.values())
        if found.motion_mask is None:
            return
        of_image = ThresholdCounts()
        for mask in found.motion_mask.numpy():
            of_image.add(mask, labels)
        self.mask.moving += of_image.moving
        self.mask.static += of_image.static
        iou = of_image.over(MOVES)["iou"]
        if labels["moving"].any() and iou is not None:
            self.ranked.append((index, iou))

    def _add_thresholded(
        self, found: MotionFound, K: Tensor, labels: dict[str, np.ndarray], factor: float
    ) -> None:
        """Count the pixels of a pair by what the independent flow says."""
        if found.independent_flow is None:
            return
        for name, scores in flow_scores(found, found.independent_flow, K, factor).items():
            self.thresholded[name].add(scores[0], labels)
