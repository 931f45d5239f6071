"""Steering predicted for windows of frames, and scored against the labels of stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unienc_core.contracts import Progress, ProgressCallback, Say, no_progress
from unienc_core.data.folds import Span, takes_of
from unienc_core.data.grid_cache import GridCache
from unienc_core.data.labels import measured
from unienc_core.data.loader import StepLoader
from unienc_core.data.sequence_dataset import SequenceDataset
from unienc_core.data.steering import CURVATURE, kind_of
from unienc_core.data.store import Store
from unienc_core.errors import UsageError
from unienc_core.metrics.steering import (
    mean_baseline,
    persistence,
    persistence_after,
    steering_errors,
    zero_baseline,
)
from unienc_core.models.modes import evaluating
from unienc_core.models.network import Network
from unienc_core.presets import NodeSpec, Preset, StreamSpec
from unienc_core.training.run_dir import RunFolder
from unienc_core.training.step import to_device
from unienc_core.training.trainer import Trainer
from unienc_core.training.validation import Holdout, Validation
from unienc_core.workflows.training_data import TrainingData

HEAD = TERM = "steering"
AGES = (0.5, 1.0, 2.0)
"""Seconds that a label is kept for, for the baselines of persistence."""


@dataclass(frozen=True)
class Predicted:
    """What was predicted of which frames.

    Attributes:
        drives: Number of the drive among those of all stores, `n`.
        frames: Of the drive, `n`.
        values: In the label's unit, `n`.
    """

    drives: np.ndarray
    frames: np.ndarray
    values: np.ndarray


class Truth:
    """The labels of all drives, and what can be said of a frame without looking at it.

    Args:
        stores: Opened.
        label: Their key.

    Attributes:
        labels: Of each drive, NaN where unknown.
        names: Of each drive.
        times: Of each drive's frames, s.
        unit: Of the labels.

    Raises:
        DataError: If a store does not hold the label.
    """

    def __init__(self, stores: Sequence[Store], label: str) -> None:
        for store in stores:
            store.require([label])
        kind = kind_of(label)
        self.unit = kind.unit if kind else stores[0].keys[label].unit
        places = [(store, n) for store in stores for n in range(len(store.drives))]
        self.names = [store.drives[n].name for store, n in places]
        self.labels = [store.column(n, label).astype(np.float64) for store, n in places]
        self.times = [take.times for take in takes_of(stores)]

    def at(self, made: Predicted, values: Sequence[np.ndarray] | None = None) -> np.ndarray:
        """Return the labels, or other `values` of all drives, of what was predicted, `n`."""
        values = self.labels if values is None else values
        rows = zip(made.drives, made.frames, strict=True)
        return np.array([values[drive][frame] for drive, frame in rows], np.float64)

    def everything(self) -> list[Span]:
        """Return all frames."""
        return [Span(drive, 0, len(labels)) for drive, labels in enumerate(self.labels)]

    def within(self, spans: Sequence[Span]) -> np.ndarray:
        """Return the known labels of some frames."""
        parts = [self.labels[span.drive][span.start : span.stop] for span in spans]
        joined = np.concatenate([np.empty(0), *parts])
        return joined[np.isfinite(joined)]

    def errors(self, made: Predicted) -> dict[str, float | None]:
        """Return the errors of predictions."""
        return steering_errors(made.values, self.at(made))

    def baselines(self, made: Predicted, training: np.ndarray) -> dict[str, dict[str, Any]]:
        """Return the errors of what needs no picture, at the same frames.

        Args:
            made: Gives the frames.
            training: Known labels of training; none for no baseline of their mean.

        Returns:
            Baseline to errors and ``num_images``: the first frames of a drive have no past.
        """
        truth = self.at(made)
        guesses = {"zero": zero_baseline(truth)}
        if training.size:
            guesses["train_mean"] = mean_baseline(truth, [training])
        past = [persistence(labels, 1) for labels in self.labels]
        guesses["persistence_1_frame"] = self.at(made, past)
        for age in AGES:
            pairs = zip(self.labels, self.times, strict=True)
            past = [persistence_after(labels, times, age) for labels, times in pairs]
            guesses[f"persistence_{1000 * age:g}_ms"] = self.at(made, past)
        return {
            name: {
                **steering_errors(guess, truth),
                "num_images": int(np.isfinite(guess - truth).sum()),
            }
            for name, guess in guesses.items()
        }


def truth_of(stores: Sequence[Store], label: str) -> Truth:
    """Return the labels of stores, read once a process: folds ask for them again and again."""
    return _kept(tuple((store.path, store.digest) for store in stores), label)


@lru_cache(maxsize=4)
def _kept(stores: tuple[tuple[Path, str], ...], label: str) -> Truth:
    return Truth([Store(path) for path, _ in stores], label)


def steering_head(preset: Preset) -> tuple[str, NodeSpec]:
    """Return the steering head of a preset, and its name.

    Raises:
        UsageError: If there is not just one.
    """
    found = [(name, node) for name, node in preset.network.heads.items() if node.type == HEAD]
    if len(found) != 1:
        raise UsageError(
            f"preset {preset.name} has {len(found)} heads of type {HEAD}, expected one; it has "
            f"{', '.join(preset.network.heads)}"
        )
    return found[0]


def label_of(preset: Preset) -> str:
    """Return the label that a preset predicts."""
    return steering_head(preset)[1].options.get("predicts", CURVATURE)


def sequence_stream(preset: Preset) -> StreamSpec:
    """Return the stream that gives the length of the windows of a preset.

    Raises:
        UsageError: If it has no sequences.
    """
    streams = [stream for stream in preset.streams.values() if stream.kind == "sequences"]
    if not streams:
        raise UsageError(f"preset {preset.name} has no stream of kind sequences")
    return streams[0]


def windows(
    preset: Preset,
    stores: Sequence[Store],
    spans: Sequence[Span] | None = None,
    caches: Sequence[GridCache] = (),
    stride: int | None = None,
) -> SequenceDataset:
    """Return windows in order, as stored: one after another as in the protocol, unless told.

    Args:
        preset: Gives their length.
        stores: Opened.
        spans: The frames to take; None for all.
        caches: Of each store its grids; none for images.
        stride: Frames from one window to the next; default: its length.

    Raises:
        UsageError: If the preset has no sequences.
        DataError: If there is no window.
    """
    stream = sequence_stream(preset)
    changes = {"stride": stride or stream.frames, "labels": (measured(label_of(preset)),)}
    return SequenceDataset(
        list(stores),
        stream.model_copy(update=changes),
        preset.image_size,
        seed=0,
        train=False,
        classes=preset.classes,
        spans=spans,
        caches=caches,
    )


def predict(
    network: Network,
    dataset: SequenceDataset,
    label: str,
    places: dict[tuple[str, int], int],
    progress: ProgressCallback = no_progress,
) -> Predicted:
    """Predict the last frame of each window, or all its frames where the head has all.

    Args:
        network: In any mode, which it keeps.
        dataset: The windows.
        label: What the head predicts.
        places: See `drive_places`.
        progress: Told of windows done.
    """
    device = next(network.parameters()).device
    made: list[np.ndarray] = []
    steps = -(-len(dataset) // dataset.batch_size)
    with torch.no_grad(), evaluating(network):
        for step, batch in StepLoader(dataset).steps(0, steps):
            values = network({"s": to_device(batch, device)}, [label])["s"][label]
            made.append(values.double().cpu().numpy().reshape(dataset.batch_size, -1))
            done = min(len(dataset), (step + 1) * dataset.batch_size)
            progress(Progress("predict steering", done, len(dataset), "window"))
    values = np.concatenate(made)[: len(dataset)]
    ends = [dataset.find(i) for i in range(len(dataset))]
    drives = np.array([places[str(store.path), drive] for store, drive, _ in ends])
    frames = np.array([last for *_, last in ends])
    count = values.shape[1]
    steps_back = np.arange(1 - count, 1)
    return Predicted(
        np.repeat(drives, count), (frames[:, None] + steps_back).ravel(), values.ravel()
    )


def drive_places(stores: Sequence[Store]) -> dict[tuple[str, int], int]:
    """Return the number among all drives of each drive of each store."""
    counted = [(str(store.path), n) for store in stores for n in range(len(store.drives))]
    return {place: number for number, place in enumerate(counted)}


def validating(
    holdout: Holdout | None,
    preset: Preset,
    data: TrainingData,
    trainer: Trainer,
    folder: RunFolder,
    say: Say,
) -> Callable[[int], None]:
    """Return what wants to be told of each step to choose the weights by held out frames.

    Args:
        holdout: What is held out; of None, nothing is chosen.
        preset: Of what is trained.
        data: Its stores.
        trainer: Stands where the run begins or resumes.
        folder: Of the run.
        say: Told of each validation.
    """
    if holdout is None:
        return lambda step: None
    label, places = label_of(preset), drive_places(data.stores)
    dataset = windows(preset, data.stores, holdout.validation, holdout.caches)
    truth = truth_of(data.stores, label)

    def score() -> float:
        made = predict(trainer.network, dataset, label, places)
        error = truth.errors(made)["steering_mse"]
        return error if error is not None and np.isfinite(made.values).all() else np.inf

    logged = f"{_term_name(preset)}/mse"
    validate = Validation(
        trainer.network, preset, folder, score, every=holdout.every, logged=logged, say=say
    )
    validate.catch_up(trainer.logbook.counters.step)
    return validate


def _term_name(preset: Preset) -> str:
    return next(name for name, term in preset.terms.items() if (term.type or name) == TERM)
