"""The triplets of a store, and what a network says of each: the pairs that motion is scored on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from unienc_core.data.labels import OWN_MOTION
from unienc_core.data.store import Store
from unienc_core.device import resource_errors
from unienc_core.errors import DataError, IntegrityError, UsageError
from unienc_core.geometry.camera import Size, resize_K
from unienc_core.geometry.se3 import compose, invert_T
from unienc_core.inference.neighbours import EncodedFrame, check_finite, decode_triple
from unienc_core.inference.predictor import Predictor
from unienc_core.metrics.motion import motion_labels
from unienc_core.presets import Preset
from unienc_core.view_synthesis import full_size_depths, synthesise, to_full_size
from unienc_core.workflows.pose_scoring import POSE_KEY, PoseScores

MASK_KEY = "motion_mask"
_RIGID = ("disparity", "T_source_target")
_HEADS = ("complete_flow", "motion_logits")
_OF_SOURCES = ("T_source_target", "rigid_flow", "independent_flow", "final_flow", "motion_mask")
_MAPS = ("motion_mask", "rigid_flow", "independent_flow", "final_flow")


@dataclass(frozen=True)
class MotionTruth:
    """What a store knows of a target and its sources; what it does not hold is None.

    Attributes:
        K: `1 3 3`, px.
        depth: `H W`, m, 0 where unknown.
        T_source_target: `S 4 4`.
        independent_flow: `S 3 H W`, m.
        labels: ``moving`` and ``static``, `H W` bool; a pixel is neither where nothing is known.
    """

    K: Tensor
    depth: np.ndarray | None
    T_source_target: Tensor | None
    independent_flow: Tensor | None
    labels: dict[str, np.ndarray] | None


@dataclass(frozen=True)
class MotionFound:
    """What a network says of it, at the size of the truth, in float64, all in one unknown unit.

    What it has no head for is None.

    Attributes:
        depth: `H W`.
        T_source_target: `S 4 4`.
        rigid_flow: F_R, `S 3 H W`.
        independent_flow: F_D, the complete flow less the rigid one, `S 3 H W`.
        final_flow: F_F, the rigid flow and what the mask lets through of the other, `S 3 H W`.
        motion_mask: M, `S H W`.
    """

    depth: np.ndarray
    T_source_target: Tensor
    rigid_flow: Tensor
    independent_flow: Tensor | None
    final_flow: Tensor | None
    motion_mask: Tensor | None


Part = TypeVar("Part", MotionTruth, MotionFound)


@dataclass(frozen=True)
class MotionSample:
    """One target with its sources.

    Attributes:
        name: Drive and frame.
        image: Of the target, `H W 3`, uint8 RGB.
        truth: As far as the store knows it.
        found: By the network.
    """

    name: str
    image: np.ndarray
    truth: MotionTruth
    found: MotionFound

    def pairs(self) -> Iterator[tuple[MotionTruth, MotionFound]]:
        """Yield each source with the target alone: scores of large images need some memory."""
        for source in range(len(self.found.T_source_target)):
            yield _only(self.truth, source, _OF_SOURCES), _only(self.found, source, _OF_SOURCES)


def _only(values: Part, source: int, names: Sequence[str]) -> Part:
    """Return truth or predictions of one source: the first axis of what there is of `names`."""
    parts = {name: getattr(values, name, None) for name in names}
    kept = {name: part[source : source + 1] for name, part in parts.items() if part is not None}
    return replace(values, **kept)


class MotionSource:
    """The triplets of a store through a network; each frame of a drive is encoded once.

    As in training, both neighbours of a target at the store's gap are its sources, the earlier one
    first, and each is a pair with it.

    Args:
        store: Holds `image` and `K`.
        predictor: The network.

    Raises:
        DataError: If the store holds no triplet, or nothing that motion can be scored on.
        UsageError: If the network has neither scene flow nor motion mask, or no depth or pose.
    """

    def __init__(self, store: Store, predictor: Predictor) -> None:
        check_store(store)
        self.outputs = check_heads(predictor)
        self._store, self._predictor = store, predictor
        self._targets = store.triplets()
        self._keys = [key for key in ("K", "depth", MASK_KEY, *OWN_MOTION) if key in store.keys]
        self._recent: dict[tuple[int, int], tuple[np.ndarray, EncodedFrame]] = {}

    def __len__(self) -> int:
        """Return the number of triplets."""
        return len(self._targets)

    def walk(self, pose: PoseScores | None) -> Iterator[MotionSample]:
        """Yield all triplets in order; every frame is shown to `pose` on the way."""
        gap = self._store.gap
        targets = {(int(drive), int(frame)) for drive, frame in self._targets}
        for drive, info in enumerate(self._store.drives):
            for number in range(info.num_frames):
                if pose is not None:
                    place = drive, number
                    pose.add(self._name(*place), place, self._frame(*place)[1])
                if (drive, number - gap) in targets:
                    yield self._sample(drive, number - gap)

    def sample(self, index: int) -> MotionSample:
        """Return one triplet of all."""
        drive, frame = self._targets[index]
        return self._sample(int(drive), int(frame))

    def _sample(self, drive: int, target: int) -> MotionSample:
        gap, name = self._store.gap, self._name(drive, target)
        numbers = (target - gap, target, target + gap)
        before, current, after = (self._frame(drive, number) for number in numbers)
        truth = self._truth(drive, target)
        size = self._store.drives[drive].image_size
        frames = (before[1], current[1], after[1])
        K = resize_K(truth.K, size, self._predictor.preset.image_size)
        try:
            made = _predict(self._predictor, frames, gap, K, self.outputs)
        except IntegrityError as error:
            raise IntegrityError(f"{name}: {error}") from None
        found = _find(made, K, self._predictor.preset, size)
        return MotionSample(name, current[0], truth, found)

    def _frame(self, drive: int, number: int) -> tuple[np.ndarray, EncodedFrame]:
        """Return a frame and its encoding; those of a triplet's span are kept."""
        place = drive, number
        if place not in self._recent:
            if len(self._recent) > 2 * self._store.gap:
                self._recent.pop(next(iter(self._recent)))
            image = self._store.frame(drive, number, ["image"])["image"]
            self._recent[place] = image, self._predictor.encode(image)
        return self._recent[place]

    def _truth(self, drive: int, target: int) -> MotionTruth:
        record = self._store.frame(drive, target, self._keys)
        poses = flow = labels = None
        if POSE_KEY in self._store.keys:
            T_world_target, *sources = (
                torch.from_numpy(self._store.frame(drive, number, [POSE_KEY])[POSE_KEY]).double()
                for number in (target, target - self._store.gap, target + self._store.gap)
            )
            T_world_source = torch.stack(sources)
            poses = compose(invert_T(T_world_source), T_world_target.expand_as(T_world_source))
        if all(key in record for key in OWN_MOTION):
            flow = torch.from_numpy(np.stack([record[key] for key in OWN_MOTION])).double()
        if MASK_KEY in record:
            labels = motion_labels(record[MASK_KEY], self._store.keys[MASK_KEY].invalid)
        K = torch.from_numpy(record["K"]).double()[None]
        return MotionTruth(K, record.get("depth"), poses, flow, labels)

    def _name(self, drive: int, number: int) -> str:
        return f"{self._store.drives[drive].name}/{number}"


def check_store(store: Store) -> dict[str, str]:
    """Return what cannot be scored on a store, and why.

    Raises:
        DataError: If there is no triplet, or nothing at all to score.
    """
    store.require(("image", "K"))
    held = store.keys
    lacks = [key for key in ("depth", POSE_KEY) if key not in held]
    own = [key for key in OWN_MOTION if key not in held]
    faults: dict[str, str] = {}
    if MASK_KEY not in held:
        faults["mask"] = f"the store holds no {MASK_KEY}"
    if lacks:
        faults["flow"] = f"the store holds no {' and no '.join(lacks)}"
    elif own:
        faults["flow"] = f"the store holds no {' and no '.join(own)}, so static pixels alone count"
    if MASK_KEY not in held and (lacks or own):
        missing = ", ".join([*lacks, *own])
        raise DataError(
            f"{store.path}: neither {MASK_KEY} nor what true flow is made of ({missing} missing), "
            "so no motion can be scored; 'unienc prepare-data' makes a city that has all of it"
        )
    if "depth" not in held:
        faults["depth"] = "the store holds no depth"
    if POSE_KEY not in held:
        faults["pose"] = f"the store holds no {POSE_KEY}"
    if not len(store.triplets()):
        raise DataError(f"{store.path}: holds no triplet; motion is scored on pairs of frames")
    return faults


def check_heads(predictor: Predictor) -> list[str]:
    """Return the predictions that motion is scored on.

    Raises:
        UsageError: If the network lacks some that are needed.
    """
    able, name = predictor.network.produces, predictor.preset.name
    heads = [key for key in _HEADS if key in able]
    if not heads:
        raise UsageError(
            f"preset '{name}' has neither a scene_flow nor a motion_mask head; give a checkpoint "
            "of a network that has"
        )
    missing = [key for key in _RIGID if key not in able]
    if missing:
        raise UsageError(
            f"preset '{name}' predicts no {' and no '.join(missing)}, which rigid flow is made of; "
            "give a checkpoint of depth, pose and motion"
        )
    return [*_RIGID, *heads]


@torch.inference_mode()
def _predict(
    predictor: Predictor,
    frames: tuple[EncodedFrame, EncodedFrame, EncodedFrame],
    gap: int,
    K: Tensor,
    outputs: Sequence[str],
) -> dict[str, Tensor]:
    """Run the heads on (previous, target, next); K is at the network's size."""
    known = {"K": K.float().to(predictor.device)}
    with resource_errors("evaluation"):
        made: dict[str, Any] = decode_triple(predictor.network, *frames, outputs, known, gap)
        found = {key: made[key].double().cpu() for key in outputs}
    check_finite(*found.values())
    return found


def _find(made: dict[str, Tensor], K: Tensor, preset: Preset, size: Size) -> MotionFound:
    """Put predictions together at the network's size, as in training, and enlarge to `size`.

    (Enlarged first, flow and depth would have edges of different shapes, and between them motion
    that nobody predicted.)
    """
    seen = preset.image_size
    values: dict[str, Any] = {"T_source_target": made["T_source_target"]}
    values |= {f"{key}_scales": [made[key]] for key in ("disparity", *_HEADS) if key in made}
    values["K"] = K
    how = preset.stages[-1].compose
    scene = synthesise(values, "final", preset.depth, seen, compose=how, wanted=_MAPS)
    maps = {key: to_full_size(scene[key], size)[0] if key in scene else None for key in _MAPS}
    depth = full_size_depths(values["disparity_scales"], preset.depth, size)[0]
    rigid, mask = maps["rigid_flow"], maps["motion_mask"]
    assert rigid is not None, "it needs no motion head"
    return MotionFound(
        depth=depth[0, 0].numpy(),
        T_source_target=made["T_source_target"][0],
        rigid_flow=rigid,
        independent_flow=maps["independent_flow"],
        final_flow=maps["final_flow"],
        motion_mask=None if mask is None else mask[:, 0],
    )
