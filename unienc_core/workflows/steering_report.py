"""What cross-tested steering has to say: Table IV's figures, baselines, and each fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unienc_core.data.store import Store
from unienc_core.metrics.steering import fold_statistics, sign_test
from unienc_core.presets import Preset
from unienc_core.workflows.depth_report import aligned
from unienc_core.workflows.origins import report_head
from unienc_core.workflows.steering_scoring import Truth, label_of
from unienc_core.workflows.steering_versus import format_versus
from unienc_core.workflows.training_verbs import FINETUNE_STEERING


def make_report(
    preset: Preset,
    truth: Truth,
    results: Sequence[Mapping[str, Any]],
    stores: Sequence[Store],
    seed: int,
    folds: int,
    by: str,
) -> dict[str, Any]:
    """Return the figures over folds and those of each fold, JSON-able.

    Args:
        preset: What was trained.
        truth: Gives the unit.
        results: Of the folds that were done, see `run_fold`.
        stores: What it was trained and tested on.
        seed: Of all folds.
        folds: How many there are.
        by: What they are made of.

    Returns:
        ``{schema, verb, protocol, code, preset, seed, label, unit, num_folds, data, num_images,
        metrics, baselines, seconds, folds}``. ``metrics`` has ``train_mse``, ``validation_mse``,
        ``test_mse`` and ``test_mae``, each as `fold_statistics`; ``baselines`` the same of their
        test errors, with a sign test ``against`` it over folds: `lower` counts those in which the
        network has the lower error. ``seconds`` are those of training.
    """
    columns = {
        "train_mse": [r["train_mse"] for r in results],
        "validation_mse": [r["validation_mse"] for r in results],
        "test_mse": [r["test"]["steering_mse"] for r in results],
        "test_mae": [r["test"]["steering_mae"] for r in results],
    }
    names = list(dict.fromkeys(name for r in results for name in r["baselines"]))
    return {
        **report_head(FINETUNE_STEERING.name, protocol_of(by)),
        "preset": preset.name,
        "seed": seed,
        "label": label_of(preset),
        "unit": truth.unit,
        "num_folds": folds,
        "data": [{"store": str(s.path), "digest": s.digest} for s in stores],
        "num_images": sum(r["num_images"] for r in results),
        "metrics": {name: _statistics(column) for name, column in columns.items()},
        "baselines": {name: _baseline(name, results) for name in names},
        "seconds": sum(r["seconds"] for r in results),
        "folds": [dict(r) for r in results],
    }


def protocol_of(by: str) -> str:
    """Return what a report calls folds of recordings, or of blocks."""
    return f"folds of {by}"


def _baseline(name: str, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    errors = [r["baselines"].get(name, {}).get("steering_mse") for r in results]
    ours = [r["test"]["steering_mse"] for r in results]
    pairs = [a - b for a, b in zip(ours, errors, strict=True) if a is not None and b is not None]
    return {"test_mse": _statistics(errors), "against": sign_test(pairs)}


def _statistics(values: Sequence[float | None]) -> dict[str, float | None] | None:
    known = [value for value in values if value is not None]
    return fold_statistics(known) if known else None


def format_report(report: Mapping[str, Any]) -> str:
    """Return the report as text: mean +- std (ddof=0; ddof=1) and median, then each fold."""
    done, unit = len(report["folds"]), report["unit"]
    head = [
        f"{report['preset']} (seed {report['seed']}): {report['label']}, {done} of "
        f"{report['num_folds']} {report['protocol']}, {report['num_images']} images tested",
        f"mean squared errors in ({unit})^2, std over folds with ddof=0 and ddof=1",
    ]
    rows = [["", "mean", "std", "std1", "median", "lower in", "sign test"]]
    metrics = report["metrics"]
    rows += [["train", *_cells(metrics["train_mse"]), "", ""]]
    rows += [["test", *_cells(metrics["test_mse"]), "", ""]]
    for name, found in report["baselines"].items():
        against = found["against"]
        count = f"{against['lower']}/{against['lower'] + against['higher']}"
        cells = _cells(found["test_mse"])
        rows.append([name.replace("_", " "), *cells, count, f"p={against['p']:.2g}"])
    tail = [format_versus(report["versus"])] if "versus" in report else []
    tail.append(f"in {report['run']}")
    return "\n".join([*head, "", *aligned(rows), "", *aligned(_fold_rows(report)), "", *tail])


def _fold_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Return the table of the folds; with another run, how they differ from its."""
    baselines = list(report["baselines"])
    versus = {row["fold"]: row["difference"] for row in report.get("versus", {}).get("folds", [])}
    rows = [["fold", "step", "train", "validation", "test"]]
    rows[0] += ["less other"] * bool(versus) + [name.replace("_", " ") for name in baselines]
    for fold in report["folds"]:
        found = [fold["train_mse"], fold["validation_mse"], fold["test"]["steering_mse"]]
        found += [versus[fold["fold"]]] if versus else []
        found += [fold["baselines"].get(name, {}).get("steering_mse") for name in baselines]
        rows.append([str(fold["fold"]), str(fold["step"]), *map(_cell, found)])
    return rows


def _cells(found: Mapping[str, float | None] | None) -> list[str]:
    names = ("mean", "std", "std1", "median")
    return ["-"] * len(names) if found is None else [_cell(found[name]) for name in names]


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
