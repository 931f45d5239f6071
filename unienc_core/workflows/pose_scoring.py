"""Score a network's camera motion along the drives of a store, next to its depth."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unienc_core.contracts import Reporter
from unienc_core.data.store import Store
from unienc_core.errors import DataError, IntegrityError, UsageError
from unienc_core.inference.predictor import EncodedFrame, Predictor
from unienc_core.metrics.pose import (
    MIN_TRANSLATION,
    POSE_METRICS,
    SNIPPET_FRAMES,
    absolute_trajectory_error,
    chain,
    rotation_error,
    swap_error,
    translation_direction_error,
)
from unienc_core.workflows.depth_sources import DepthSample, DepthSource

POSE_KEY = "T_world_camera"

STRAIGHT_AHEAD = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]])
"""T_previous_current of a camera that always goes one unit ahead: what a network must beat."""

_STEPS = SNIPPET_FRAMES - 1


class PoseScores:
    """Grows by a few numbers a frame; of the frames themselves it keeps the last few encodings.

    A pair is (frame - gap, frame) at the store's gap, the one that networks are trained with; a
    snippet is five frames at that gap, and one ends at every frame that has enough before it. For
    the swap the network is shown a pair the other way round and told that it is in order: a drive
    played backwards.

    Args:
        store: Holds `T_world_camera`.
        predictor: The network.

    Raises:
        DataError: If the store has no poses.
        UsageError: If the network predicts none.
    """

    def __init__(self, store: Store, predictor: Predictor) -> None:
        store.require([POSE_KEY])
        if not predictor.has_pose:
            raise UsageError(
                f"preset '{predictor.preset.name}' has no head that predicts camera motion; "
                "leave --pose out, or give a checkpoint with a pose head"
            )
        self._store, self._predictor, self._gap = store, predictor, store.gap
        self._model, self._straight = _Figures(), _Figures()
        self._swaps: list[tuple[float, float]] = []
        self._drive: int | None = None
        self._T_world_camera = np.empty((0, 4, 4))
        self._recent: deque[EncodedFrame] = deque(maxlen=self._gap + 1)
        self._motions: deque[np.ndarray] = deque(maxlen=(_STEPS - 1) * self._gap + 1)

    def watch(self, source: DepthSource) -> DepthSource:
        """Return the same source, whose frames are scored here as they pass, in order."""
        return _Watched(source, self)

    def add(self, name: str, place: tuple[int, int], encoded: EncodedFrame) -> None:
        """Score the motion to a frame, if frames before it have come.

        Args:
            name: What to call it in an error.
            place: Its drive, and its number there.
            encoded: What the network keeps of it.
        """
        drive, frame = place
        if drive != self._drive:
            self._enter(drive)
        self._recent.append(encoded)
        if len(self._recent) <= self._gap:
            return
        try:
            T_found = self._predictor.motion(self._recent[0], encoded)
            T_swapped = self._predictor.motion(encoded, self._recent[0])
        except IntegrityError as error:
            raise IntegrityError(f"{name}: {error}") from None
        previous, current = self._T_world_camera[frame - self._gap], self._T_world_camera[frame]
        T_gt = np.linalg.inv(previous) @ current
        self._model.add_pair(T_gt, T_found)
        self._straight.add_pair(T_gt, STRAIGHT_AHEAD)
        self._swaps.append(swap_error(T_found, T_swapped))
        self._motions.append(T_found)
        if len(self._motions) == self._motions.maxlen:
            self._add_snippet(frame)

    def result(self) -> dict[str, Any]:
        """Return figures and counts; a figure of nothing is None."""
        swaps = np.reshape(self._swaps, (-1, 2))
        swap_rotation, swap_translation = (_mean(column) for column in swaps.T)
        return {
            **self._model.result(),
            "swap_rotation_deg": swap_rotation,
            "swap_translation": swap_translation,
            "gap": self._gap,
            "num_pairs": len(self._model.rotations),
            "num_still": len(self._model.rotations) - len(self._model.directions),
            "num_snippets": len(self._model.ates),
            "baselines": {"straight_ahead": self._straight.result()},
        }

    def say_what_is_missing(self, reporter: Reporter) -> None:
        """Say why there is no trajectory error, if there is none."""
        if not self._model.ates:
            needed = _STEPS * self._gap + 1
            reporter.say(
                f"{self._store.path}: no drive has {needed} frames, a snippet of {SNIPPET_FRAMES} "
                f"at gap {self._gap}, so there is no ate_{SNIPPET_FRAMES}"
            )

    def _enter(self, drive: int) -> None:
        self._drive = drive
        self._recent.clear()
        self._motions.clear()
        self._T_world_camera = self._store.column(drive, POSE_KEY)
        R = self._T_world_camera[:, :3, :3]
        whole = np.isfinite(self._T_world_camera).all()
        rigid = whole and np.allclose(R @ R.transpose(0, 2, 1), np.eye(3), atol=1e-3)
        if not (rigid and (np.linalg.det(R) > 0).all()):
            raise DataError(
                f"{self._store.path}: {POSE_KEY} of drive {self._store.drives[drive].name} holds "
                "matrices that are no rigid motions, or mirror; make the store with sound ones"
            )

    def _add_snippet(self, last: int) -> None:
        first = last - _STEPS * self._gap
        T_world_camera = self._T_world_camera[first : last + 1 : self._gap]
        centres_gt = (np.linalg.inv(T_world_camera[0]) @ T_world_camera)[:, :3, 3]
        self._model.add_snippet(centres_gt, list(self._motions)[:: self._gap])
        self._straight.add_snippet(centres_gt, [STRAIGHT_AHEAD] * _STEPS)


class _Watched:
    """A source that shows every frame to `PoseScores` before it hands it on."""

    def __init__(self, source: DepthSource, scores: PoseScores) -> None:
        self._source, self._scores = source, scores

    def __len__(self) -> int:
        return len(self._source)

    def samples(self, indices: Iterable[int]) -> Iterator[DepthSample]:
        for sample in self._source.samples(indices):
            assert sample.place is not None and sample.encoded is not None
            self._scores.add(sample.name, sample.place, sample.encoded)
            yield sample


@dataclass
class _Figures:
    """The figures of one way to tell the motion."""

    rotations: list[float] = field(default_factory=list)
    directions: list[float] = field(default_factory=list)
    ates: list[float] = field(default_factory=list)

    def add_pair(self, T_gt: np.ndarray, T_found: np.ndarray) -> None:
        self.rotations.append(rotation_error(T_gt, T_found))
        direction = translation_direction_error(T_gt, T_found)
        if direction is not None:
            self.directions.append(direction)

    def add_snippet(self, centres_gt: np.ndarray, motions: list[np.ndarray]) -> None:
        self.ates.append(absolute_trajectory_error(centres_gt, chain(motions)))

    def result(self) -> dict[str, float | None]:
        return {
            "rotation_deg": _mean(self.rotations),
            "translation_direction_deg": _mean(self.directions),
            "ate_5": _mean(self.ates),
            "ate_5_std": float(np.std(self.ates)) if self.ates else None,
        }


def _mean(values: list[float] | np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None


def pose_table(pose: dict[str, Any]) -> list[list[str]]:
    """Return the cells of the table of a `PoseScores.result`: a header, the model, baselines."""
    rows = {"model": pose}
    rows |= {name.replace("_", " "): values for name, values in pose["baselines"].items()}
    cells = [
        [name, *(_cell(values.get(metric)) for metric in POSE_METRICS)]
        for name, values in rows.items()
    ]
    return [["", *POSE_METRICS], *cells]


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def describe_pose(pose: dict[str, Any]) -> str:
    """Return in words what the figures of a `PoseScores.result` are made of."""
    still = ""
    if pose["num_still"]:
        still = f" ({pose['num_still']} under {MIN_TRANSLATION:g} m without direction)"
    return (
        f"pose: {pose['num_pairs']} pairs at gap {pose['gap']}{still}, {pose['num_snippets']} "
        f"snippets of {SNIPPET_FRAMES} frames, one factor each"
    )
