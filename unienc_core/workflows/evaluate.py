"""`eval-depth`: score a checkpoint on a store, or anyone's predictions in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unienc_core.contracts import Progress, Reporter
from unienc_core.data.store import Store, is_store, resolve_store
from unienc_core.errors import DataError, UsageError
from unienc_core.inference.drive_source import recorded_height
from unienc_core.inference.predictor import predictor_from
from unienc_core.metrics.depth import KINDS, METRICS, Kind
from unienc_core.metrics.pose import POSE_METRICS
from unienc_core.metrics.protocols import PROTOCOLS, DepthProtocol, choose
from unienc_core.metrics.scale import STORE, Scale, parse_scale
from unienc_core.workflows.baselines import make_baselines, measure_training_depths
from unienc_core.workflows.depth_plots import check_plots, draw_extremes
from unienc_core.workflows.depth_report import format_report, format_table, make_report
from unienc_core.workflows.depth_scoring import DepthScores, score_source
from unienc_core.workflows.depth_sources import (
    NEEDED_KEYS,
    DepthSource,
    FolderSource,
    StoreSource,
    check_pictures,
    list_frames,
)
from unienc_core.workflows.export_record import read_record
from unienc_core.workflows.intrinsics import CameraRequest, parse_camera
from unienc_core.workflows.odometry_scoring import ODOMETRY, eval_odometry
from unienc_core.workflows.origins import find_split, open_scored, open_scorer, store_origin
from unienc_core.workflows.photometric_scoring import (
    PHOTOMETRIC,
    PHOTOMETRIC_METRICS,
    eval_photometric,
)
from unienc_core.workflows.pose_scoring import POSE_KEY, PoseScores

__all__ = [
    "METRICS",
    "eval_depth",
    "figures",
    "format_report",
    "format_table",
    "metric_names",
]

DEFAULT_STORE = Path("data/synth-city")
DEFAULT_SCALE, DEFAULT_KIND = "median", "depth"

_WITHOUT_DEPTH = {PHOTOMETRIC: eval_photometric, ODOMETRY: eval_odometry}

MAX_TRAINING_IMAGES = 4000
"""Training images that the baselines are measured on at most, evenly spread over the store."""


def eval_depth(
    store: Path | None = None,
    *,
    checkpoint: Path | None = None,
    predictions: Path | None = None,
    ground_truth: Path | None = None,
    kind: str = DEFAULT_KIND,
    protocol: str = "synth",
    scale: str = DEFAULT_SCALE,
    intrinsics: str | None = None,
    train_store: Path | None = None,
    plots: Path | None = None,
    pose: bool = False,
    device: str = "auto",
    force: bool = False,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Score depth, with baselines beside it, and return the report.

    Args:
        store: Store with depth, or a folder of stores, whose `val-labelled` or else `val` is taken.
        checkpoint: For a store; `find_checkpoint` says where it is looked for by default.
        predictions: Folder of predicted maps, in place of store and checkpoint.
        ground_truth: Folder of depth maps of the same names.
        kind: What `predictions` hold: ``depth`` or ``disparity``.
        protocol: Which pixels are scored: ``synth``, ``kitti-eigen`` or ``cityscapes``; or,
            without depth, ``photometric`` for triplets, see `eval_photometric`, and ``odometry``
            for poses, see `eval_odometry`.
        scale: How predictions are scaled; see `parse_scale`. ``camera_height=store`` takes the
            height that the store records for each drive.
        intrinsics: ``FX,FY,CX,CY`` in pixels of the ground truth, for data without K.
        train_store: Store whose depths make the baselines; default: `train-labelled` or `train`
            beside `store`.
        plots: Folder for pictures of the worst, median and best image.
        pose: Score the camera motion between the frames, too (of a store that has poses).
        device: Where the network runs.
        force: Replace pictures that exist.
        dry_run: Open everything, score nothing.
        reporter: Takes progress and remarks.

    Returns:
        ``{schema, verb, protocol, num_images, num_skipped, size, checkpoint, seed, data, scale,
        metrics, subsets, baselines}``, and ``pose`` where it was asked for (`PoseScores.result`);
        a metric of no image is None. A dry run adds ``dry_run`` and counts the images that would
        be scored.

    Raises:
        UsageError: If the request makes no sense, or no checkpoint is to be found.
        DataError: If an input is missing or wrong, or no image has a pixel to score.
        IntegrityError: If the checkpoint is damaged or predicts NaN.
        ResourceError: If the pictures cannot be written, or memory runs out.
    """
    if choose(protocol, (*PROTOCOLS, *_WITHOUT_DEPTH), "protocol") in _WITHOUT_DEPTH:
        extras = (predictions, ground_truth, intrinsics, train_store, plots)
        changed = pose or scale != DEFAULT_SCALE or kind != DEFAULT_KIND
        if changed or any(extra is not None for extra in extras):
            raise UsageError(f"protocol {protocol} takes a store and a checkpoint, and no more")
        return _WITHOUT_DEPTH[protocol](
            store or DEFAULT_STORE, checkpoint, device=device, dry_run=dry_run, reporter=reporter
        )
    rules = PROTOCOLS[protocol]
    how = parse_scale(scale, with_store=True)
    camera = parse_camera(intrinsics, None)
    request = _Request(
        rules, how, camera, train_store, plots, pose, dry_run, reporter or Reporter()
    )
    if plots is not None:
        check_plots(plots, force)
    if choose(kind, KINDS, "kind") != DEFAULT_KIND and predictions is None:
        raise UsageError(f"kind {kind} is about --predictions, which are not given")
    if predictions is None and ground_truth is None:
        return _eval_store(request, store or DEFAULT_STORE, checkpoint, device)
    if store is not None or checkpoint is not None:
        raise UsageError("give a store and perhaps its checkpoint, or two folders, not both")
    if predictions is None or ground_truth is None:
        raise UsageError("--predictions and --ground-truth go together: one of them is missing")
    if pose:
        raise UsageError("--pose needs a store and a checkpoint; folders of depth have no motion")
    return _eval_folders(request, predictions, ground_truth, choose(kind, KINDS, "kind"))


def metric_names(protocol: str, pose: bool) -> list[str]:
    """Return the names that thresholds may be set on: metrics, and ``pose.<metric>``."""
    if protocol == PHOTOMETRIC:
        return list(PHOTOMETRIC_METRICS)
    if protocol == ODOMETRY:
        return list(POSE_METRICS)
    return [*METRICS, *(f"pose.{name}" for name in POSE_METRICS if pose)]


def figures(report: dict[str, Any]) -> dict[str, float | None]:
    """Return what a report measured under the names of `metric_names`."""
    pose = report.get("pose")
    motion = {f"pose.{name}": pose[name] for name in POSE_METRICS} if pose else {}
    return {**report["metrics"], **motion}


@dataclass(frozen=True)
class _Request:
    """What is wanted, whatever the source."""

    protocol: DepthProtocol
    scale: Scale
    camera: CameraRequest
    train_store: Path | None
    plots: Path | None
    pose: bool
    dry_run: bool
    reporter: Reporter


def _eval_store(
    request: _Request, store: Path, checkpoint: Path | None, device: str
) -> dict[str, Any]:
    keys = [*NEEDED_KEYS, *([POSE_KEY] if request.pose else [])]
    with closing(open_scored(store, request.reporter, keys)) as opened, ExitStack() as stack:
        opened.require(keys)
        check_pictures(opened, request.protocol)
        _check_scale(request, opened)
        training = _open_training(request, opened.path)
        if training is not None:
            stack.enter_context(closing(training))
        found = open_scorer(checkpoint, request.reporter)
        predictor = predictor_from(found, device)
        source = StoreSource(opened, predictor, request.camera)
        pose = PoseScores(opened, predictor) if request.pose else None
        origin = store_origin(found, opened)
        origin["data"]["depth"] = opened.keys["depth"].provenance
        with_ground = "K" in opened.keys or request.camera.K is not None
        return _score(request, source, origin, training, with_ground, pose)


def _eval_folders(
    request: _Request, predictions: Path, ground_truth: Path, kind: Kind
) -> dict[str, Any]:
    _check_scale(request, None)
    source = FolderSource(predictions, ground_truth, kind, request.camera, request.protocol)
    record = read_record(ground_truth) or {}
    meaning = [str(record[name]) for name in ("depth", "convention") if name in record]
    data = {
        "predictions": str(predictions),
        "ground_truth": str(ground_truth),
        "kind": kind,
        "depth": ", ".join(meaning) or None,
        "trimmed": source.trimmed,
    }
    origin = {"checkpoint": None, "seed": None, "data": data}
    with ExitStack() as stack:
        training = _open_training(request, None)
        if training is not None:
            stack.enter_context(closing(training))
        return _score(request, source, origin, training, with_ground=request.camera.K is not None)


def _score(
    request: _Request,
    source: DepthSource,
    origin: dict[str, Any],
    training: Store | None,
    with_ground: bool,
    pose: PoseScores | None = None,
) -> dict[str, Any]:
    protocol, scale = request.protocol, request.scale
    if request.dry_run:
        report = make_report(DepthScores(scale, {}), protocol, origin, pose)
        return {**report, "dry_run": True, "num_images": len(source)}
    measured = None
    if training is not None:
        measured = measure_training_depths(_depths(training, request.reporter), protocol)
    baselines = make_baselines(measured, scale, with_ground)
    watched = pose.watch(source) if pose else None
    scores = score_source(source, protocol, scale, baselines, request.reporter, watched)
    if not scores.model.num_images:
        data = origin["data"]
        raise DataError(
            f"{data.get('store') or data['ground_truth']}: none of {scores.num_skipped} images has "
            f"a pixel that counts ({protocol.describe()})"
        )
    if pose is not None:
        pose.say_what_is_missing(request.reporter)
    if request.plots is not None:
        for path in draw_extremes(source, scores, protocol, request.plots):
            request.reporter.say(f"wrote {path}")
    return make_report(scores, protocol, origin, pose)


def _check_scale(request: _Request, store: Store | None) -> None:
    """Check before the long work that what the scale and --K ask for is known."""
    if store is not None and "K" in store.keys:
        if request.camera.K is not None:
            raise UsageError(f"{store.path} records K for every frame; leave --K out")
    elif request.scale.mode == "camera_height" and request.camera.K is None:
        who = "these folders lack" if store is None else f"{store.path} lacks"
        raise UsageError(f"scaling by camera_height needs K, which {who}: give --K FX,FY,CX,CY")
    if not request.scale.from_store:
        return
    if store is None:
        raise UsageError(f"camera_height={STORE} needs a store; for folders give camera_height=M")
    for drive in store.drives:
        if recorded_height(drive) is None:
            raise DataError(
                f"{store.path}: drive {drive.name} records no camera_height; give camera_height=M"
            )


def _open_training(request: _Request, beside: Path | None) -> Store | None:
    """Open the store of training depths: the one named, else that beside the scored one."""
    named = request.train_store
    if named is not None:
        inside = None if is_store(named) else find_split(named, "train", ["depth"])
        training = Store(inside or resolve_store(named, "train"))
        training.require(["depth"])
        return training
    reason = "no --train-store and no 'train' beside the store"
    try:
        guess = beside and find_split(beside.resolve().parent, "train", ["depth"])
        if guess:
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
