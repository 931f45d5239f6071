"""Predictions of depth, pose, scene flow and mask in float64, wrong in every pixel as early on."""

import torch

from unienc_core.geometry import camera, se3
from unienc_core.presets import DepthSpec

F64 = torch.float64
SIZE = (13, 18)
SCALES = (SIZE, (7, 9), (4, 5))
SPEC = DepthSpec(min=0.1, max=100.0)


def motion_stream(seed, *, B=2, S=2, dtype=F64, grad=False, size=SIZE, scales=SCALES):
    """One camera per sample; flows of about the depth's size; three scales of everything."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape):
        drawn = torch.rand(*shape, generator=generator, dtype=F64).to(dtype)
        return drawn.requires_grad_(grad)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=F64).to(dtype)

    K = torch.stack([camera.K_from_fov(70.0 - 10 * b, *size) for b in range(B)]).to(dtype)
    axis_angle, translation = 0.05 * randn(B, S, 3), 0.2 * randn(B, S, 3)
    flows = [0.2 * randn(B, S, 3, h, w) for h, w in scales]
    logits = [2 * randn(B, S, 1, h, w) for h, w in scales]
    for leaf in (axis_angle, translation, *flows, *logits):
        leaf.requires_grad_(grad)
    return {
        "target_image": rand(B, 3, *size).detach(),
        "source_images": rand(B, S, 3, *size).detach(),
        "K": K,
        "disparity_scales": [rand(B, 1, h, w) for h, w in scales],
        "axis_angle": axis_angle,
        "translation": translation,
        "T_source_target": se3.make_T(axis_angle, translation),
        "complete_flow_scales": flows,
        "motion_logits_scales": logits,
    }
