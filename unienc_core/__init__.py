"""unienc: one shared encoder for driving perception.

`load` is all that a program needs to run a trained network:

>>> import unienc_core
>>> predictor = unienc_core.load("runs/mine")
>>> output = predictor.predict(image)  # uint8, H W 3, RGB, any size
>>> output.depth.shape == image.shape[:2]  # float32, up to scale
True
>>> output = predictor.predict((previous, image))
>>> output.T_previous_current.shape  # X_previous = T X_current, in the unit of depth
(4, 4)

A network with the heads for it says what moves by itself, too: `output.motion_mask` (0..1), and
`output.own_flow(K)`, how far each point moved since the previous frame.

Consecutive frames of a camera, each of which is encoded once:

>>> for output in predictor.stream(frames):
...     use(output)

A network with a steering head says there what it reads off the last frames, left positive, in the
unit of its label (`predictor.steering`): `output.steering.value`, None until it has seen enough.
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
        DataError: If there is none.
        CheckpointError: If it is corrupt.
        UsageError: If there is no such device.
    """
    from unienc_core.inference.predictor import load_predictor

    return load_predictor(Path(path), device)
