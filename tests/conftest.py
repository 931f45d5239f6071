"""Fixtures shared by all tests."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

# One thread a test process: tests run side by side, and results do not depend on the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Where a test asks for two, one that waits must not spin on a core that others need.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A shell starts background jobs, and all that they start, deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real data fragments, or a skip that says where it was looked for."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("UNIENC_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data fragments at {folder} (set UNIENC_TEST_DATA)")
    return folder


_SMALL_BACKBONES = {
    "swin": "{embed_dim: 12, depths: [1, 1, 2, 1], num_heads: [1, 1, 2, 2]}",
    "resnet18": "{channels: [8, 8, 16, 16], layers: [1, 1, 1, 1]}",
}
_SMALL_HEADS = {
    "unet": {"channels": "[8, 8, 8, 8, 8]"},
    "transdssl": {"width": "8", "hidden": "8"},
    "multi_scale": {"widths": "[8, 8, 8, 8]", "squeeze": "8"},
    "single_scale": {"squeeze": "8"},
    "scene_flow": {"squeeze": "8"},
    "motion_mask": {"squeeze": "8"},
    "steering": {"width": "8", "hidden": "8"},
    "masks": {
        "width": "16",
        "heads": "2",
        "pixel_layers": "1",
        "pixel_hidden": "16",
        "queries": "8",
        "query_layers": "1",
        "layers": "2",
        "hidden": "16",
        "context": "2",
        "text_width": "16",
        "text_layers": "1",
        "text_heads": "2",
        "train_points": "64",
    },
}


@pytest.fixture(scope="session")
def smaller() -> Callable[[str], list[str]]:
    """Give the overrides under which a shipped preset fits into a test, its wiring unchanged.

    Presets that are tiny already keep their networks.
    """
    from unienc_core.presets import load_preset

    def overrides(name: str) -> list[str]:
        preset = load_preset(name)
        changes = ["image_size=[64, 128]"]
        changes += [f"streams.{stream}.batch_size=2" for stream in preset.streams]
        if name.endswith("-tiny"):
            return changes
        for node, spec in preset.network.encoders.items():
            args = next(
                a for k, a in _SMALL_BACKBONES.items() if spec.options["name"].startswith(k)
            )
            options = {"pretrained": "false", "model_args": args}
            changes += [f"network.encoders.{node}.options.{k}={v}" for k, v in options.items()]
        for node, spec in preset.network.heads.items():
            options = _SMALL_HEADS[spec.type]
            changes += [f"network.heads.{node}.options.{k}={v}" for k, v in options.items()]
        return changes

    return overrides
