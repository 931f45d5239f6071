"""Depth baselines that know nothing of the image, so that a model's number means something.

They are scored by the model's own protocol. They are in metres, so that only median scaling, which
looks at the ground truth, applies to them too. The per-pixel geometric mean is the
strongest of them: it knows how deep each place of the image usually is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

from unienc_core.errors import DataError
from unienc_core.metrics.depth import resize_disparity
from unienc_core.metrics.protocols import DepthProtocol
from unienc_core.metrics.scale import Scale
from unienc_core.workflows.depth_sources import DepthSample

Baseline = Callable[[DepthSample], np.ndarray]
"""A sample to `H W` depth in m at the size of its ground truth; its image is never looked at."""

USUAL_HEIGHT = 1.5
"""Height of the camera above the ground, m, where neither the data nor the scale says."""

HORIZON_DEPTH = 80.0
"""Depth that the ground plane has above the horizon, and at most, m."""


@dataclass(frozen=True)
class TrainingDepths:
    """What a training set says about depth, whatever the image shows.

    Attributes:
        constant: Geometric mean of all scored pixels, m.
        per_pixel: `H W`, m, geometric mean at each place; places that no training image scores
            take that of the nearest one that does.
        num_images: Images it was measured on.
    """

    constant: float
    per_pixel: np.ndarray
    num_images: int


def measure_training_depths(
    depths: Iterable[np.ndarray], protocol: DepthProtocol
) -> TrainingDepths:
    """Average the logarithm of the training depths, holding one image at a time.

    Args:
        depths: `H W` maps in m, 0 where unknown; the first one decides the size.
        protocol: Which depths count; its crop does not apply.

    Raises:
        DataError: If no pixel counts.
    """
    logs = counts = None
    num_images = 0
    for depth in depths:
        if logs is None or counts is None:
            logs, counts = np.zeros(depth.shape), np.zeros(depth.shape)
        if depth.shape != logs.shape:  # drives of other sizes: no depth is mixed with another's
            depth = cv2.resize(depth, logs.shape[::-1], interpolation=cv2.INTER_NEAREST)
        valid = (depth > protocol.min_depth) & (depth < protocol.max_depth)
        logs[valid] += np.log(depth[valid].astype(np.float64))
        counts += valid
        num_images += 1
    if logs is None or counts is None or not counts.any():
        raise DataError("no training image holds a depth that the protocol scores")
    seen = counts > 0
    mean = np.divide(logs, counts, out=np.zeros_like(logs), where=seen)
    nearest = distance_transform_edt(~seen, return_distances=False, return_indices=True)
    return TrainingDepths(
        constant=float(np.exp(logs.sum() / counts.sum())),
        per_pixel=np.exp(mean[tuple(np.asarray(nearest))]),
        num_images=num_images,
    )


def ground_plane(K: np.ndarray, camera_height: float, size: tuple[int, int]) -> np.ndarray:
    """Return the depth of a flat ground under a level camera: z = fy height / (v - cy).

    Args:
        K: `3 3`, px, of an image of `size`.
        camera_height: Above the ground, m.
        size: Height and width.

    Returns:
        `H W`, m; `HORIZON_DEPTH` where the ground is farther or the row lies above the horizon.
    """
    below = np.arange(size[0]) - K[1, 2]
    rows = np.full(size[0], HORIZON_DEPTH)
    ground = below > 0
    rows[ground] = np.minimum(HORIZON_DEPTH, K[1, 1] * camera_height / below[ground])
    return np.repeat(rows[:, None], size[1], axis=1)


def make_baselines(
    training: TrainingDepths | None, scale: Scale, with_ground: bool
) -> dict[str, Baseline]:
    """Return the baselines that can be had.

    Args:
        training: What the training set says, if there is one. Without it there is no per-pixel
            mean, and a constant only where scaling makes its value irrelevant.
        scale: How predictions are scaled.
        with_ground: Whether samples come with K, which the ground plane needs.
    """
    baselines: dict[str, Baseline] = {}
    if training is not None or scale.mode == "median":
        constant = 1.0 if training is None else training.constant
        baselines["constant"] = lambda sample: np.full(sample.depth_gt.shape, constant)
    if training is not None:
        disparity = 1.0 / training.per_pixel
        baselines["per_pixel_mean"] = lambda sample: (
            1.0 / resize_disparity(disparity, sample.depth_gt.shape)
        )
    if with_ground:
        known = scale.value if scale.mode == "camera_height" else None
        baselines["ground_plane"] = partial(_ground_plane_of, known or USUAL_HEIGHT)
    return baselines


def _ground_plane_of(usual_height: float, sample: DepthSample) -> np.ndarray:
    assert sample.K is not None, "offered only where samples come with K"
    height, width = sample.depth_gt.shape
    return ground_plane(sample.K, sample.camera_height or usual_height, (height, width))
