"""One fold of cross-testing: train, choose by validation, test once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unienc_core.checkpoint import Checkpoint, list_checkpoints, newest_checkpoint
from unienc_core.contracts import Progress, Reporter
from unienc_core.data.folds import Fold
from unienc_core.data.grid_cache import GridCache
from unienc_core.data.store import Store, resolve_store
from unienc_core.device import resolve_device, resource_errors
from unienc_core.errors import IntegrityError
from unienc_core.files import write_atomic
from unienc_core.trained import trained_network
from unienc_core.training.initial import weights_digest
from unienc_core.training.run_record import BEST, CHECKPOINTS
from unienc_core.training.validation import Holdout
from unienc_core.workflows.steering_plots import PLOTS, plot_predictions
from unienc_core.workflows.steering_scoring import (
    Predicted,
    Truth,
    drive_places,
    label_of,
    predict,
    truth_of,
    windows,
)
from unienc_core.workflows.train import train
from unienc_core.workflows.training_verbs import FINETUNE_STEERING

RESULT, PREDICTIONS, PICTURE = "steering.json", "predictions.csv", f"{PLOTS[0]}.png"


@dataclass(frozen=True)
class FoldRequest:
    """What all folds have in common, and the folds.

    Attributes:
        preset: A shipped preset's name or a YAML file, or None, as for `train`.
        stores: Folders of stores.
        out: Folder of the folds.
        folds: All of them.
        every: Steps from one validation to the next.
        caches: Of each store its grids; none to train live.
        stride: Frames from one tested window to the next.
        options: Further arguments of `train`.
    """

    preset: str | None
    stores: tuple[Path, ...]
    out: Path
    folds: tuple[Fold, ...]
    every: int
    caches: tuple[GridCache, ...]
    stride: int
    options: dict[str, Any]

    def holdout(self, number: int) -> Holdout:
        """Return what a fold trains on and chooses by."""
        fold = self.folds[number]
        return Holdout(fold.train, fold.validation, self.every, self.caches)

    def folder(self, number: int) -> Path:
        """Return the run folder of a fold."""
        return fold_folder(self.out, number)


def fold_folder(out: Path, number: int) -> Path:
    """Return the run folder of a fold in the folder of all."""
    return out / f"fold-{number}"


def open_stores(paths: Sequence[Path]) -> list[Store]:
    """Open stores, of folders of stores the training split, as training does."""
    return [Store(resolve_store(path, "train")) for path in paths]


def run_fold(request: FoldRequest, number: int, reporter: Reporter | None = None) -> dict[str, Any]:
    """Train a fold, or go on with it, and test its best weights; what is done is not repeated.

    Args:
        request: What is to be done.
        number: Of the fold, from 0.
        reporter: Told of progress.

    Returns:
        ``{fold, weights, stride, step, train_mse, validation_mse, test: {steering_mse,
        steering_mae}, num_images, frames: {train, validation, test}, baselines, seconds,
        checkpoint}``, errors in the label's
        unit. ``train_mse`` is the mean over the steps before the validation that chose the weights,
        weights moving, as Lechner et al. have it.

    Raises:
        IntegrityError: If no validation was finite.
    """
    reporter = _named(reporter or Reporter(), f"fold {number}")
    folder = request.folder(number)
    trained = train(
        request.preset,
        request.stores,
        verb=FINETUNE_STEERING,
        out=folder,
        holdout=request.holdout(number),
        reporter=reporter,
        **request.options,
    )
    if not list_checkpoints(folder / BEST / CHECKPOINTS):
        raise IntegrityError(f"{folder}: no validation was finite; lower optimizer.lr")
    best = newest_checkpoint(folder / BEST / CHECKPOINTS, say=reporter.say)
    result = _tested_already(folder, best, request.stride)
    if result is None:
        result = _test(request, number, best, reporter)
        result["seconds"] = trained["seconds"]
        write_atomic(folder / RESULT, json.dumps(result, indent=1).encode() + b"\n")
    return {**result, "checkpoint": str(folder / BEST)}


def _test(
    request: FoldRequest, number: int, best: Checkpoint, reporter: Reporter
) -> dict[str, Any]:
    """Score the best weights on the frames held out for that; write and draw the predictions."""
    fold, stores = request.folds[number], open_stores(request.stores)
    label = label_of(best.preset)
    truth = truth_of(stores, label)
    with resource_errors("testing a fold"):
        network = trained_network(best).to(resolve_device(request.options["device"])).eval()
        dataset = windows(best.preset, stores, fold.test, request.caches, request.stride)
        made = predict(network, dataset, label, drive_places(stores), reporter.progress)
    folder, baselines = request.folder(number), truth.baselines(made, truth.within(fold.train))
    write_predictions(folder / PREDICTIONS, made, truth)
    title = f"fold {number}: {label}"
    plot_predictions(folder / PICTURE, made, truth, fold.test, title, baselines)
    return {
        "fold": number,
        "weights": weights_digest(best),
        "stride": request.stride,
        "step": best.step,
        "train_mse": best.state["train"],
        "validation_mse": best.state["validation"],
        "test": truth.errors(made),
        "num_images": int(np.isfinite(truth.at(made)).sum()),
        "frames": frames_of(fold),
        "baselines": baselines,
    }


def write_predictions(path: Path, made: Predicted, truth: Truth) -> None:
    """Write predictions beside the labels as CSV: drive, frame, value, truth.

    Raises:
        IntegrityError: If a prediction is not finite.
    """
    if not np.isfinite(made.values).all():
        raise IntegrityError(f"{path}: the network's answer is not finite")
    labels = truth.at(made)
    lines = ["drive,frame,value,truth"]
    for drive, frame, value, label in zip(
        made.drives, made.frames, made.values, labels, strict=True
    ):
        known = f"{label:.9g}" if np.isfinite(label) else ""
        lines.append(f"{truth.names[drive]},{frame},{value:.9g},{known}")
    write_atomic(path, ("\n".join(lines) + "\n").encode())


def _tested_already(folder: Path, best: Checkpoint, stride: int) -> dict[str, Any] | None:
    """Return what an earlier test of the same weights on the same windows found and drew."""
    if not (folder / PICTURE).exists():
        return None
    try:
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        same = (result["weights"], result["stride"]) == (weights_digest(best), stride)
        return result if same else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def frames_of(fold: Fold) -> dict[str, int]:
    """Return how many frames a fold has to learn from, to choose by and to be tested on."""
    parts = {"train": fold.train, "validation": fold.validation, "test": fold.test}
    return {name: sum(s.stop - s.start for s in spans) for name, spans in parts.items()}


def _named(reporter: Reporter, name: str) -> Reporter:
    """Return a reporter whose progress is that of a fold."""

    def tell(progress: Progress) -> None:
        reporter.progress(replace(progress, task=f"{name}: {progress.task}"))

    return Reporter(progress=tell, say=lambda line: reporter.say(f"{name}: {line}"))
