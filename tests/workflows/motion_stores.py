"""Small stores of random motion, and a network that answers what a test has written down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from unienc_core.contracts import FeaturePyramid
from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.store import Store
from unienc_core.data.store_writer import StoreWriter
from unienc_core.inference.neighbours import EncodedFrame
from unienc_core.presets import DepthSpec

SIZE = (7, 9)
DEPTH = DepthSpec(min=0.1, max=100.0, convention="inverse")
KEYS = ("image", "K", "T_world_camera", "depth", "motion_mask")
OWN = ("independent_flow_prev", "independent_flow_next")
VOID = 255
HEADS = ("disparity", "T_source_target", "complete_flow", "motion_logits")

Answer = dict[str, torch.Tensor]
"""`disparity` `1 1 h w`, `T_source_target` `1 2 4 4`, `complete_flow` `1 2 3 h w` and
`motion_logits` `1 2 1 h w`, float64."""


def random_motion(rng: np.random.Generator, length: float = 0.5) -> np.ndarray:
    T_ab = np.eye(4)
    T_ab[:3, :3] = Rotation.from_rotvec(0.05 * rng.normal(size=3)).as_matrix()
    T_ab[:3, 3] = [0, 0, length] + 0.2 * length * rng.normal(size=3)
    return T_ab


def random_frames(rng: np.random.Generator, count: int) -> list[dict[str, np.ndarray]]:
    """Frames of one drive: near points and far ones, some of them void, some moving."""
    K = np.array([[8.0, 0, 4.2], [0, 7.5, 2.9], [0, 0, 1]])
    T_world_camera, frames = random_motion(rng, 3.0), []
    for _ in range(count):
        depth = np.exp(rng.uniform(np.log(0.3), np.log(40), SIZE)).astype(np.float32)
        depth[rng.random(SIZE) < 0.2] = 0
        mask = rng.choice([0, 1, VOID], SIZE, p=[0.6, 0.25, 0.15]).astype(np.uint8)
        own = rng.normal(size=(2, 3, *SIZE)).astype(np.float32) * (mask == 1)
        frames.append(
            {
                "image": rng.integers(0, 255, (*SIZE, 3)).astype(np.uint8),
                "K": K,
                "T_world_camera": T_world_camera,
                "depth": depth,
                "motion_mask": mask,
                **dict(zip(OWN, own, strict=True)),
            }
        )
        T_world_camera = T_world_camera @ random_motion(rng)
    return frames


def write_motion_store(
    path: Path,
    drives: list[list[dict[str, np.ndarray]]],
    *,
    keys: tuple[str, ...] = (*KEYS, *OWN),
    gap: int = 1,
    invalid: float | None = VOID,
) -> Path:
    specs = standard_keys(*keys)
    if "motion_mask" in specs:
        specs["motion_mask"] = specs["motion_mask"].model_copy(update={"invalid": invalid})
    size = drives[0][0]["image"].shape[:2]
    spec = StoreSpec(source="toy", split="val", image_size=size, gap=gap, keys=specs)
    with StoreWriter(path, spec) as writer:
        for number, frames in enumerate(drives):
            writer.add_drive(
                f"drive-{number}", [{key: frame[key] for key in keys} for frame in frames]
            )
    return path


class KnownPredictor:
    """Answers what was written down for the target; it knows frames by their pixels.

    Args:
        store: Holds the frames.
        answer: Drive and target to the predictions.
        heads: Predictions that it makes.
        size: (h, w) at which it does; that of the store if not given.
        compose: How the preset of its network puts the final flow together.
    """

    def __init__(
        self,
        store: Path,
        answer: Callable[[int, int], Answer],
        *,
        heads: tuple[str, ...] = HEADS,
        size: tuple[int, int] | None = None,
        compose: str = "add_independent",
    ) -> None:
        opened = Store(store)
        self._places = {
            opened.frame(drive, number, ["image"])["image"].tobytes(): (drive, number)
            for drive, info in enumerate(opened.drives)
            for number in range(info.num_frames)
        }
        self._gap = opened.gap
        self.preset = SimpleNamespace(
            name="toy",
            depth=DEPTH,
            image_size=size or opened.image_size,
            stages=[SimpleNamespace(compose=compose)],
        )
        self.device = torch.device("cpu")
        self.network = SimpleNamespace(produces=heads, decode_triple=self._decode)
        self.has_pose = "T_source_target" in heads
        self._answer, self.num_encoded = answer, 0

    def encode(self, image: np.ndarray) -> EncodedFrame:
        self.num_encoded += 1
        place = torch.tensor([self._places[image.tobytes()]])
        shown = torch.zeros(1, 3, *self.preset.image_size)
        return EncodedFrame(shown, {"place": FeaturePyramid([place], (1,))}, image.shape[:2])

    def motion(self, previous: EncodedFrame, current: EncodedFrame) -> np.ndarray:
        return np.eye(4) + np.eye(4, k=3)

    def _decode(self, sources, target, images, values, outputs) -> Answer:
        drive, number = target["place"].levels[0][0].tolist()
        around = [[drive, number - self._gap], [drive, number + self._gap]]
        assert sources["place"].levels[0].tolist() == around
        assert values["source_offsets"].tolist() == [[-self._gap, self._gap]]
        assert images.shape[1] == 9
        answer = self._answer(drive, number)
        return {key: answer[key] for key in outputs}
