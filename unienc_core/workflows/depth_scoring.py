"""Score a source of depth image by image, baselines and pixel groups beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unienc_core.contracts import Progress, Reporter
from unienc_core.metrics.depth import MetricMean, score_pixels
from unienc_core.metrics.protocols import DepthProtocol, Scaling
from unienc_core.workflows.baselines import Baseline
from unienc_core.workflows.depth_sources import DepthSample, DepthSource

SUBSETS = ("moving", "static")


@dataclass
class DepthScores:
    """What an evaluation found; grows by a few numbers an image, never by an image.

    Attributes:
        model: Means over the scored images.
        baselines: The same of each baseline.
        subsets: Means over the moving and the static pixels of each image that has such, with
            the scale of the whole image.
        num_skipped: Images without a pixel to score.
        ratios: Median of ground truth over median of the prediction, per scored image.
        abs_rel: Index and ``abs_rel`` of each scored image.
        predicted_sizes: Sizes at which predictions were made.
    """

    baselines: dict[str, MetricMean]
    model: MetricMean = field(default_factory=MetricMean)
    subsets: dict[str, MetricMean] = field(default_factory=dict)
    num_skipped: int = 0
    ratios: list[float] = field(default_factory=list)
    abs_rel: list[tuple[int, float]] = field(default_factory=list)
    predicted_sizes: set[tuple[int, int]] = field(default_factory=set)

    def add(
        self,
        index: int,
        sample: DepthSample,
        protocol: DepthProtocol,
        scaling: Scaling,
        baselines: Mapping[str, Baseline],
    ) -> None:
        """Score one image."""
        self.predicted_sizes.add(sample.predicted_size)
        scored = score_pixels(sample.depth_gt, sample.depth, protocol, scaling, sample.name)
        if scored is None:
            self.num_skipped += 1
            return
        metrics = scored.metrics()
        self.model.add(metrics)
        self.ratios.append(scored.ratio)
        self.abs_rel.append((index, metrics["abs_rel"]))
        if sample.moving is not None:
            for name, pixels in zip(SUBSETS, (sample.moving, ~sample.moving), strict=True):
                self.subsets.setdefault(name, MetricMean()).add(scored.subset_metrics(pixels))
        for name, baseline in baselines.items():
            guess = score_pixels(sample.depth_gt, baseline(sample), protocol, scaling, name)
            if guess is not None:
                self.baselines[name].add(guess.metrics())

    def extremes(self) -> dict[str, int]:
        """Return the index of the worst, median and best image by ``abs_rel``."""
        ranked = [index for index, _ in sorted(self.abs_rel, key=lambda pair: (pair[1], pair[0]))]
        if not ranked:
            return {}
        return {"worst": ranked[-1], "median": ranked[len(ranked) // 2], "best": ranked[0]}

    def scale(self, scaling: Scaling) -> dict[str, Any]:
        """Return the scaling applied: its mode, and median and std of the images' factors."""
        if scaling == "none" or not self.ratios:
            return {"mode": scaling, "median": None, "std": None}
        return {
            "mode": scaling,
            "median": float(np.median(self.ratios)),
            "std": float(np.std(self.ratios)),
        }

    def size(self) -> list[int] | None:
        """Return the height and width of the predictions, None if they differ."""
        return list(next(iter(self.predicted_sizes))) if len(self.predicted_sizes) == 1 else None


def score_source(
    source: DepthSource,
    protocol: DepthProtocol,
    scaling: Scaling,
    baselines: Mapping[str, Baseline],
    reporter: Reporter,
) -> DepthScores:
    """Score every image of a source, in order and in constant memory."""
    scores = DepthScores({name: MetricMean() for name in baselines})
    total = len(source)
    for index, sample in enumerate(source.samples(range(total))):
        scores.add(index, sample, protocol, scaling, baselines)
        reporter.progress(Progress("evaluate depth", index + 1, total, "image"))
    return scores
