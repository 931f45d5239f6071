"""Steering along a stream: the pooled grids of the newest frames, and what a head reads off them.

A frame is encoded once. Of its pyramid only the small grid is kept, rounded as in training and in
a cache, and the head runs on the last N of them, so that memory does not grow with the stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from unienc_core.contracts import SEQUENCE_GRIDS, FeaturePyramid
from unienc_core.data.steering import SteeringKind, kind_of, look_ahead_of
from unienc_core.models.heads.steering import Steering as SteeringModule
from unienc_core.models.network import Network
from unienc_core.models.pooling import join_grid, pool_to_grid

MAX_GAP = 0.5
"""Seconds between two frames beyond which a window starts anew, as drives of data sets end there;
a stream whose every step is longer is taken as it is."""


@dataclass(frozen=True)
class Steering:
    """What is known of the steering at a frame.

    Attributes:
        value: In the unit of the label, left positive; None while the window is not full.
        num_missing: Frames that the window still lacks; with `value`, 0.
    """

    value: float | None
    num_missing: int


class GridWindow:
    """Grids of the newest frames of one stream, at most N.

    Args:
        num_frames: N.
    """

    def __init__(self, num_frames: int) -> None:
        self._grids: deque[Tensor] = deque(maxlen=num_frames)
        self._num_frames = num_frames

    @property
    def num_missing(self) -> int:
        """Frames to come until it is full."""
        return self._num_frames - len(self._grids)

    def add(self, grid: Tensor) -> None:
        """Take the grid of the next frame, `1 C h w`; the oldest of a full window goes."""
        self._grids.append(grid)

    def clear(self) -> None:
        """Start anew: the next frame does not follow the last one."""
        self._grids.clear()

    def joined(self) -> Tensor:
        """Return the grids as a batch of one sequence, `1 N C h w`."""
        return torch.stack(tuple(self._grids), 1)


@dataclass(frozen=True)
class SteeringHead:
    """The steering head of a network; of several, the first.

    Attributes:
        key: The label that it predicts.
        kind: What the label counts steering in.
        num_frames: N, frames that it sees.
        reads: The pyramid that it reads.
    """

    key: str
    kind: SteeringKind
    num_frames: int
    reads: str

    @classmethod
    def of(cls, network: Network) -> SteeringHead | None:
        """Find it; None if there is none that predicts a steering label."""
        for node in network.wiring.nodes:
            if isinstance(node.module, SteeringModule):
                key = node.module.produces[0]
                if kind := kind_of(key):
                    return cls(key, kind, node.module.frames, node.reads[0])
        return None

    @property
    def title(self) -> str:
        """What it predicts, in words."""
        name = "steering command" if self.kind.unit == "-1..1" else self.kind.name
        name = name.removesuffix("_deg").removesuffix("_rad").replace("_", " ")
        metres = look_ahead_of(self.key)
        return f"{name} {metres:g} m ahead" if metres else name

    def describe(self) -> dict[str, str]:
        """Return key and unit as files and reports name them."""
        return {"key": self.key, "unit": self.kind.unit}

    def grid(self, pyramids: Mapping[str, FeaturePyramid]) -> Tensor:
        """Return the grid of an encoded frame, `1 C h w`, float16."""
        return join_grid(pool_to_grid(pyramids[self.reads]))

    def read(self, network: Network, window: GridWindow) -> Tensor:
        """Run the head on a full window and return the newest frame's value, 0-d.

        Args:
            network: In evaluation mode.
            window: N grids.
        """
        batch = {SEQUENCE_GRIDS + self.reads: window.joined()}
        value = network({"stream": batch}, [self.key])["stream"][self.key]
        assert isinstance(value, Tensor)
        return value.reshape(-1)[-1]  # the last of `B`, or of `B N` where all frames have one
