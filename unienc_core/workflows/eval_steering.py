"""`eval-steering`: score a checkpoint on a store, or anyone's predictions in a CSV."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from unienc_core.checkpoint import Checkpoint
from unienc_core.contracts import Reporter
from unienc_core.data.sets.tables import Table, read_table
from unienc_core.data.steering import steering_keys
from unienc_core.data.store import Store, is_store, resolve_store
from unienc_core.device import resolve_device, resource_errors
from unienc_core.errors import DataError, IntegrityError, UsageError
from unienc_core.trained import trained_network
from unienc_core.workflows.depth_plots import check_plots, plot_paths
from unienc_core.workflows.depth_report import aligned
from unienc_core.workflows.origins import open_scored, open_scorer, report_head, store_origin
from unienc_core.workflows.steering_plots import PLOTS, plot_predictions
from unienc_core.workflows.steering_scoring import (
    Predicted,
    Truth,
    drive_places,
    label_of,
    predict,
    windows,
)

METRICS = ("steering_mse", "steering_mae")
COLUMNS = (("frame", "value"), ("drive", "frame", "value"))


def eval_steering(
    store: Path,
    *,
    checkpoint: Path | None = None,
    predictions: Path | None = None,
    label: str | None = None,
    train_store: Path | None = None,
    stride: int | None = None,
    plots: Path | None = None,
    device: str = "auto",
    force: bool = False,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Score steering, with baselines beside it, and return the report.

    Args:
        store: Store with the label, or a folder of stores, whose `val` is taken.
        checkpoint: With a steering head; `find_checkpoint` says where it is looked for by default.
        predictions: CSV in its place, with or without header; see `read_predictions`.
        label: What `predictions` are about; default: the usual one of the store.
        train_store: Store whose mean label is a baseline; default: `train` beside `store`.
        stride: Frames from one window to the next; default: its length.
        plots: Folder for a picture of what was predicted along time.
        device: Where the network runs.
        force: Replace an older picture.
        dry_run: Open everything, score nothing.
        reporter: Takes progress and remarks.

    Returns:
        ``{schema, verb, protocol, code, num_images, num_skipped, size, checkpoint, seed, data,
        label, unit, metrics, baselines}``; `num_skipped` counts known labels of which nothing was
        predicted. A dry run adds ``dry_run`` and counts what would be scored.

    Raises:
        UsageError: If the request makes no sense, no checkpoint is to be found, or a picture is to
            be replaced without `force`.
        DataError: If an input is missing or wrong, or nothing can be scored.
        IntegrityError: If the checkpoint is damaged or predicts NaN.
    """
    reporter = reporter or Reporter()
    if predictions is not None and (checkpoint is not None or stride is not None):
        raise UsageError("--predictions are scored as they are: leave --checkpoint, --stride out")
    if predictions is None and label is not None:
        raise UsageError("--label is about --predictions; a checkpoint says what it predicts")
    with closing(open_scored(store, reporter)) as opened:
        if plots is not None:
            check_plots(plots, force, PLOTS)
        found, size = None, None
        if predictions is not None:
            protocol, key = "every prediction", _chosen(opened, label)
            truth = Truth([opened], key)
            made = read_predictions(predictions, truth)
        else:
            found = open_scorer(checkpoint, reporter)
            key, size = label_of(found.preset), found.preset.image_size
            truth = Truth([opened], key)
            made, every = _predict(found, opened, stride, device, dry_run, reporter)
            protocol = f"windows every {every} frames"
        report: dict[str, Any] = {**report_head("eval-steering", protocol), "num_images": 0}
        scored = int(np.isfinite(truth.at(made)).sum())
        known = sum(int(np.isfinite(labels).sum()) for labels in truth.labels)
        report |= {"num_images": scored, "num_skipped": known - scored}
        report |= {"size": size and list(size), **store_origin(found, opened)}
        if predictions is not None:
            report["data"]["predictions"] = str(predictions)
        report |= {"label": key, "unit": truth.unit}
        training = _training_labels(train_store, opened, key, reporter)
        if dry_run:
            return {**report, "dry_run": True}
        if not scored:
            raise DataError(f"{opened.path}: nothing that was predicted has a known {key}")
        baselines = truth.baselines(made, training)
        if plots is not None:
            path = plot_paths(plots, PLOTS)[PLOTS[0]]
            shown = None if found is None else truth.everything()
            plot_predictions(path, made, truth, shown, f"{key} of {opened.path.name}", baselines)
            reporter.say(f"wrote {path}")
        return {**report, "metrics": truth.errors(made), "baselines": baselines}


def _predict(
    found: Checkpoint,
    opened: Store,
    stride: int | None,
    device: str,
    dry_run: bool,
    reporter: Reporter,
) -> tuple[Predicted, int]:
    """Return what a checkpoint predicts, and the frames from one window to the next."""
    with resource_errors("scoring steering"):
        dataset = windows(found.preset, [opened], stride=stride)
        network = trained_network(found).to(resolve_device(device))
        made = Predicted(*(np.empty(0, np.int64),) * 3)
        if not dry_run:
            places, label = drive_places([opened]), label_of(found.preset)
            made = predict(network, dataset, label, places, reporter.progress)
    if not np.isfinite(made.values).all():
        raise IntegrityError(f"{found.path}: predicts what is not finite")
    return made, dataset.stream.stride


def read_predictions(path: Path, truth: Truth) -> Predicted:
    """Read predictions: rows of frame and value, or of drive, frame and value.

    Columns go by their names where there is a header (others are passed over), else by their order.
    A drive goes by its name; where there is but one, it may be left out.

    Raises:
        DataError: If a row is of no frame, is there twice, or has no finite value.
    """
    table = read_table(path, COLUMNS)
    header = table.header or ()
    lacking = [name for name in COLUMNS[0] if name not in header]
    if lacking:
        found = ", ".join(header) or f"{table.width} columns"
        raise DataError(f"{path}: expected columns frame,value or drive,frame,value, found {found}")
    drives = _drives(table, truth)
    frames, values = table.numbers("frame"), table.numbers("value")
    seen: set[tuple[int, float]] = set()
    for row, (drive, frame, value) in enumerate(zip(drives, frames, values, strict=True)):
        count = len(truth.labels[drive])
        if not (0 <= frame < count and frame == int(frame)):
            raise table.fault(
                row, f"frame {frame:g} of drive {truth.names[drive]}, which has 0 to {count - 1}"
            )
        if (drive, frame) in seen:
            raise table.fault(row, f"drive {truth.names[drive]} frame {frame:g} a second time")
        seen.add((drive, frame))
        if not np.isfinite(value):
            raise table.fault(row, "a value that is not finite, expected a number")
    return Predicted(np.array(drives), frames.astype(np.int64), values)


def _drives(table: Table, truth: Truth) -> list[int]:
    """Return the number of the drive of each row."""
    if "drive" not in (table.header or ()):
        if len(truth.names) > 1:
            raise DataError(
                f"{table.path}: the store has {len(truth.names)} drives, so predictions need a "
                "column drive with their names"
            )
        return [0] * len(table.rows)
    numbers = {name: number for number, name in enumerate(truth.names)}
    cells = table.text("drive")
    for row, cell in enumerate(cells):
        if cell not in numbers:
            raise table.fault(row, f"no drive '{cell}' in the store; it has {truth.names[0]}, ...")
    return [numbers[cell] for cell in cells]


def _chosen(store: Store, label: str | None) -> str:
    keys = steering_keys(store.keys)
    if not keys:
        raise DataError(f"{store.path}: holds no steering label; it holds {', '.join(store.keys)}")
    return label or keys[0]


def _training_labels(
    named: Path | None, scored: Store, label: str, reporter: Reporter
) -> np.ndarray:
    """Return the known labels of the training store; none without one."""
    beside = scored.path.resolve().parent / "train"
    if named is None and (beside == scored.path.resolve() or not is_store(beside)):
        reporter.say("no --train-store and no 'train' beside the store: no baseline train_mean")
        return np.empty(0)
    with closing(Store(resolve_store(named or beside, "train"))) as store:
        labels = np.concatenate(Truth([store], label).labels)
    return labels[np.isfinite(labels)]


def format_report(report: Mapping[str, Any]) -> str:
    """Return the report as text: what made the numbers, then the table."""
    if report.get("dry_run"):
        return "dry run: all inputs open"
    data, skipped = report["data"], report["num_skipped"]
    what = data.get("predictions") or report["checkpoint"]
    rows = [["", *METRICS, "images"]]
    rows.append(["model", *_cells(report["metrics"]), str(report["num_images"])])
    rows += [
        [name.replace("_", " "), *_cells(found), str(found["num_images"])]
        for name, found in report["baselines"].items()
    ]
    head = [
        str(what),
        f"on {data['store']}",
        f"{report['label']} in {report['unit']}, {report['protocol']}: {report['num_images']} "
        f"values scored, {skipped} known labels without",
    ]
    return "\n".join([*head, "", *aligned(rows)])


def _cells(found: Mapping[str, Any]) -> list[str]:
    return ["-" if found[name] is None else f"{found[name]:.4g}" for name in METRICS]
