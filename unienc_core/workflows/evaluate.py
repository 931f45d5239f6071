"""`eval-depth`: score a checkpoint on a store, or anyone's predictions in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unienc_core.checkpoint import find_checkpoint
from unienc_core.contracts import Progress, Reporter
from unienc_core.data.store import Store, is_store, resolve_store
from unienc_core.errors import DataError, UsageError
from unienc_core.inference.predictor import predictor_from
from unienc_core.metrics.depth import KINDS, METRICS, Kind
from unienc_core.metrics.protocols import PROTOCOLS, SCALINGS, DepthProtocol, Scaling, choose
from unienc_core.workflows.baselines import make_baselines, measure_training_depths
from unienc_core.workflows.depth_plots import check_plots, draw_extremes
from unienc_core.workflows.depth_report import format_report, format_table, make_report
from unienc_core.workflows.depth_scoring import DepthScores, score_source
from unienc_core.workflows.depth_sources import (
    NEEDED_KEYS,
    DepthSource,
    FolderSource,
    StoreSource,
    list_frames,
)
from unienc_core.workflows.thresholds import check_thresholds, parse_thresholds

__all__ = [
    "METRICS",
    "check_thresholds",
    "eval_depth",
    "format_report",
    "format_table",
    "parse_thresholds",
]

DEFAULT_STORE = Path("data/synth-city")

MAX_TRAINING_IMAGES = 4000
"""Training images that the baselines are measured on at most, evenly spread over the store."""


def eval_depth(
    store: Path | None = None,
    *,
    checkpoint: Path | None = None,
    predictions: Path | None = None,
    ground_truth: Path | None = None,
    kind: str = "depth",
    protocol: str = "synth",
    scale: str = "median",
    train_store: Path | None = None,
    plots: Path | None = None,
    device: str = "auto",
    force: bool = False,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Score depth, with baselines beside it, and return the report.

    Args:
        store: Store with depth, or a folder of stores, whose `val` is taken.
        checkpoint: For a store; `find_checkpoint` says where it is looked for by default.
        predictions: Folder of predicted maps, in place of store and checkpoint.
        ground_truth: Folder of depth maps of the same names.
        kind: What `predictions` hold: ``depth`` or ``disparity``.
        protocol: Which pixels are scored: ``synth`` or ``kitti-eigen``.
        scale: How predictions are scaled: ``median`` or ``none``.
        train_store: Store whose depths make the baselines; default: `train` beside `store`.
        plots: Folder for pictures of the worst, median and best image.
        device: Where the network runs.
        force: Replace pictures that exist.
        dry_run: Open everything, score nothing.
        reporter: Takes progress and remarks.

    Returns:
        ``{schema, verb, protocol, num_images, num_skipped, size, checkpoint, seed, data, scale,
        metrics, subsets, baselines}``; a metric of no image is None. A dry run adds ``dry_run``
        and counts the images that would be scored.

    Raises:
        UsageError: If the request makes no sense, or no checkpoint is to be found.
        DataError: If an input is missing or wrong.
        IntegrityError: If the checkpoint is damaged or predicts NaN.
        ResourceError: If the pictures cannot be written, or memory runs out.
    """
    rules = PROTOCOLS[choose(protocol, PROTOCOLS, "protocol")]
    scaling = choose(scale, SCALINGS, "scaling")
    request = _Request(rules, scaling, train_store, plots, dry_run, reporter or Reporter())
    if plots is not None:
        check_plots(plots, force)
    if predictions is None and ground_truth is None:
        return _eval_store(request, store or DEFAULT_STORE, checkpoint, device)
    if store is not None or checkpoint is not None:
        raise UsageError("give a store and perhaps its checkpoint, or two folders, not both")
    if predictions is None or ground_truth is None:
        raise UsageError("--predictions and --ground-truth go together: one of them is missing")
    return _eval_folders(request, predictions, ground_truth, choose(kind, KINDS, "kind"))


@dataclass(frozen=True)
class _Request:
    """What is wanted, whatever the source."""

    protocol: DepthProtocol
    scaling: Scaling
    train_store: Path | None
    plots: Path | None
    dry_run: bool
    reporter: Reporter


def _eval_store(
    request: _Request, store: Path, checkpoint: Path | None, device: str
) -> dict[str, Any]:
    say = request.reporter.say
    path = resolve_store(store, "val")
    if path != store:
        say(f"evaluating on {path}")
    with closing(Store(path)) as opened, ExitStack() as stack:
        opened.require(NEEDED_KEYS)
        training = _open_training(request, path)
        if training is not None:
            stack.enter_context(closing(training))
        found = find_checkpoint(checkpoint, say=say)
        if checkpoint is None:
            say(f"using the checkpoint {found.path}")
        source = StoreSource(opened, predictor_from(found, device))
        origin = {
            "checkpoint": str(found.path),
            "seed": found.state.get("seed"),
            "data": {
                "store": str(path),
                "source": opened.manifest["source"],
                "split": opened.manifest["split"],
                "seed": opened.manifest["seed"],
                "digest": opened.digest,
            },
        }
        return _score(request, source, origin, training, with_ground="K" in opened.keys)


def _eval_folders(
    request: _Request, predictions: Path, ground_truth: Path, kind: Kind
) -> dict[str, Any]:
    source = FolderSource(predictions, ground_truth, kind)
    data = {"predictions": str(predictions), "ground_truth": str(ground_truth), "kind": kind}
    origin = {"checkpoint": None, "seed": None, "data": data}
    with ExitStack() as stack:
        training = _open_training(request, None)
        if training is not None:
            stack.enter_context(closing(training))
        return _score(request, source, origin, training, with_ground=False)


def _score(
    request: _Request,
    source: DepthSource,
    origin: dict[str, Any],
    training: Store | None,
    with_ground: bool,
) -> dict[str, Any]:
    protocol, scaling = request.protocol, request.scaling
    if request.dry_run:
        report = make_report(DepthScores({}), protocol, scaling, origin)
        return {**report, "dry_run": True, "num_images": len(source)}
    measured = None
    if training is not None:
        measured = measure_training_depths(_depths(training, request.reporter), protocol)
    baselines = make_baselines(measured, scaling, with_ground)
    scores = score_source(source, protocol, scaling, baselines, request.reporter)
    if request.plots is not None:
        for path in draw_extremes(source, scores, protocol, scaling, request.plots):
            request.reporter.say(f"wrote {path}")
    return make_report(scores, protocol, scaling, origin)


def _open_training(request: _Request, beside: Path | None) -> Store | None:
    """Open the store of training depths: the one named, else `train` beside the scored one."""
    if request.train_store is not None:
        training = Store(resolve_store(request.train_store, "train"))
        training.require(["depth"])
        return training
    guess = None if beside is None else beside.resolve().parent / "train"
    reason = "no --train-store and no 'train' beside the store"
    if guess is not None and is_store(guess):
        try:
            training = Store(guess)
            training.require(["depth"])
            return training
        except DataError as error:
            reason = str(error)
    request.reporter.say(f"no training depths, so no baseline made of them ({reason})")
    return None


def _depths(store: Store, reporter: Reporter) -> Iterator[np.ndarray]:
    frames = list_frames(store)
    frames = frames[:: -(-len(frames) // MAX_TRAINING_IMAGES)]
    for done, (drive, index) in enumerate(frames, 1):
        yield store.frame(drive, index, ["depth"])["depth"]
        reporter.progress(Progress("measure training depths", done, len(frames), "image"))
