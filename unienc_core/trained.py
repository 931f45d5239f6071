"""The network of a checkpoint, to be used: without what only training runs."""

from __future__ import annotations

from unienc_core.checkpoint import Checkpoint, load_tensors
from unienc_core.models.network import Network, build_network


def trained_network(checkpoint: Checkpoint) -> Network:
    """Build the network of a checkpoint's own preset and fill it; it is on the CPU.

    Raises:
        CheckpointError: If the checkpoint is damaged or of other shapes.
    """
    network = build_network(checkpoint.preset, load_pretrained=False)
    dropped = network.drop_training_parts()
    kept = {k: v for k, v in checkpoint.model_tensors().items() if not k.startswith(dropped)}
    load_tensors(network, kept, str(checkpoint.path))
    return network
