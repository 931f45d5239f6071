"""Steering from a sequence of frames, by attentive pooling (Section III-D, Nguyen et al.).

Every level of every frame is pooled over space to a vector, the frames' vectors are pooled over
time, and one value is read off. The paper names the pooling and leaves the rest open; what is
filled in here, and the controls against which it must hold, are options.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from unienc_core.contracts import Head, NodeInputs, Predictions
from unienc_core.errors import ShapeError, WiringError
from unienc_core.geometry.precision import widen
from unienc_core.models.pooling import Grid, SelfAttentivePooling, grid_of, pool_to_grid
from unienc_core.models.site import NodeSite
from unienc_core.registry import Count, register

Space = Literal["attentive", "average"]
Time = Literal["attentive", "average", "last", "gru"]

MakePool = Callable[[int, Grid, Grid], nn.Module]
"""Channels, size of the maps and number of their windows to what pools them."""

Ratio = Annotated[float, Field(gt=0, le=4)]
PositionStd = Annotated[float, Field(gt=0, le=1)]
Units = Annotated[int, Field(ge=0, le=4096)]
LabelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.]*$")]


@register("head", "steering")
class Steering(Head):
    """N frames to the steering at the last of them, or at all.

    It works on what `pool_to_grid` leaves of a pyramid, be it live or out of a cache. Of each
    level, `space` pools windows of cells, a 1x1 convolution brings them to `width` channels, and
    `space` pools the rest of the map; the levels' vectors are joined. `time` makes one vector of N.

    Batch norms are those of the pooling: in training they see all frames of a batch together, so a
    prediction is one of its frames alone in evaluation mode only.

    Args:
        site: Where the head stands; it reads frame features and has view: sequence.
        predicts: What it predicts: a steering label by its name in a store. It is in that label's
            unit.
        frames: N.
        target: The `last` frame's value (Nguyen et al.), or those of `all` (Lechner et al.).
        levels: All, or the `last` (coarsest) alone.
        space: Self-attentive pooling, or averages, in space.
        time: Alike in time; or the `last` frame alone, or a recurrent net (`gru`). The first two
            make one vector of the sequence, from which `all` targets are read; the others go with
            time, and see no frame after the target.
        width: Channels of each level's vector, of each column of it.
        window: Side of the windows in cells; 1 along a side of the grid that it does not divide.
        columns: Parts of a map, side by side, that the rest of it is pooled to, at most one a
            window; their vectors are joined. Of a single one, weights alone tell left from right.
        ratio: Size of the tokens of the pooling as a share of the channels.
        heads: Of its attention.
        position_std: Of its positions' random start, see `SelfAttentivePooling`.
        hidden: Units of the `gru`.
        mlp_units: Units, with a ReLU, between the vector and the value; of 0 there are none, and
            the value is linear in what the weights pool.
    """

    def __init__(
        self,
        site: NodeSite,
        *,
        predicts: LabelName = "curvature",
        frames: Count = 16,
        target: Literal["last", "all"] = "last",
        levels: Literal["all", "last"] = "all",
        space: Space = "attentive",
        time: Time = "attentive",
        width: Count = 128,
        window: Count = 2,
        columns: Count = 1,
        ratio: Ratio = 0.25,
        heads: Count = 2,
        position_std: PositionStd = 0.02,
        hidden: Count = 64,
        mlp_units: Units = 0,
    ) -> None:
        super().__init__()
        if site.view != "sequence":
            raise WiringError(f"head '{site.name}': a steering head needs view: sequence")
        spec = site.only_pyramid()
        self.produces = (predicts,)
        self.frames, self.target, self.time = frames, target, time
        self.num_levels = len(spec.channels) if levels == "all" else 1
        grid = grid_of(*(side // spec.strides[-1] for side in site.image_size))
        near = (_windows(grid[0], window), _windows(grid[1], window))
        columns = min(columns, near[1])
        attention = partial(
            SelfAttentivePooling, ratio=ratio, heads=heads, position_std=position_std
        )
        pool = _averages if space == "average" else partial(_weighted, attention)
        self.pools = nn.ModuleList(
            _LevelPool(pool(channels, grid, near), channels, width, pool(width, near, (1, columns)))
            for channels in spec.channels[-self.num_levels :]
        )
        joined = width * columns * self.num_levels
        if time == "attentive":
            self.over_time = attention(joined, (frames, 1), (1, 1))
        elif time == "gru":
            self.over_time = nn.GRU(joined, hidden, batch_first=True)
            joined = hidden
        at_once = time in ("attentive", "average") and target == "all"
        between = [nn.Linear(joined, mlp_units), nn.ReLU()] if mlp_units else []
        self.mlp = nn.Sequential(*between)
        self.read_off = nn.Linear(mlp_units or joined, frames if at_once else 1)

    def forward(self, inputs: NodeInputs) -> Predictions:
        """Return the value of the last frame, `B`, or those of all, `B N`."""
        batch, frames = inputs.batch_size, self.frames
        levels = pool_to_grid(inputs.pyramids[0]).levels[-self.num_levels :]
        if len(levels[0]) != batch * frames:
            raise ShapeError(
                f"the steering head takes sequences of {frames} frames, found "
                f"{len(levels[0]) // batch}; give stream and head the same number"
            )
        if self.time == "last" and self.target == "last":
            levels = [x.unflatten(0, (batch, frames))[:, -1] for x in levels]
        vectors = torch.cat([pool(x) for pool, x in zip(self.pools, levels, strict=True)], 1)
        values = self._in_time(vectors.unflatten(0, (batch, -1)))
        return {self.produces[0]: values[:, -1] if self.target == "last" else values}

    def _in_time(self, vectors: Tensor) -> Tensor:
        """Read values off the frames' vectors, `B N C`, the last one that of the last frame."""
        if self.time == "attentive":
            x = self.over_time(vectors.transpose(1, 2).unsqueeze(3))[:, :, 0, 0]
        elif self.time == "average":
            x = vectors.mean(1)
        else:
            x = self.over_time(vectors)[0] if self.time == "gru" else vectors
        values = widen(self.read_off(self.mlp(x)))
        return values if x.dim() == 2 else values[..., 0]


def _windows(side: int, window: int) -> int:
    return side // window if side % window == 0 else side


def _averages(channels: int, grid: Grid, windows: Grid) -> nn.Module:
    del channels, grid
    return nn.AdaptiveAvgPool2d(windows)


def _weighted(make: MakePool, channels: int, grid: Grid, windows: Grid) -> nn.Module:
    """Return a pooling to these windows; where each is one cell there is nothing to weight."""
    return nn.Identity() if windows == grid else make(channels, grid, windows)


class _LevelPool(nn.Module):
    """A level of a frame to a vector: pool near cells, mix channels, pool the rest."""

    def __init__(self, near: nn.Module, channels: int, width: int, rest: nn.Module) -> None:
        super().__init__()
        self.near = near
        self.mix = nn.Conv2d(channels, width, 1, bias=False)
        # Levels differ in scale by their depth and by their encoder: the vectors must not.
        self.norm = nn.BatchNorm2d(width)
        self.rest = rest

    def forward(self, x: Tensor) -> Tensor:
        """Pool `M C h w` to `M (width columns)`."""
        return self.rest(self.norm(self.mix(self.near(x)))).flatten(1)
