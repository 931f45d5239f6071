"""Building the grids that heads are trained on: every frame through the frozen encoder, once."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from unienc_core.contracts import Progress, Reporter
from unienc_core.data.grid_cache import GRID, GridCache, GridKey
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.sequence_dataset import frames_as_seen
from unienc_core.data.shard_build import DrivePlan, Frame
from unienc_core.data.store import Store
from unienc_core.data.store_writer import StoreWriter
from unienc_core.data.transforms import Augmentation, to_image_tensor
from unienc_core.errors import BusyError, StoreError, WiringError
from unienc_core.models.modes import evaluating
from unienc_core.models.network import Network
from unienc_core.models.pooling import grid_of, join_grid, pool_to_grid
from unienc_core.models.wiring import WiredNode
from unienc_core.presets import Preset
from unienc_core.workflows.prepare_sets import shard_groups

BATCH = 16
"""Frames that are encoded together."""

_PATIENCE = 1.0
"""Seconds from one look to the next at what another process makes."""

_TOLERANCE = 0.02
"""Between a cached grid and one made now, as a share of the level's greatest value: devices and
versions differ by less, other weights by more."""

_WITHOUT_EFFECT = {"checkpointing", "compile", "lr_factor"}
_ORIGIN = {"pretrained", "weights"}


def grid_key(network: Network, preset: Preset, store: Store, pyramid: str = "main") -> GridKey:
    """Return what decides the grids that a network makes of a store.

    Args:
        network: With the weights to use.
        preset: That it was built from.
        store: The frames.
        pyramid: What the steering head reads.

    Raises:
        WiringError: If the pyramid is not one of single frames.
    """
    node = network.wiring.pyramid_of.get(pyramid)
    if node is None or node.view != "frame":
        raise WiringError(
            f"'{pyramid}' is no pyramid of single frames, so there are no grids of it"
        )
    spec = network.wiring.specs[pyramid]
    return GridKey(
        store=store.digest,
        encoder=_digest(network, preset, node),
        pyramid=pyramid,
        image_size=preset.image_size,
        channels=spec.channels,
        grid=grid_of(*(side // spec.strides[-1] for side in preset.image_size)),
    )


def build_cache(
    store: Store,
    network: Network,
    preset: Preset,
    root: Path,
    *,
    pyramid: str = "main",
    flipped: bool = False,
    reporter: Reporter | None = None,
) -> GridCache:
    """Make the grids of a store, or what is missing of them, and open them.

    Each combination of store and encoder has a folder of its own below `root`. The same call again
    goes on where it was stopped; while another process makes them, it waits. Memory does not grow
    with the store.

    Args:
        store: The frames.
        network: Its weights are used as they are, in evaluation mode.
        preset: That it was built from.
        root: Folder of caches.
        pyramid: What the steering head reads.
        flipped: Make those of the mirrored frames as well.
        reporter: Told of progress.

    Raises:
        StoreError: If the finished cache differs from what the network gives now.
        ResourceError: If the disk is too small.
    """
    key, reporter = grid_key(network, preset, store, pyramid), reporter or Reporter()
    mirror = None
    if flipped:
        source = _Grids(store, network, key.model_copy(update={"flipped": True}), reporter)
        mirror = _build(source, root)
    return _build(_Grids(store, network, key, reporter), root, mirror)


def _build(source: _Grids, root: Path, flipped: GridCache | None = None) -> GridCache:
    key, store = source.key, source.store
    folder, spec = key.folder(root), key.spec(store)
    groups = list(shard_groups(spec, list(key.parts(store))))
    with _writer(folder, spec, source.reporter) as writer:
        kept = [p for i, group in enumerate(groups) if writer.is_finished(i, group) for p in group]
        source.done = sum(plan.num_frames or 0 for plan in kept)
        writer.add_shards(groups, source)
    cache = GridCache(folder, key, flipped)
    _check_live(cache, source)
    return cache


def _writer(folder: Path, spec: StoreSpec, reporter: Reporter) -> StoreWriter:
    """Take a cache to write, once nobody else does."""
    said = False
    while True:
        try:
            return StoreWriter(folder, spec)
        except BusyError:
            if not said:
                reporter.say(f"{folder}: waiting for another process that makes these grids")
            said = True
            time.sleep(_PATIENCE)


class _Grids:
    """Frames of a cache: those of a store, through the encoder."""

    def __init__(self, store: Store, network: Network, key: GridKey, reporter: Reporter) -> None:
        self.store, self.network, self.key, self.reporter = store, network, key, reporter
        self.task = "encode mirrored" if key.flipped else "encode"
        self.done = 0

    def __call__(self, plan: DrivePlan) -> Iterator[Frame]:
        """Yield the grids of a part of a drive."""
        drive, first = int(plan.attrs["drive"] or 0), int(plan.attrs["first"] or 0)
        end = first + (plan.num_frames or 0)
        for start in range(first, end, BATCH):
            for grid in self.grids(drive, range(start, min(start + BATCH, end))):
                yield {GRID: grid}
            self.done += min(BATCH, end - start)
            self.reporter.progress(Progress(self.task, self.done, self.store.num_frames, "frame"))

    def grids(self, drive: int, frames: range) -> np.ndarray:
        """Return the grids of some frames, `N C h w` float16."""
        flip = Augmentation(flip=self.key.flipped)
        images = frames_as_seen(self.store, drive, frames, self.key.image_size, flip)
        device = next(self.network.parameters()).device
        with evaluating(self.network), torch.inference_mode():
            made = self.network.encode(to_image_tensor(images).to(device))[self.key.pyramid]
            return join_grid(pool_to_grid(made)).cpu().numpy()


def _check_live(cache: GridCache, source: _Grids) -> None:
    """Check that the first frame's grid is what the encoder gives now.

    The key cannot know of a change in the program; this does.
    """
    kept, made = cache.window(0, 0, 1)[0], source.grids(0, range(1))[0]
    ends = np.cumsum(source.key.channels)[:-1]
    for old, new in zip(np.split(kept, ends), np.split(made, ends), strict=True):
        apart = np.abs(old.astype(np.float32) - new.astype(np.float32)).max()
        if not apart <= _TOLERANCE * max(1e-3, float(np.abs(new).max())):
            raise StoreError(
                f"{cache.path}: its grids are not what the encoder gives now (by {apart:.2g}); "
                "remove this folder, they are made anew then"
            )


def _digest(network: Network, preset: Preset, node: WiredNode) -> str:
    """Hash the options and all numbers of the nodes that make a pyramid, unsaved buffers too."""
    digest = hashlib.sha256()
    for part in _nodes_before(network, node):
        spec = preset.network.nodes[part.path].model_dump(mode="json", exclude=_WITHOUT_EFFECT)
        spec["options"] = {k: v for k, v in spec["options"].items() if k not in _ORIGIN}
        digest.update(json.dumps([part.path, spec], sort_keys=True).encode())
        module: nn.Module = part.module
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _nodes_before(network: Network, node: WiredNode) -> list[WiredNode]:
    """Return a node and all that it reads, in the order in which they run."""
    wanted, found = {node.path}, list[WiredNode]()
    for other in reversed(network.wiring.nodes):
        if other.path in wanted:
            found.insert(0, other)
            reads = other.reads if other.family != "encoder" else ()
            wanted.update(network.wiring.pyramid_of[read].path for read in reads)
    return found
