"""Where a motion head stands in tests, what it is given, and weights that tell layers apart."""

import torch
from torch import nn

from unienc_core.contracts import FeaturePyramid, NodeInputs, PyramidSpec
from unienc_core.models.site import NodeSite

SWIN = PyramidSpec((4, 8, 16, 32), (4, 6, 8, 10))
RESNET = PyramidSpec((2, 4, 8, 16, 32), (4, 4, 6, 8, 10))
SIZE = (64, 96)


def site(spec: PyramidSpec, frames: int = 2, view="pair", *, temporal=False) -> NodeSite:
    channels = {"pair": 6, "triple": 9, "frame": 3}[view]
    return NodeSite("motion", view, SIZE, channels, (spec.times(frames),), (frames,), (temporal,))


def inputs(spec: PyramidSpec, frames: int = 2, count: int = 3, size=SIZE) -> NodeInputs:
    """Levels and images of `count` pairs in float64, with a motion as an untrained head has."""
    torch.manual_seed(0)
    levels = [
        torch.randn(count, c * frames, size[0] // s, size[1] // s, dtype=torch.float64)
        for s, c in zip(spec.strides, spec.channels, strict=True)
    ]
    images = torch.rand(count, 6, *size, dtype=torch.float64)
    values = {k: 0.01 * torch.randn(count, 3).double() for k in ("axis_angle", "translation")}
    return NodeInputs([FeaturePyramid(levels, spec.strides)], images, values, count)


def shaken(module: nn.Module, std: float = 0.3) -> nn.Module:
    """Give weights and statistics values that tell layers apart."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if "running_var" in name:
                value.uniform_(0.5, 2)
            elif value.dtype.is_floating_point:
                value.normal_(0, std)
    return module.double().eval()


def only_pose(head: nn.Module) -> nn.Module:
    """Let the head say its camera motion: nothing is added to F_5, the translation itself."""
    with torch.no_grad():
        for name, value in head.named_parameters():
            if "to_map" in name or "from_pose" in name:
                value.zero_()
        out = head.decode.from_pose.out_channels
        head.decode.from_pose.weight[:, :out, 0, 0] = torch.eye(out)
    return head.double()
