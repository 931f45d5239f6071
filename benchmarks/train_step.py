"""What a training step costs beyond its forward and backward pass.

The trainer's step (loading, copying, forward, backward, checks, AdamW, log, checkpoints) against
the bare forward and backward of the same module on tensors in memory: pairs of blocks in shuffled
order, in one process, so that whatever else the machine does meets both alike.

    python benchmarks/train_step.py [--preset unified-tiny] [--store STORE] [--threads N]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from unienc_core.contracts import Batch, StepContext
from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.store_writer import StoreWriter
from unienc_core.device import resolve_device
from unienc_core.losses.objective import Objective
from unienc_core.models.network import build_network
from unienc_core.presets import Preset, load_preset
from unienc_core.training.module import TrainModule
from unienc_core.training.run_dir import RunIdentity, open_run_folder
from unienc_core.training.step import to_device
from unienc_core.training.trainer import Trainer
from unienc_core.workflows.training_data import TrainingData, spare_workers

LIMIT = 1.15


def main() -> None:
    """Measure, print one JSON document, and fail beyond the limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--preset", default="unified-tiny")
    parser.add_argument("--store", type=Path, help="default: one made of textured walls")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--block", type=int, default=4, help="steps in a block")
    parser.add_argument("--workers", type=int, help="default: as train")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, Path(folder))
    print(json.dumps(result, indent=1))
    if result["ratio"] > LIMIT:
        raise SystemExit(f"a training step costs {result['ratio']:.3f} bare ones, over {LIMIT}")


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the pairs and return the figures."""
    steps = (options.pairs + 1) * options.block
    preset = load_preset(options.preset, [f"stages.0.steps={max(steps, 1200)}"])
    device = resolve_device(options.device)
    workers = spare_workers(device) if options.workers is None else options.workers
    store = options.store or write_walls(folder / "store", preset.image_size)
    data = TrainingData(preset, [store], seed=0, workers=workers)
    module = TrainModule(build_network(preset), Objective(preset), preset).to(device)
    identity = RunIdentity(preset, 0, data.digests)
    environment = {"torch": "", "device": "", "cpu": "", "threads": 0}
    with open_run_folder(
        folder / "run", identity, command="benchmark", environment=environment
    ) as run:
        trainer = Trainer(module, preset, data.draws, run, seed=0)
        training = trainer.steps()
        bare = bare_step(module, preset, to_device(next(iter(data.draws(0))), device))
        sides = {"bare": bare, "trainer": lambda: next(training)}
        for step in sides.values():  # warm: caches, worker processes, optimiser state
            seconds_of(step, options.block, device)
        pairs = [run_pair(sides, options.block, device, seed) for seed in range(options.pairs)]
        training.close()
    ratios = [pair["trainer"] / pair["bare"] for pair in pairs]
    return {
        "benchmark": "train_step",
        "preset": options.preset,
        "device": str(device),
        "threads": options.threads,
        "workers": workers,
        "pairs": options.pairs,
        "block": options.block,
        "ratio": round(statistics.median(ratios), 4),
        "ratio_range": [round(min(ratios), 4), round(max(ratios), 4)],
        "bare_seconds": round(statistics.median(p["bare"] for p in pairs), 4),
        "step_seconds": round(statistics.median(p["trainer"] for p in pairs), 4),
        "loader_wait_share": round(trainer.logbook.clock.wait_share, 4),
    }


def bare_step(
    module: TrainModule, preset: Preset, streams: dict[str, Batch]
) -> Callable[[], object]:
    """Return a forward and backward pass on `streams` and nothing else."""
    stage = preset.stages[0]

    def step() -> None:
        total, _ = module(streams, stage, StepContext(0, stage.steps_per_ramp))
        total.backward()
        module.zero_grad(set_to_none=True)

    return step


def run_pair(
    sides: dict[str, Callable[[], object]], block: int, device: torch.device, seed: int
) -> dict[str, float]:
    """Run a block of each side in random order; return seconds per step."""
    order = sorted(sides)
    random.Random(seed).shuffle(order)
    return {name: seconds_of(sides[name], block, device) for name in order}


def seconds_of(step: Callable[[], object], block: int, device: torch.device) -> float:
    """Seconds per step of a block."""
    began = time.perf_counter()
    for _ in range(block):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - began) / block


def write_walls(path: Path, image_size: tuple[int, int], frames: int = 24) -> Path:
    """Write a store of a camera that slides along textured walls."""
    h, w = image_size
    rng = np.random.default_rng(0)
    K = np.array([[0.8 * w, 0, w / 2], [0, 0.8 * w, h / 2], [0, 0, 1]])
    spec = StoreSpec(source="bench", image_size=image_size, keys=standard_keys("image", "K"))
    with StoreWriter(path, spec) as writer:
        for drive in range(4):
            noise = rng.uniform(0, 255, (h, w + 4 * frames, 3)).astype(np.float32)
            wall = cv2.GaussianBlur(noise, (0, 0), 1.5).astype(np.uint8)
            views = [wall[:, 4 * i : 4 * i + w] for i in range(frames)]
            writer.add_drive(f"wall-{drive}", [{"image": view, "K": K} for view in views])
    return path


if __name__ == "__main__":
    main()
