"""Score the flows of a network image by image, in space and on the image plane."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from unienc_core.geometry.camera import MIN_Z, backproject, project
from unienc_core.geometry.flow import rigid_flow
from unienc_core.metrics.depth import ScoredPixels
from unienc_core.metrics.motion import EndPointErrors
from unienc_core.workflows.motion_sources import MotionFound, MotionTruth

FLOW_ERRORS = (
    "epe",
    "final_epe",
    "independent_epe",
    "masked_epe",
    "optical_epe",
    "final_optical_epe",
)
"""End-point errors of the network's flows: the complete one, the final one, the independent one and
what the mask lets through of it (m); and the first two on the image plane (px)."""

ZERO_ERRORS = ("epe", "independent_epe", "optical_epe")
"""Those of no independent flow: of the network's rigid flow alone."""

THRESHOLDED = ("thresholded_flow", "thresholded_flow_px", "thresholded_flow_ratio")
"""Masks made of the independent flow: by its length (m), by how far it carries a pixel (px), and by
its length over that of the rigid flow."""

_TINY = 1e-12


class FlowScores:
    """End-point errors of flows, pooled over the pixels of all pairs.

    Attributes:
        errors: Of the network's flows, by `FLOW_ERRORS`.
        zero: Of its rigid flow alone, by `ZERO_ERRORS`.
        num_pixels: Pixels scored in space.
        num_behind: Those of them that come to lie behind the camera by the true flow or any of the
            network's, and are not scored on the image plane.
    """

    def __init__(self) -> None:
        self.errors = {name: EndPointErrors() for name in FLOW_ERRORS}
        self.zero = {name: EndPointErrors() for name in ZERO_ERRORS}
        self.num_pixels = self.num_behind = 0

    def add(self, scored: ScoredPixels, truth: MotionTruth, found: MotionFound) -> None:
        """Score pairs of an image, if enough is known of them.

        Args:
            scored: Which pixels count, and what depth and flow are multiplied by.
            truth: Of the image.
            found: By the network.
        """
        groups = scored_groups(scored.mask, truth)
        if found.independent_flow is None or truth.T_source_target is None or not groups:
            return
        own = truth.independent_flow
        if own is None:
            own = torch.zeros_like(found.independent_flow)
        K = truth.K.expand(len(own), -1, -1)
        depth_gt = torch.as_tensor(truth.depth).double().expand(len(own), 1, -1, -1)
        complete = rigid_flow(depth_gt, K, truth.T_source_target) + own
        flows = _scaled_flows(found, found.independent_flow, scored.factor)
        compared = {
            "epe": (flows["complete"], complete),
            "independent_epe": (flows["independent"], own),
        }
        if "final" in flows:
            compared["final_epe"] = flows["final"], complete
            compared["masked_epe"] = flows["masked"], own
        for name, pair in compared.items():
            _add_all(self.errors[name], pair, groups)
        _add_all(self.zero["epe"], (flows["rigid"], complete), groups)
        _add_all(self.zero["independent_epe"], (torch.zeros_like(own), own), groups)

        points = backproject(depth_gt, K)
        depth = torch.from_numpy(scored.factor * found.depth).expand_as(depth_gt)
        found_points = backproject(depth, K)
        ends = {name: found_points + flows[name] for name in ("complete", "final") if name in flows}
        ends |= {"rigid": found_points + flows["rigid"], "true": points + complete}
        self._add_on_image(ends, K, groups)

    def _add_on_image(
        self, ends: Mapping[str, Tensor], K: Tensor, groups: Mapping[str, np.ndarray]
    ) -> None:
        """Compare where pixels go, as far as all flows agree that it is before the camera."""
        placed = {name: project(points, K) for name, points in ends.items()}
        in_front = torch.stack([z[:, 0] > MIN_Z for _, z in placed.values()]).all(0).numpy()
        counted = next(iter(groups.values()))
        self.num_pixels += len(K) * int(np.count_nonzero(counted))
        self.num_behind += int(np.count_nonzero(counted & ~in_front))
        true = placed["true"][0]
        compared = {"complete": self.errors["optical_epe"], "rigid": self.zero["optical_epe"]}
        if "final" in placed:
            compared["final"] = self.errors["final_optical_epe"]
        for name, errors in compared.items():
            _add_all(errors, (placed[name][0], true), groups, in_front)


def scored_groups(mask: np.ndarray, truth: MotionTruth) -> dict[str, np.ndarray]:
    """Return which pixels flow is scored on: all, static and moving, as far as it is known.

    Without the actors' own motion the flow of static pixels is known all the same.

    Args:
        mask: `H W`, bool, whose depth counts.
        truth: Of the image.
    """
    apart = {name: mask & chosen for name, chosen in (truth.labels or {}).items()}
    if truth.independent_flow is not None:
        return {"all": mask, **apart}
    return {name: chosen for name, chosen in apart.items() if name == "static"}


def flow_scores(
    found: MotionFound, independent: Tensor, K: Tensor, factor: float
) -> dict[str, np.ndarray]:
    """Return what the independent flow says of motion.

    Args:
        found: By the network.
        independent: Its independent flow, `S 3 H W`.
        K: `1 3 3`, px.
        factor: From its unit to m.

    Returns:
        By `THRESHOLDED`, `S H W` each. A pixel is carried nowhere where one of its ends lies behind
        the camera.
    """
    points = backproject(torch.from_numpy(found.depth)[None, None], K)
    K = K.expand(len(independent), -1, -1)
    start, z_start = project(points + found.rigid_flow, K)
    end, z_end = project(points + found.rigid_flow + independent, K)
    seen = (z_start > MIN_Z) & (z_end > MIN_Z)
    carried = _lengths(torch.where(seen, end - start, 0.0))
    length = _lengths(independent)
    ratio = length / np.maximum(_lengths(found.rigid_flow), _TINY)
    return dict(zip(THRESHOLDED, (factor * length, carried, ratio), strict=True))


def _scaled_flows(found: MotionFound, independent: Tensor, factor: float) -> dict[str, Tensor]:
    """Return the flows of a network in m, `S 3 H W` each, as far as it has them."""
    rigid = found.rigid_flow
    flows = {"complete": rigid + independent, "rigid": rigid, "independent": independent}
    if found.motion_mask is not None and found.final_flow is not None:
        flows["final"] = found.final_flow
        flows["masked"] = found.motion_mask[:, None] * independent
    return {name: factor * flow for name, flow in flows.items()}


def _add_all(
    errors: EndPointErrors,
    compared: tuple[Tensor, Tensor],
    groups: Mapping[str, np.ndarray],
    kept: np.ndarray | None = None,
) -> None:
    """Add the distances of `S C H W` vectors, pair by pair; `kept` (`S H W`) says which count."""
    for pair, distances in enumerate(_lengths(compared[0] - compared[1])):
        chosen = groups if kept is None else {name: g & kept[pair] for name, g in groups.items()}
        errors.add(distances, chosen)


def _lengths(vectors: Tensor) -> np.ndarray:
    """Return the lengths of `S C H W` (`Tensor.norm` is many times slower along that axis)."""
    return vectors.square().sum(1).sqrt().numpy()
