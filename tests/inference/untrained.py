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
