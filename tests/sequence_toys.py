"""Drives whose every frame and label can be told apart, and a steering network for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.store import Store
from unienc_core.data.store_writer import StoreWriter
from unienc_core.models.network import Network, build_network
from unienc_core.presets import Preset, preset_from_dict

SIZE = (32, 64)
NETWORK_SIZE, FRAMES = (64, 128), 4
BACKBONE = {"name": "resnet18", "model_args": {"channels": [4, 4, 6, 8], "layers": [1] * 4}}


def label_of(drive: int, frame: int) -> float:
    """The curvature of a frame, 1/km."""
    return 1000.0 * (drive + 1) + frame


def frame_of(drive: int, frame: int) -> dict[str, np.ndarray]:
    """A smooth picture of its own, bright on the left, and its label."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] / SIZE[1]
    waves = [np.sin(3 * columns + drive + 0.3 * frame + c) * np.cos(2 * rows + c) for c in range(3)]
    image = (128 + 100 * np.stack(waves, -1) - 25 * columns[..., None]).clip(0, 255)
    return {"image": image.astype(np.uint8), "curvature": np.float32(label_of(drive, frame))}


def write_drives(
    path: Path, lengths: Sequence[int], *, unknown: Sequence[tuple[int, int]] = (), **changes
) -> Store:
    """Write drives of these lengths; the label of `unknown` (drive, frame) is NaN."""
    spec = StoreSpec(
        source="toy", image_size=SIZE, keys=standard_keys("image", "curvature"), fps=20.0, **changes
    )
    with StoreWriter(path, spec) as writer:
        for drive, length in enumerate(lengths):
            frames = [frame_of(drive, i) for i in range(length)]
            for lost in (i for d, i in unknown if d == drive):
                frames[lost]["curvature"] = np.float32(np.nan)
            writer.add_drive(f"drive-{drive}", frames)
    return Store(path)


def steering_preset(*, steps: int = 4, encoder: dict[str, Any] | None = None, **head) -> Preset:
    """Frozen encoder with batch norms, attentive head."""
    options = {"frames": FRAMES, "width": 8, **head}
    node = {"type": "steering", "reads": ["main"], "view": "sequence", "options": options}
    return preset_from_dict(
        {
            "name": "steering-toy",
            "kind": "steering",
            "image_size": NETWORK_SIZE,
            "network": {
                "encoders": {"main": {"type": "timm", "options": BACKBONE | (encoder or {})}},
                "heads": {"steering": node},
            },
            "streams": {
                "drives": {
                    "kind": "sequences",
                    "batch_size": 2,
                    "frames": FRAMES,
                    "labels": ["curvature_gt"],
                    "augment": {"flip": 0, "jitter": 0},
                }
            },
            "terms": {"steering": {"options": {"curve_factor": 0.001}}},
            "optimizer": {"lr": 5e-4, "clip_norm": 10.0, "weight_decay": 0.1, "ema_decay": 0.9},
            "stages": [
                {
                    "name": "steering",
                    "steps": steps,
                    "trains": ["heads.steering.*"],
                    "terms": ["steering"],
                }
            ],
        }
    )


def steering_network(preset: Preset, seed: int = 0) -> Network:
    """The network of a preset, with weights from a seed."""
    return build_network(preset, seed=seed)
