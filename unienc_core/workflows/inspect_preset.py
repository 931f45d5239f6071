"""`presets check`: whether a preset can be built, and how large it is."""

from __future__ import annotations

from unienc_core.device import resource_errors
from unienc_core.losses.objective import Objective
from unienc_core.models.network import build_network
from unienc_core.presets import Preset
from unienc_core.training.stages import check_stages


def check_preset(preset: Preset) -> dict[str, int]:
    """Build a preset's network and objective, with random weights.

    Returns:
        Parameters of each encoder, neck and head, and of the objective where it learns any.

    Raises:
        PresetError: If an option does not fit its component.
        WiringError: If nodes, terms and stages do not fit together.
        ResourceError: If the network does not fit into memory.
    """
    with resource_errors(f"building {preset.name}"):
        network = build_network(preset, load_pretrained=False)
        objective = Objective(preset)
    check_stages(network, objective, preset)
    counts = dict(network.parameter_counts())
    learned = sum(p.numel() for p in objective.parameters())
    return {**counts, "objective": learned} if learned else counts
