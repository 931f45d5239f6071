"""Pictures of a training run: what the network makes of the same few items as it learns."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from unienc_core.contracts import Batch
from unienc_core.data.dataset import TripletDataset
from unienc_core.inference.overlays import DepthRange, depth_to_colour, draw_header, draw_legend
from unienc_core.losses.photometric import PhotometricReference
from unienc_core.models.modes import evaluating
from unienc_core.models.network import Network
from unienc_core.presets import Preset
from unienc_core.training.stages import locate
from unienc_core.training.step import to_device
from unienc_core.view_synthesis import made_from, synthesise
from unienc_core.workflows.depth_plots import captioned
from unienc_core.workflows.training_data import TrainingData

SAMPLES = 2
PICTURES = 20
"""About as many pictures of each sample over a run ..."""
SHORTEST_WAIT = 50
"""... but not more often than after as many steps."""
TILE_WIDTH = 320
_SHOWN = ("depth", "warped")
GREATEST_ERROR = 0.5
"""Photometric error at the bright end of its scale."""


class Panels:
    """Draws a picture of each of `SAMPLES` items, evenly spread over the first stream of triplets.

    The items are those of the store, not augmented, and stay the same over the run, so that
    pictures of different steps can be compared. The network sees them in `eval` mode, which moves
    no weight and no statistic: training is the same with and without them.

    Args:
        network: What draws them.
        preset: Its stages, depth range and image size.
        data: Its streams.
    """

    def __init__(self, network: Network, preset: Preset, data: TrainingData) -> None:
        self._network, self._preset, self._data = network, preset, data
        kinds = {name: stream.stream.kind for name, stream in data.datasets.items()}
        self._stream = next((name for name, kind in kinds.items() if kind == "triplets"), None)
        self._every = max(SHORTEST_WAIT, preset.total_steps // PICTURES)

    def due(self, step: int) -> bool:
        """Whether pictures are to be drawn after `step` finished steps."""
        at_end = step == self._preset.total_steps
        return self._stream is not None and (at_end or step % self._every == 0)

    def draw(self, step: int) -> dict[str, np.ndarray]:
        """Draw what the network makes of the items after `step` finished steps.

        Returns:
            Name to `H W 3`, uint8, RGB.
        """
        items, batch = self._items
        stage = self._preset.stages[locate(self._preset.stages, step - 1).stage]
        network = self._network
        placed = to_device(batch, next(network.parameters()).device)
        recipes = made_from(stage.warp)
        wanted = {key for made in _SHOWN for key in recipes[made]} & set(network.produces)
        with torch.no_grad(), evaluating(network):
            predictions = network({"panel": placed}, sorted(wanted))["panel"]
            values = synthesise(
                {**placed, **predictions},
                stage.warp,
                self._preset.depth,
                self._preset.image_size,
                compose=stage.compose,
                wanted=_SHOWN,
            )
            tiles = {name: picture.cpu() for name, picture in _tiles(values).items()}
        depth_range = DepthRange(self._preset.depth.min, self._preset.depth.max)
        return {
            f"panels/{i + 1}": draw_panel(
                {name: tile[i] for name, tile in tiles.items()}, depth_range, item, f"step {step}"
            )
            for i, item in enumerate(items)
        }

    @cached_property
    def _items(self) -> tuple[list[str], Batch]:
        """The names of the items, and the items as one batch."""
        assert self._stream is not None, "nothing is due without a stream of triplets"
        stream = self._data.datasets[self._stream]
        spec = stream.stream.model_copy(update={"labels": ()})
        stored = TripletDataset(stream.stores, spec, stream.image_size, train=False)
        count = min(SAMPLES, len(stored))
        chosen = [(2 * i + 1) * len(stored) // (2 * count) for i in range(count)]
        batch = default_collate([stored.item(0, index) for index in chosen])
        names = [stream.item_name(index) for index in chosen]
        return ["/".join(name.split("/")[-2:]) for name in names], batch


def _tiles(values: Mapping[str, Any]) -> dict[str, Tensor]:
    """What there is to show of each sample: images `B 3 H W`, the others `B 1 H W`."""
    target, sources = values["target_image"], values["source_images"]
    tiles = {"target": target, "source": sources[:, 0]}
    if "depth" in values:
        tiles["depth"] = values["depth"]
    if "warped" in values:
        reference = PhotometricReference(target)
        error = reference.error(values["warped"]).amin(1, keepdim=True)
        unwarped = reference.error(sources).amin(1, keepdim=True)
        tiles |= {
            "source warped onto target": values["warped"][:, 0],
            f"photometric error, 0 to {GREATEST_ERROR:g}": error,
            "kept by the auto-mask": error < unwarped,
        }
    return tiles


def draw_panel(
    tiles: Mapping[str, Tensor], depth_range: DepthRange, title: str, right: str
) -> np.ndarray:
    """Draw the tiles of one sample, two side by side, between a header and the scale of depth.

    Args:
        tiles: Caption to an image `3 H W`, 0..1, a depth map, an error map or a mask `1 H W`.
        depth_range: The two ends of the colour scale.
        title: What the sample is.
        right: What else the header says.

    Returns:
        `H W 3`, uint8, RGB.
    """
    drawn = [
        captioned(name, _colour(name, tile.numpy(), depth_range), TILE_WIDTH)
        for name, tile in tiles.items()
    ]
    if len(drawn) % 2:
        drawn.append(np.zeros_like(drawn[-1]))
    rows = [np.concatenate(drawn[i : i + 2], axis=1) for i in range(0, len(drawn), 2)]
    header = draw_header(2 * TILE_WIDTH, title, right)
    return np.concatenate([header, *rows, draw_legend(2 * TILE_WIDTH, depth_range, "depth")])


def _colour(name: str, tile: np.ndarray, depth_range: DepthRange) -> np.ndarray:
    if len(tile) == 3:
        return np.round(255 * tile.clip(0, 1)).astype(np.uint8).transpose(1, 2, 0)
    if name == "depth":
        return depth_to_colour(tile[0], depth_range)
    scale = 255 if tile.dtype == np.bool_ else 255 / GREATEST_ERROR
    grey = np.round(np.clip(tile[0] * scale, 0, 255)).astype(np.uint8)
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
