"""Checkpoints of networks that have learnt nothing."""

from pathlib import Path

from unienc_core.checkpoint import save_checkpoint
from unienc_core.models.network import build_network
from unienc_core.presets import Preset, load_preset

PRESET = load_preset("unified-tiny")
MASKS = load_preset(
    "unified-masks-tiny",
    [f"network.heads.masks.options.{option}" for option in ("width=16", "queries=12", "hidden=16")],
)
"""With all outputs."""


def save_untrained(folder: Path, preset: Preset = PRESET, **state: object) -> Path:
    """Save one into `folder` and return its path."""
    weights = build_network(preset).state_dict()
    return save_checkpoint(
        folder, preset=preset, model=weights, optimizer={}, state={"step": 3, **state}
    )


def _moving(view: str, reads: str, *more: str) -> Preset:
    options = "{motion_block: dynamo_linear, squeeze: 8, scales: 2, output_scale: 0.05}"
    heads = [
        f"network.heads.{h}={{type: {h}, reads: [{reads}], view: {view}, options: {options}}}"
        for h in ("scene_flow", "motion_mask")
    ]
    return load_preset("unified-tiny", ["image_size=[64, 96]", *more, *heads])


MOVING = _moving("pair", "main")
"""With scene flow and motion mask from two frames."""

MOVING_TRIPLE = _moving(
    "triple",
    "motion",
    "network.encoders.motion={type: timm, view: triple, options: {name: resnet18, pretrained: false"
    ", model_args: {stem_type: deep, stem_width: 8, channels: [8, 8, 8, 8]}}}",
)
"""The same from three."""
