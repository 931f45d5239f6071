"""`eval-seg`: score panoptic, instance and semantic segmentation, ours or anyone's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from unienc_core.checkpoint import Checkpoint
from unienc_core.class_tables import ClassTable, cityscapes_table, load_class_table
from unienc_core.contracts import Progress, Reporter
from unienc_core.errors import DataError, PartialError, UsageError
from unienc_core.machine import available_cores
from unienc_core.metrics.protocols import choose
from unienc_core.metrics.scores import Absent
from unienc_core.workflows.depth_plots import check_plots
from unienc_core.workflows.origins import open_scored, open_scorer, store_origin
from unienc_core.workflows.seg_export import SegExport, check_export
from unienc_core.workflows.seg_plots import PLOTS, draw_plots
from unienc_core.workflows.seg_report import (
    Scored,
    describe_unmatched,
    format_report,
    make_report,
)
from unienc_core.workflows.seg_samples import METRICS, TASKS, ScoredImage, Task, total_scores
from unienc_core.workflows.seg_sources import FolderSource, SegSource
from unienc_core.workflows.seg_stores import (
    STORE_KEYS,
    SegmentationPredictor,
    StoreSource,
    network_predictor,
)

__all__ = [
    "PROTOCOLS",
    "eval_seg",
    "format_report",
    "metric_names",
]

PROTOCOLS = ("cityscapes",)
DEFAULT_STORE = Path("data/synth-city")


def eval_seg(
    store: Path | None = None,
    *,
    checkpoint: Path | None = None,
    predictor: SegmentationPredictor | None = None,
    predictions: Path | None = None,
    ground_truth: Path | None = None,
    task: str = "panoptic",
    protocol: str = "cityscapes",
    classes: Path | None = None,
    absent: str = "skip",
    allow_missing: bool = False,
    export: Path | None = None,
    plots: Path | None = None,
    device: str = "auto",
    workers: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Score segmentations and return the report.

    Args:
        store: Store with classes and instances, or a folder of stores, whose `val` is taken, or
            `val-labelled` where that alone has them.
        checkpoint: For a store; `find_checkpoint` says where it is looked for by default.
        predictor: For a store, in place of a checkpoint.
        predictions: Folder in an official format, in place of store and checkpoint.
        ground_truth: Folder of ground truth (gtFine), or of a panoptic document.
        task: ``panoptic``, ``instance`` or ``semantic``.
        protocol: Whose rules: ``cityscapes``.
        classes: YAML table of the classes; see `load_class_table`. Default: those of the
            network, or those of Cityscapes for folders.
        absent: What a class counts that is neither true nor predicted: ``skip`` leaves it out of
            means, ``zero`` counts it as 0.
        allow_missing: Score the others where predictions are missing or belong to no picture.
        export: Folder for the predictions made on a store, in the official format of the task.
        plots: Folder for a confusion matrix and the worst pictures.
        device: Where the network of the checkpoint runs.
        workers: Processes that score folders; None for one per core. The report does not depend
            on them.
        force: Replace pictures and exported files that exist.
        dry_run: Open everything, score nothing.
        reporter: Takes progress and remarks.

    Returns:
        ``{schema, verb, protocol, code, task, classes, absent, num_images, num_skipped, size,
        checkpoint, seed, data, metrics, per_class, missing, extra}``; a metric of nothing is None.
        A dry run adds ``dry_run`` and counts the images that would be scored.

    Raises:
        UsageError: If the request makes no sense, or no checkpoint that segments is to be found.
        DataError: If an input is missing or wrong.
        PartialError: If pictures or predictions without a partner were left out, with the report.
        ResourceError: If files cannot be written, or memory runs out.
    """
    request = _Request(
        choose(task, TASKS, "task"),
        choose(protocol, PROTOCOLS, "protocol"),
        _class_table(classes, predictor),
        choose(absent, get_args(Absent), "treatment of absent classes"),
        allow_missing,
        export,
        plots,
        workers or available_cores(),
        dry_run,
        reporter or Reporter(),
    )
    if plots is not None:
        check_plots(plots, force, PLOTS)
    if predictions is None and ground_truth is None:
        if export is not None:
            check_export(export, force)
        return _eval_store(
            request, store or DEFAULT_STORE, checkpoint, predictor, classes is None, device
        )
    if store is not None or checkpoint is not None or predictor is not None:
        raise UsageError("give a store and perhaps its checkpoint, or two folders, not both")
    if predictions is None or ground_truth is None:
        raise UsageError("--predictions and --ground-truth go together: one of them is missing")
    if export is not None:
        raise UsageError("--export needs a store and a checkpoint; folders hold files already")
    return _eval_folders(request, predictions, ground_truth)


def metric_names(task: str) -> list[str]:
    """Return the names that thresholds may be set on.

    Raises:
        UsageError: If there is no such task.
    """
    return list(METRICS[choose(task, TASKS, "task")])


@dataclass(frozen=True)
class _Request:
    """What is wanted, whatever the source."""

    task: Task
    protocol: str
    table: ClassTable
    absent: Absent
    allow_missing: bool
    export: Path | None
    plots: Path | None
    workers: int
    dry_run: bool
    reporter: Reporter


def _class_table(classes: Path | None, predictor: SegmentationPredictor | None) -> ClassTable:
    if classes is not None:
        return load_class_table(classes)
    return cityscapes_table() if predictor is None else predictor.classes


def _eval_store(
    request: _Request,
    store: Path,
    checkpoint: Path | None,
    predictor: SegmentationPredictor | None,
    with_own_classes: bool,
    device: str,
) -> dict[str, Any]:
    with closing(open_scored(store, request.reporter, STORE_KEYS)) as opened:
        opened.require(STORE_KEYS)
        found: Checkpoint | None = None
        if predictor is None:
            found = open_scorer(checkpoint, request.reporter)
            predictor = network_predictor(found, request.task, device)
            if with_own_classes:
                request = replace(request, table=predictor.classes)
        export = None if request.export is None else SegExport(request.export, request.table)
        source = StoreSource(opened, predictor, request.task, request.table, export)
        return _score(request, source, store_origin(found, opened))


def _eval_folders(request: _Request, predictions: Path, ground_truth: Path) -> dict[str, Any]:
    source = FolderSource(predictions, ground_truth, request.task, request.table, request.workers)
    unmatched = describe_unmatched(source.missing, source.extra)
    if unmatched and not (request.allow_missing and len(source)):
        remedy = "; --allow-missing scores the others" if len(source) else ""
        error = DataError(f"{predictions}: {unmatched}{remedy}")
        error.details = {"missing": list(source.missing), "extra": list(source.extra)}
        raise error
    data = {"predictions": str(predictions), "ground_truth": str(ground_truth)}
    origin = {"checkpoint": None, "seed": None, "data": data}
    report = _score(request, source, origin, source.missing, source.extra)
    if unmatched:
        raise PartialError(f"{predictions}: left out {unmatched}", report)
    return report


def _score(
    request: _Request,
    source: SegSource,
    origin: Mapping[str, Any],
    missing: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> dict[str, Any]:
    task, table, total = request.task, request.table, len(source)
    scored = Scored(task, request.protocol, table, request.absent, origin, missing, extra)
    if request.dry_run:
        source.check()
        scores = total_scores([], task, table, request.absent)
        return {**make_report(scored, scores, total, None), "dry_run": True}
    images: dict[int, ScoredImage] = {}
    for index, image in source.scores(with_confusion=request.plots is not None):
        images[index] = image
        request.reporter.progress(Progress("evaluate segmentation", len(images), total, "image"))
    ordered = [images[index] for index in range(total)]
    scores = total_scores([image.counts for image in ordered], task, table, request.absent)
    if all(value is None for value in scores.metrics.values()):
        raise DataError(
            f"nothing to score: {total} images, and no class of {table.name} that is evaluated for "
            f"{task} in any of them"
        )
    if request.plots is not None:
        for path in draw_plots(source, ordered, task, table, request.plots):
            request.reporter.say(f"wrote {path}")
    sizes = {image.size for image in ordered}
    return make_report(scored, scores, total, sizes.pop() if len(sizes) == 1 else None)
