"""What grids out of a cache save a steering head: time a window, against frames that are encoded.

Both sides read the same windows from disk, one after another without overlap, and the same head of
the same network, with random weights, answers; the live side decodes and encodes all N frames.

    python benchmarks/steering_window.py [--preset steering-frozen] [--set path.to.key=value]
        [--rounds N] [--threads N] [--device cpu] [--store STORE]

A table goes to stderr, one JSON document to stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from efficiency_steps import pace, ratio

from unienc_core.data.sequence_dataset import SequenceDataset
from unienc_core.data.store import Store, resolve_store
from unienc_core.device import resolve_device
from unienc_core.models.network import Network, build_network
from unienc_core.presets import Preset, load_preset
from unienc_core.training.step import to_device
from unienc_core.workflows.bench.clock import take_turns
from unienc_core.workflows.grid_cache import build_cache
from unienc_core.workflows.inspect_data import columns
from unienc_core.workflows.prepare import prepare_synth_city
from unienc_core.workflows.steering_scoring import label_of, sequence_stream, steering_head, windows

SIDES = ("live", "cached")

DRIVES, WINDOWS = 2, 2
"""Of the small city: drives, and windows in each."""


def main() -> None:
    """Measure, print a table and one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--preset", default="steering-frozen")
    parser.add_argument("--set", dest="sets", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--store", type=Path, help="default: a small city")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    preset, device = load_preset(options.preset, options.sets), resolve_device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        path = options.store and resolve_store(options.store, "train")
        store = Store(path or small_city(preset, Path(folder)))
        found = compare(preset, store, device, options.rounds, Path(folder) / "grids")
    print(table(found), file=sys.stderr)
    print(json.dumps({"threads": options.threads, "device": str(device), **found}, indent=1))


def small_city(preset: Preset, folder: Path) -> Path:
    """Render a few windows of frames."""
    frames = WINDOWS * sequence_stream(preset).frames
    prepare_synth_city(
        folder / "city",
        splits={"train": (DRIVES, frames)},
        image_size=preset.image_size,
        workers=1,
    )
    return folder / "city" / "train"


def compare(
    preset: Preset, store: Store, device: torch.device, rounds: int, grids: Path
) -> dict[str, Any]:
    """Time windows live and cached.

    Args:
        preset: With a steering head.
        store: Frames with its label.
        device: Where the network runs.
        rounds: How many; each takes one window of each side.
        grids: Folder for the cache.

    Returns:
        ``{preset, image_size, frames, frame_bytes, live, cached, ratio}``: seconds a window as
        `Samples.record` has them in ms, their ratio taken round by round.
    """
    network = build_network(preset, load_pretrained=False).to(device).eval()
    pyramid = steering_head(preset)[1].reads[0]
    cache = build_cache(store, network, preset, grids, pyramid=pyramid)
    single = {name: s.model_copy(update={"batch_size": 1}) for name, s in preset.streams.items()}
    preset = preset.model_copy(update={"streams": single})
    sides = {
        "live": reader(network, preset, windows(preset, [store]), device),
        "cached": reader(network, preset, windows(preset, [store], caches=[cache]), device),
    }
    taken = take_turns(sides, pace(rounds), device)
    return {
        "preset": preset.name,
        "image_size": list(preset.image_size),
        "frames": sequence_stream(preset).frames,
        "frame_bytes": cache.key.frame_bytes,
        **{name: samples.record(1e3) for name, samples in taken.items()},
        "ratio": taken["live"].over(taken["cached"]).record(),
    }


def reader(
    network: Network, preset: Preset, dataset: SequenceDataset, device: torch.device
) -> Callable[[], torch.Tensor]:
    """Return what reads the next window, over and over, and has the head answer."""
    label, number = label_of(preset), 0

    def run() -> torch.Tensor:
        nonlocal number
        item = dataset.item(*divmod(number % len(dataset), dataset.batch_size))
        number += 1
        batch = to_device({key: value[None] for key, value in item.items()}, device)
        with torch.no_grad():
            return network({"drives": batch}, [label])["drives"][label]

    return run


def table(found: Mapping[str, Any]) -> str:
    """Return what `compare` found as text."""
    rows = [("a window", "ms"), *((side, f"{found[side]['median']:.1f}") for side in SIDES)]
    lines, (height, width) = "\n".join(columns(rows)), found["image_size"]
    return (
        f"{found['preset']}, {height}x{width}, {found['frames']} frames\n{lines}\n"
        f"live over cached: {ratio(found['ratio'])}; {found['frame_bytes']:,} bytes a frame"
    )


if __name__ == "__main__":
    main()
