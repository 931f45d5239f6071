"""Score a source of depth image by image, baselines and pixel groups beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from unienc_core.contracts import Progress, Reporter
from unienc_core.errors import DataError
from unienc_core.metrics.depth import MetricMean, score_pixels
from unienc_core.metrics.protocols import DepthProtocol
from unienc_core.metrics.scale import STORE, Scale, scale_factor
from unienc_core.workflows.baselines import Baseline
from unienc_core.workflows.depth_sources import DepthSample, DepthSource


@dataclass
class DepthScores:
    """What an evaluation found; grows by a few numbers an image, never by an image.

    Attributes:
        scale: How predictions are scaled.
        model: Means over the scored images.
        baselines: The same of each baseline.
        subsets: Means over the moving and the static pixels of each image that has such, with
            the scale of the whole image.
        num_skipped: Images without a pixel to score.
        factors: Index of each scored image, and what its prediction was multiplied by.
        without_plane: Indices of the images whose prediction shows no ground plane where the
            camera's height was to give the factor.
        abs_rel: Index and ``abs_rel`` of each scored image.
        predicted_sizes: Sizes at which predictions were made.
    """

    scale: Scale
    baselines: dict[str, MetricMean]
    model: MetricMean = field(default_factory=MetricMean)
    subsets: dict[str, MetricMean] = field(default_factory=dict)
    num_skipped: int = 0
    factors: dict[int, float] = field(default_factory=dict)
    without_plane: list[int] = field(default_factory=list)
    abs_rel: list[tuple[int, float]] = field(default_factory=list)
    predicted_sizes: set[tuple[int, int]] = field(default_factory=set)

    def add(
        self,
        index: int,
        sample: DepthSample,
        protocol: DepthProtocol,
        baselines: Mapping[str, Baseline],
        factor: float | None,
    ) -> None:
        """Score one image, its prediction multiplied by `factor` (None: the ratio of medians)."""
        self.predicted_sizes.add(sample.predicted_size)
        scored = score_pixels(sample.depth_gt, sample.depth, protocol, factor, sample.name)
        if scored is None:
            self.num_skipped += 1
            return
        metrics = scored.metrics()
        self.model.add(metrics)
        self.factors[index] = scored.factor
        self.abs_rel.append((index, metrics["abs_rel"]))
        for name, pixels in (sample.motion or {}).items():
            self.subsets.setdefault(name, MetricMean()).add(scored.subset_metrics(pixels))
        for name, baseline in baselines.items():
            metres = None if self.scale.mode == "median" else 1.0
            guess = score_pixels(sample.depth_gt, baseline(sample), protocol, metres, name)
            if guess is not None:
                self.baselines[name].add(guess.metrics())

    def extremes(self) -> dict[str, int]:
        """Return the index of the worst, median and best image by ``abs_rel``."""
        ranked = [index for index, _ in sorted(self.abs_rel, key=lambda pair: (pair[1], pair[0]))]
        if not ranked:
            return {}
        return {"worst": ranked[-1], "median": ranked[len(ranked) // 2], "best": ranked[0]}

    def scale_found(self) -> dict[str, Any]:
        """Return the scaling applied: mode and value, median and std of the factors found."""
        by_ground = self.scale.mode == "camera_height"
        borrowed = set(self.without_plane)
        factors = [factor for index, factor in self.factors.items() if index not in borrowed]
        if self.scale.mode == "none":
            factors = []
        return {
            "mode": self.scale.mode,
            "value": STORE if self.scale.from_store else self.scale.value,
            "median": float(np.median(factors)) if factors else None,
            "std": float(np.std(factors)) if factors else None,
            "num_without_plane": len(self.without_plane) if by_ground else None,
        }

    def size(self) -> list[int] | None:
        """Return the height and width of the predictions, None if they differ."""
        return list(next(iter(self.predicted_sizes))) if len(self.predicted_sizes) == 1 else None


def score_source(
    source: DepthSource,
    protocol: DepthProtocol,
    scale: Scale,
    baselines: Mapping[str, Baseline],
    reporter: Reporter,
    watched: DepthSource | None = None,
) -> DepthScores:
    """Score every image of a source, in order and in constant memory.

    Where the camera's height gives the factors and a prediction shows no ground plane, it is read
    again at the end and takes the median factor of the images that do.

    Args:
        source: The images.
        protocol: Which pixels are scored.
        scale: How predictions are scaled.
        baselines: What is scored beside them.
        reporter: Takes progress.
        watched: The same source as someone else wants to see it: all images once, in order.

    Raises:
        DataError: If no prediction at all shows a ground plane where one is needed.
    """
    scores = DepthScores(scale, {name: MetricMean() for name in baselines})
    total = len(source)
    for index, sample in enumerate((watched or source).samples(range(total))):
        factor = None if scale.mode == "median" else _factor(sample, scale)
        if factor is None and scale.mode != "median" and protocol.valid(sample.depth_gt).any():
            scores.without_plane.append(index)
        else:
            scores.add(index, sample, protocol, baselines, factor)
        reporter.progress(Progress("evaluate depth", index + 1, total, "image"))
    _score_without_plane(source, scores, protocol, baselines)
    return scores


def _factor(sample: DepthSample, scale: Scale) -> float | None:
    """Return the factor of an image by any scale but ``median``; None if it shows no ground."""
    if scale.from_store:
        scale = replace(scale, value=sample.camera_height)
    return scale_factor(scale, sample.depth, sample.K)


def _score_without_plane(
    source: DepthSource,
    scores: DepthScores,
    protocol: DepthProtocol,
    baselines: Mapping[str, Baseline],
) -> None:
    missing = scores.without_plane
    if not missing:
        return
    if not scores.factors:
        raise DataError(
            f"none of {len(missing)} predictions shows a ground plane in its lower middle, so the "
            "camera's height gives no scale; check K, or use another --scale"
        )
    usual = float(np.median(list(scores.factors.values())))
    for index, sample in zip(missing, source.samples(missing), strict=True):
        scores.add(index, sample, protocol, baselines, usual)
