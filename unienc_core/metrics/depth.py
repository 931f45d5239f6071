"""Depth metrics of the field, in float64: per image on scored pixels, then averaged over images.

A prediction is known up to scale, so it is multiplied by a known factor, or by the ratio of the
medians of ground truth and prediction over the scored pixels (`numpy.median`: the mean of the
middle two where their number is even). It is resized as disparity, since that is what networks
predict and what varies linearly over a plane in the image.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np

from unienc_core.errors import DataError
from unienc_core.metrics.protocols import DepthProtocol

METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3")
"""Names of the metrics; the first four are errors, the others shares of pixels in 0..1."""

Kind = Literal["depth", "disparity"]
KINDS: tuple[Kind, ...] = ("depth", "disparity")
"""What a map holds: metres (or a multiple), or anything proportional to 1/depth."""


def depth_metrics(depth_gt: np.ndarray, depth: np.ndarray) -> dict[str, float]:
    """Return the seven metrics of scored pixels.

    ``abs_rel`` mean |g - p| / g; ``sq_rel`` mean (g - p)^2 / g (m); ``rmse`` (m); ``rmse_log`` of
    natural logarithms; ``a1 a2 a3`` share of pixels with max(g/p, p/g) < 1.25, 1.25^2, 1.25^3.

    Args:
        depth_gt: `N`, m, positive.
        depth: `N`, m, positive.
    """
    g, p = np.asarray(depth_gt, np.float64), np.asarray(depth, np.float64)
    error = np.abs(g - p)
    ratio = np.maximum(g / p, p / g)
    values = (
        np.mean(error / g),
        np.mean(error**2 / g),
        np.sqrt(np.mean(error**2)),
        np.sqrt(np.mean((np.log(g) - np.log(p)) ** 2)),
        *(np.mean(ratio < 1.25**k) for k in (1, 2, 3)),
    )
    return {name: float(value) for name, value in zip(METRICS, values, strict=True)}


def resize_disparity(disparity: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize bilinearly, pixel centres at integers: c' = s (c + 0.5) - 0.5.

    Args:
        disparity: `h w`, proportional to 1/depth.
        size: Height and width wanted.

    Returns:
        `H W`, float64.
    """
    disparity = np.asarray(disparity, np.float64)
    if disparity.shape == size:
        return disparity
    return cv2.resize(disparity, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def to_depth(values: np.ndarray, kind: Kind, size: tuple[int, int], name: str) -> np.ndarray:
    """Turn a predicted map into depth at the size of the ground truth.

    Args:
        values: `h w`, depth or disparity; a depth of 0 means that there is none.
        kind: What `values` holds.
        size: Height and width of the ground truth.
        name: File or frame, for the message.

    Returns:
        `H W`, float64, in the unit of the prediction; infinite where the disparity is 0.

    Raises:
        DataError: On a value that is no depth, or a depth map with holes that has to be resized.
    """
    values = np.asarray(values, np.float64)
    faults = {"NaN": np.isnan(values), "infinite": np.isinf(values), "negative": values < 0}
    for fault, mask in faults.items():
        if mask.any():
            raise DataError(
                f"{name}: {np.count_nonzero(mask)} of {values.size} values are {fault}; "
                f"a {kind} prediction holds finite numbers, none below 0"
            )
    if kind == "depth" and values.shape == size:
        return values
    if kind == "depth":
        holes = np.count_nonzero(values == 0)
        if holes:
            raise DataError(
                f"{name}: {holes} pixels without depth (0) in a map of {_by(values.shape)}, which "
                f"has to be resized to the ground truth's {_by(size)}; give one without holes"
            )
        values = 1.0 / values
    with np.errstate(divide="ignore"):
        return 1.0 / resize_disparity(values, size)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape)


@dataclass(frozen=True)
class ScoredPixels:
    """The scored pixels of one image, prediction scaled and clamped.

    Attributes:
        mask: `H W`, bool, which pixels of the image these are.
        depth_gt: `N`, m.
        depth: `N`, m.
        factor: What the prediction was multiplied by.
    """

    mask: np.ndarray
    depth_gt: np.ndarray
    depth: np.ndarray
    factor: float

    def metrics(self) -> dict[str, float]:
        """Return the metrics over all scored pixels."""
        return depth_metrics(self.depth_gt, self.depth)

    def subset_metrics(self, subset: np.ndarray) -> dict[str, float] | None:
        """Return the metrics over those in `subset` (`H W`, bool); None if there are none."""
        chosen = subset[self.mask]
        if not chosen.any():
            return None
        return depth_metrics(self.depth_gt[chosen], self.depth[chosen])


def score_pixels(
    depth_gt: np.ndarray,
    depth: np.ndarray,
    protocol: DepthProtocol,
    factor: float | None = None,
    name: str = "prediction",
) -> ScoredPixels | None:
    """Select the scored pixels of an image; scale and clamp the prediction there.

    Args:
        depth_gt: `H W`, m, 0 where unknown.
        depth: `H W`, m or a multiple; see `to_depth`.
        protocol: Which pixels are scored.
        factor: What the prediction is multiplied by; if not given, the ratio of the medians of
            ground truth and prediction over the scored pixels.
        name: File or frame, for the message.

    Returns:
        The pixels, or None where the image has none to score.

    Raises:
        DataError: If a scored pixel has no predicted depth, or too many are infinitely deep.
    """
    mask = protocol.valid(depth_gt)
    if not mask.any():
        return None
    g, p = depth_gt[mask].astype(np.float64), depth[mask].astype(np.float64)
    holes = np.count_nonzero(~(p > 0))
    if holes:
        raise DataError(
            f"{name}: no depth (0) at {holes} of {p.size} scored pixels; every pixel that has "
            "ground truth needs a prediction"
        )
    if factor is None:
        factor = float(np.median(g) / np.median(p))
        if factor == 0:
            raise DataError(
                f"{name}: half of the scored pixels or more have disparity 0, so that median "
                "scaling is undefined; expected positive disparities"
            )
    depth = np.clip(p * factor, protocol.min_depth, protocol.max_depth)
    return ScoredPixels(mask, g, depth, factor)


@dataclass
class MetricMean:
    """Running mean of each metric over images, in float64 and constant memory."""

    num_images: int = 0
    _sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(METRICS, 0.0))

    def add(self, metrics: dict[str, float] | None) -> None:
        """Count one image; None (nothing to score in it) counts for nothing."""
        if metrics is None:
            return
        self.num_images += 1
        for name in METRICS:
            self._sums[name] += metrics[name]

    def result(self) -> dict[str, float | None]:
        """Return the means, None where no image was counted."""
        if not self.num_images:
            return dict.fromkeys(METRICS)
        return {name: total / self.num_images for name, total in self._sums.items()}
