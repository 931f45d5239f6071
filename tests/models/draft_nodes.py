"""Toy components, wired as those of systems not built yet, that the draft presets name.

They are as small as can be while reading, needing and making what the real ones will.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from unienc_core.contracts import (
    FeaturePyramid,
    Head,
    Neck,
    NodeInputs,
    Predictions,
    PyramidSpec,
)
from unienc_core.models.site import NodeSite
from unienc_core.registry import register


def resize_to(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, like.shape[2:], mode="bilinear")


@register("neck", "toy_unet_core")
class ToyUNetCore(Neck):
    """Shared core of MTAN: decoder features with the tensors that attention reads inside."""

    def __init__(self, site: NodeSite, *, width: int = 8) -> None:
        super().__init__()
        spec = site.only_pyramid()
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1) for c in spec.channels)
        self.mixes = nn.ModuleList(nn.Conv2d(width, width, 3, 1, 1) for _ in spec.channels)
        self.specs = {"": PyramidSpec(spec.strides, (width,) * len(spec.channels))}

    def forward(self, inputs: NodeInputs) -> tuple[dict[str, FeaturePyramid], Predictions]:
        levels, inner, x = [], [], None
        for i in reversed(range(len(self.laterals))):
            before = self.laterals[i](inputs.pyramids[0].levels[i])
            before = before if x is None else before + resize_to(x, before)
            x = self.mixes[i](before)
            levels.insert(0, x)
            inner.insert(0, [before])
        return {"": FeaturePyramid(levels, inputs.pyramids[0].strides, inner)}, {}


@register("neck", "toy_mtan")
class ToyMTAN(Neck):
    """One attention per task and level; the refinement convolutions are shared by the tasks."""

    def __init__(self, site: NodeSite, *, tasks: tuple[str, ...]) -> None:
        super().__init__()
        spec = site.only_pyramid()
        self.refine = nn.ModuleList(nn.Conv2d(c, c, 3, 1, 1) for c in spec.channels)
        self.masks = nn.ModuleDict(
            {t: nn.ModuleList(nn.Conv2d(c, c, 1) for c in spec.channels) for t in tasks}
        )
        self.specs = dict.fromkeys(tasks, spec)

    def forward(self, inputs: NodeInputs) -> tuple[dict[str, FeaturePyramid], Predictions]:
        core = inputs.pyramids[0]
        assert core.inner is not None
        made = {}
        for task, masks in self.masks.items():
            levels = [
                refine(torch.sigmoid(mask(before)) * after)
                for refine, mask, (before,), after in zip(
                    self.refine, masks, core.inner, core.levels, strict=True
                )
            ]
            made[task] = FeaturePyramid(levels, core.strides)
        return made, {}


@register("neck", "toy_sum_fusion")
class ToySumFusion(Neck):
    """Adds the pyramids of two encoders."""

    def __init__(self, site: NodeSite) -> None:
        super().__init__()
        first, second = site.pyramids
        assert first == second
        self.specs = {"": first}

    def forward(self, inputs: NodeInputs) -> tuple[dict[str, FeaturePyramid], Predictions]:
        first, second = inputs.pyramids
        levels = [a + b for a, b in zip(first.levels, second.levels, strict=True)]
        return {"": FeaturePyramid(levels, first.strides)}, {}


@register("neck", "toy_mti_initial")
class ToyMTIInitial(Neck):
    """Features per task and level, each with a supervised prediction in training."""

    def __init__(self, site: NodeSite, *, tasks: dict[str, int]) -> None:
        super().__init__()
        spec = site.only_pyramid()
        self.features = nn.ModuleDict(
            {t: nn.ModuleList(nn.Conv2d(c, c, 3, 1, 1) for c in spec.channels) for t in tasks}
        )
        self.initial = nn.ModuleDict(
            {t: nn.ModuleList(nn.Conv2d(c, n, 1) for c in spec.channels) for t, n in tasks.items()}
        )
        self.specs = dict.fromkeys(tasks, spec)
        self.train_produces = tuple(f"aux/{t}/{i}" for t in tasks for i in range(len(spec.strides)))

    def forward(self, inputs: NodeInputs) -> tuple[dict[str, FeaturePyramid], Predictions]:
        shared, made, auxiliary = inputs.pyramids[0], {}, {}
        for task, convs in self.features.items():
            levels = [conv(x) for conv, x in zip(convs, shared.levels, strict=True)]
            made[task] = FeaturePyramid(levels, shared.strides)
            if inputs.training:
                heads = enumerate(zip(self.initial[task], levels, strict=True))
                auxiliary |= {f"aux/{task}/{i}": head(x) for i, (head, x) in heads}
        return made, auxiliary


@register("neck", "toy_mti_distil")
class ToyMTIDistil(Neck):
    """Each task takes from the others by gates."""

    def __init__(self, site: NodeSite, *, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.tasks = tasks
        channels = site.pyramids[0].channels
        self.gates = nn.ModuleList(nn.Conv2d(c, c, 3, 1, 1) for c in channels)
        self.specs = dict(zip(tasks, site.pyramids, strict=True))

    def forward(self, inputs: NodeInputs) -> tuple[dict[str, FeaturePyramid], Predictions]:
        made = {}
        for i, task in enumerate(self.tasks):
            own, others = inputs.pyramids[i], [p for k, p in enumerate(inputs.pyramids) if k != i]
            levels = [
                x + sum(torch.sigmoid(gate(o.levels[k])) * o.levels[k] for o in others)
                for k, (gate, x) in enumerate(zip(self.gates, own.levels, strict=True))
            ]
            made[task] = FeaturePyramid(levels, own.strides)
        return made, {}


@register("head", "toy_dense")
class ToyDense(Head):
    """All levels brought to the finest, then one map of `channels` under `key`."""

    def __init__(self, site: NodeSite, *, key: str, channels: int) -> None:
        super().__init__()
        self.to_map = nn.Conv2d(sum(site.only_pyramid().channels), channels, 1)
        self.produces = (key,)

    def forward(self, inputs: NodeInputs) -> Predictions:
        finest, *coarser = inputs.pyramids[0].levels
        joined = torch.cat([finest, *(resize_to(x, finest) for x in coarser)], 1)
        return {self.produces[0]: resize_to(self.to_map(joined), inputs.images)}


@register("head", "toy_steering")
class ToySteering(Head):
    """One curvature from all levels of N frames."""

    produces = ("curvature",)

    def __init__(self, site: NodeSite, *, frames: int = 16) -> None:
        super().__init__()
        self.frames = frames
        self.to_curvature = nn.Linear(sum(site.only_pyramid().channels) * frames, 1)

    def forward(self, inputs: NodeInputs) -> Predictions:
        pooled = torch.cat([x.mean((2, 3)) for x in inputs.pyramids[0].levels], 1)
        in_time = pooled.unflatten(0, (inputs.batch_size, self.frames)).flatten(1)
        return {"curvature": self.to_curvature(in_time)[:, 0]}
