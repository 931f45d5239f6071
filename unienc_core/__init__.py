"""unienc: one shared encoder for driving perception.

`load` is all that a program needs to run a trained network:

    predictor = unienc_core.load("runs/mine")
    output = predictor.predict(image)  # uint8 H W 3, RGB
    output.depth  # float32 H W, up to scale
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unienc_core.inference.predictor import Predictor


def load(path: str | Path, device: str = "auto") -> Predictor:
    """Load a checkpoint or run folder for inference.

    Args:
        path: A checkpoint, or a run folder (its newest checkpoint).
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        CheckpointError: If there is none, or it is corrupt.
    """
    from unienc_core.inference.predictor import load_predictor

    return load_predictor(Path(path), device)
