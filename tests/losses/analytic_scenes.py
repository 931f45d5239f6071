"""A textured plane seen by a moving camera, rendered exactly: each pixel in closed form."""

import torch
from torch import Tensor

from unienc_core.geometry import camera, se3

F64 = torch.float64


def texture(a: Tensor, b: Tensor) -> Tensor:
    """Smooth colours `3 H W` in 0..1 of plane coordinates."""
    waves = [
        0.5 + 0.2 * torch.sin(1.9 * a + 0.4) * torch.cos(2.3 * b) + 0.25 * torch.sin(0.9 * a + b),
        0.5 + 0.3 * torch.cos(2.7 * a - 0.8 * b) * torch.sin(1.1 * b + 1),
        0.5 + 0.2 * torch.sin(3.1 * b - 0.5 * a) + 0.2 * torch.cos(1.3 * a),
    ]
    return torch.stack(waves)


def render(
    K: Tensor, T_target_camera: Tensor, H: int, W: int, normal=(0.1, 0.2, 0.97), offset=6.0
) -> tuple[Tensor, Tensor]:
    """Render the plane normal . X = offset (target frame) from a camera.

    Returns:
        Image `3 H W` and depth `1 H W`.
    """
    n = torch.tensor(normal, dtype=F64)
    rays = torch.einsum("ij,jhw->ihw", torch.linalg.inv(K), camera.pixel_grid(H, W, dtype=F64))
    R, centre = T_target_camera[:3, :3], T_target_camera[:3, 3]
    turned = torch.einsum("ij,jhw->ihw", R, rays)
    depth = (offset - n @ centre) / torch.einsum("i,ihw->hw", n, turned)
    hit = turned * depth + centre[:, None, None]
    return texture(hit[0], hit[1]), depth[None]


def plane_values(B=2, S=2, H=36, W=60) -> dict[str, Tensor]:
    """A batch of plane views, with ground-truth depth and poses, cx and cy off centre."""
    K = torch.tensor([[50.0, 0.0, 33.1], [0.0, 48.0, 15.2], [0.0, 0.0, 1.0]], dtype=F64)
    generator = torch.Generator().manual_seed(5)
    v = 0.01 * torch.randn(B, S, 3, generator=generator, dtype=F64)
    t = 0.15 * torch.randn(B, S, 3, generator=generator, dtype=F64)
    t[:, 0, 2], t[:, -1, 2] = 0.5, -0.5
    T_source_target = se3.make_T(v, t)
    target, depth = render(K, torch.eye(4, dtype=F64), H, W)
    sources = [
        [render(K, se3.invert_T(T_source_target[b, s]), H, W)[0] for s in range(S)]
        for b in range(B)
    ]
    return {
        "target_image": target.expand(B, 3, H, W).clone(),
        "source_images": torch.stack([torch.stack(row) for row in sources]),
        "K": K.expand(B, 3, 3).clone(),
        "depth_gt": depth.expand(B, 1, H, W).clone(),
        "axis_angle": v,
        "translation": t,
        "T_source_target": T_source_target,
    }
