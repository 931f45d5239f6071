"""Checkpoints of networks that have learnt nothing."""

from pathlib import Path

from unienc_core.checkpoint import save_checkpoint
from unienc_core.models.network import build_network
from unienc_core.presets import load_preset

PRESET = load_preset("unified-tiny")


def save_untrained(folder: Path, **state: object) -> Path:
    """Save one into `folder` and return its path."""
    weights = build_network(PRESET).state_dict()
    return save_checkpoint(
        folder, preset=PRESET, model=weights, optimizer={}, state={"step": 3, **state}
    )
