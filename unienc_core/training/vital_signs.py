"""A few numbers of every step in which collapse shows early."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unienc_core.geometry.camera import backproject
from unienc_core.geometry.warp import move
from unienc_core.view_synthesis import to_full_size

_POSED_POINTS = ("complete_flow", "depth", "K", "T_source_target")


@torch.no_grad()
def vital_signs(values: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return means over a batch of what is predicted, as far as it is there (0-d tensors).

    Args:
        values: Batch, predictions and synthesised views of one stream.

    Returns:
        `mean_disparity`; `mean_abs_tx`, y, z of the translation; `mean_motion_mask` and
        `motion_mask_over_half`, the share of pixels above 0.5; and the mean lengths of the flows of
        the finest scale, `mean_complete_flow`, `mean_rigid_flow` and `mean_independent_flow` (F_C,
        F_R, F_D = F_C - F_R), unit of the depth.
    """
    signs: dict[str, Tensor] = {}
    if "disparity" in values:
        signs["mean_disparity"] = values["disparity"].mean()
    if "translation" in values:
        mean = values["translation"].abs().flatten(0, -2).mean(0)
        signs |= {f"mean_abs_t{axis}": mean[i] for i, axis in enumerate("xyz")}
    if "motion_logits" in values:
        mask = values["motion_logits"].sigmoid()
        signs["mean_motion_mask"] = mask.mean()
        signs["motion_mask_over_half"] = (mask > 0.5).to(mask.dtype).mean()
    if all(key in values for key in _POSED_POINTS):
        signs |= _flow_lengths(*(values[key] for key in _POSED_POINTS))
    return signs


def _flow_lengths(
    complete: Tensor, depth: Tensor, K: Tensor, T_source_target: Tensor
) -> dict[str, Tensor]:
    points = backproject(depth, K).unsqueeze(1)
    rigid = move(T_source_target, points) - points
    complete = to_full_size(complete, (depth.shape[2], depth.shape[3]))
    flows = {"complete": complete, "rigid": rigid, "independent": complete - rigid}
    # Not `norm`: over an axis amid others it takes eighty times as long on a CPU.
    return {f"mean_{n}_flow": flow.square().sum(2).sqrt().mean() for n, flow in flows.items()}
