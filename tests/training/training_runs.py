"""Training runs of a second on a tiny store, for tests of what stands around the trainer."""

from pathlib import Path

from unienc_core.checkpoint import list_checkpoints
from unienc_core.contracts import Reporter
from unienc_core.workflows.train import train

PRESET = """
name: smallest
image_size: [64, 96]
network:
  encoders:
    main:
      type: timm
      options:
        name: resnet18
        model_args: {channels: [8, 8, 8, 8], stem_width: 8, drop_path_rate: 0.1}
  heads:
    depth: {type: unet, reads: [main], options: {channels: [8, 8, 8, 8, 8], scales: 1}}
    pose:
      type: multi_scale
      reads: [main]
      view: pair
      options: {widths: [8, 8, 8, 8], squeeze: 8}
streams:
  triplets: {kind: triplets, batch_size: 2}
terms:
  photometric: {}
  smooth: {weight: 1e-3}
optimizer: {lr: 3e-4, clip_norm: 1.0}
stages:
  - {name: start, steps: 30, terms: [photometric, smooth], trains: ["heads.*"]}
  - {name: all, steps: 50, terms: [photometric, smooth], schedule: {type: tail}}
"""

MOTION = """
name: motion
image_size: [64, 96]
network:
  encoders:
    main:
      type: timm
      options: {name: resnet18, model_args: {channels: [8, 8, 8, 8], stem_width: 8}}
  heads:
    depth: {type: unet, reads: [main], options: {channels: [8, 8, 8, 8, 8], scales: 2}}
    pose:
      type: multi_scale
      reads: [main]
      view: pair
      options: {widths: [8, 8, 8, 8], squeeze: 8}
    scene_flow: {type: scene_flow, reads: [main], view: pair, options: {squeeze: 8, scales: 2}}
    motion_mask: {type: motion_mask, reads: [main], view: pair, options: {squeeze: 8, scales: 2}}
streams:
  triplets: {kind: triplets, batch_size: 2}
terms:
  start: {type: photometric, options: {automask: true}}
  photometric: {options: {automask: false}}
  smooth: {weight: 1e-3}
  flow_smooth: {weight: 1e-3, ramp: true}
  mask_smooth: {weight: 0.1, ramp: true}
  consistency: {weight: 5.0, ramp: true}
  sparsity: {weight: 0.1, ramp: true}
  above_ground: {weight: 0.1, ramp: true}
optimizer: {lr: 3e-4}
stages:
  - name: depth-pose
    steps: 11
    trains: ["encoders.*", "heads.depth.*", "heads.pose.*"]
    terms: [start, smooth]
  - name: flow
    steps: 3
    trains: ["heads.scene_flow.*"]
    warp: complete
    terms: [photometric, flow_smooth]
    steps_per_ramp: 9
  - name: motion
    steps: 4
    trains: ["heads.pose.*", "heads.scene_flow.*", "heads.motion_mask.*"]
    warp: final
    terms: [photometric, flow_smooth, mask_smooth, consistency, sparsity]
    steps_per_ramp: 9
  - name: everything
    steps: 5
    warp: final
    lr: 1e-4
    schedule: {type: poly}
    terms: [photometric, smooth, flow_smooth, mask_smooth, consistency, sparsity, above_ground]
    steps_per_ramp: 9
"""
"""Four stages with real heads of scene motion, as the paper has them."""


class Crash(Exception):  # noqa: N818
    """Stands for a kill: nothing is saved after it."""


def crash_at(step: int | None) -> Reporter:
    """Return a reporter that stops the training after some step; None: never."""

    def tell(progress):
        if progress.task == "train" and progress.done == step:
            raise Crash

    return Reporter(progress=tell)


def assert_same_end(*runs: Path) -> None:
    """Assert that the last checkpoints of two runs hold the same bytes."""
    ends = [list_checkpoints(run / "checkpoints")[-1] for run in runs]
    for part in ("model.safetensors", "optimizer.safetensors"):
        assert (ends[0] / part).read_bytes() == (ends[1] / part).read_bytes()


def smallest(folder: Path, store: Path, out: Path, *, crash: int | None = None, **options):
    """Train the smallest preset for 12 and 13 steps, or up to a crash."""
    preset = folder / "smallest.yaml"
    preset.write_text(PRESET)
    return train(
        str(preset),
        [store],
        out=out,
        overrides=["stages.0.steps=12", "stages.1.steps=13"],
        device="cpu",
        threads=1,
        workers=0,
        reporter=crash_at(crash),
        **options,
    )
