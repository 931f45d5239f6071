"""Fine-tuning: a network that starts from the weights of an earlier run."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from unienc_core.checkpoint import MODEL, Checkpoint, load_tensors
from unienc_core.contracts import Say
from unienc_core.errors import CheckpointError
from unienc_core.models.network import Network
from unienc_core.presets import Preset


def weights_digest(checkpoint: Checkpoint) -> str:
    """Return the SHA-256 of the weights of a checkpoint."""
    return str(checkpoint.state["files"][MODEL]["sha256"])


def has_all_encoders(checkpoint: Checkpoint, preset: Preset) -> bool:
    """Say whether the network of a checkpoint has every encoder of `preset`, by name."""
    return set(preset.network.encoders) <= set(checkpoint.preset.network.encoders)


def start_from(network: Network, checkpoint: Checkpoint, say: Say) -> None:
    """Copy the weights of each node that both networks have; steps and optimiser stay behind.

    A node that the checkpoint lacks (a new head) keeps its own fresh weights, one that the network
    lacks is passed over; either is said.

    Args:
        network: Changed in place.
        checkpoint: Of any preset.
        say: Told what was taken and what was not.

    Raises:
        CheckpointError: If a node that both have does not fit, naming the keys, or none is shared.
    """
    theirs = _by_node(checkpoint.model_tensors())
    ours = _by_node(network.state_dict())
    shared = [node for node in ours if node in theirs]
    if not shared:
        raise CheckpointError(
            f"{checkpoint.path} has none of the nodes {', '.join(ours)}, but "
            f"{', '.join(theirs)}; start from a checkpoint of the same kind of network"
        )
    for node in shared:
        load_tensors(network.get_submodule(node), theirs[node], f"{checkpoint.path}: {node}")
    parts = [f"starting from {checkpoint.path}: {', '.join(shared)}"]
    parts += [f"{node} starts afresh" for node in ours if node not in theirs]
    parts += [f"{node} is not in this network" for node in theirs if node not in ours]
    say("; ".join(parts))


def _by_node(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Sort tensors by the node they belong to: ``heads.depth.conv.weight`` is of heads.depth."""
    nodes: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        family, name, rest = key.split(".", 2)
        nodes.setdefault(f"{family}.{name}", {})[rest] = tensor
    return nodes
