"""The result of a segmentation evaluation as one JSON-able document, and as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unienc_core.class_tables import ClassTable
from unienc_core.metrics.scores import Absent, Score, Scores
from unienc_core.workflows.depth_report import aligned
from unienc_core.workflows.origins import report_head
from unienc_core.workflows.seg_samples import Task

VERB = "eval-seg"
MOST_NAMED = 3
"""File names of a kind that a line for people lists at most."""

_COLUMNS: dict[Task, tuple[str, ...]] = {
    "panoptic": ("pq", "sq", "rq"),
    "instance": ("ap", "ap50"),
    "semantic": ("iou", "iiou"),
}
_MEANS: dict[Task, dict[str, tuple[str, ...]]] = {
    "panoptic": {
        "all": ("pq", "sq", "rq"),
        "things": ("pq_things", "sq_things", "rq_things"),
        "stuff": ("pq_stuff", "sq_stuff", "rq_stuff"),
    },
    "instance": {
        "all things": ("ap", "ap50"),
        "things as one class": ("ap_agnostic", "ap50_agnostic"),
    },
    "semantic": {
        "all classes": ("miou", "iiou"),
        "all categories": ("category_iou", "category_iiou"),
    },
}


@dataclass(frozen=True)
class Scored:
    """What was scored and how, whatever the outcome.

    Attributes:
        task: What was scored.
        protocol: Whose rules.
        table: The classes.
        absent: What absent classes count.
        origin: ``checkpoint``, ``seed`` and ``data``.
        missing: Pictures without a prediction.
        extra: Predictions of no picture.
    """

    task: Task
    protocol: str
    table: ClassTable
    absent: Absent
    origin: Mapping[str, Any]
    missing: Sequence[str] = ()
    extra: Sequence[str] = ()


def make_report(
    scored: Scored, scores: Scores, num_images: int, size: tuple[int, int] | None
) -> dict[str, Any]:
    """Return everything that made the numbers, and the numbers; shares lie in 0..1.

    Args:
        scored: What was scored and how.
        scores: What came out.
        num_images: Pictures that were scored.
        size: Their height and width; None if they differ.
    """
    return {
        **report_head(VERB, scored.protocol),
        "task": scored.task,
        "classes": scored.table.name,
        "absent": scored.absent,
        "num_images": num_images,
        "num_skipped": len(scored.missing),
        "size": None if size is None else list(size),
        **scored.origin,
        "metrics": scores.metrics,
        "per_class": scores.per_class,
        "missing": list(scored.missing),
        "extra": list(scored.extra),
    }


def format_report(report: Mapping[str, Any]) -> str:
    """Return the report as text: what made the numbers, then the table of the classes."""
    if report.get("dry_run"):
        return f"dry run: all inputs open; {report['num_images']} images would be scored"
    return "\n".join([*_heading(report), "", *aligned(format_table(report))])


def format_table(report: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of the table: a header, a row for each class, the means."""
    task: Task = report["task"]
    columns = _COLUMNS[task]
    rows = {
        name: [scores[column] for column in columns] for name, scores in report["per_class"].items()
    }
    means = {
        name: [report["metrics"][metric] for metric in metrics]
        for name, metrics in _MEANS[task].items()
    }
    cells = [[name, *map(_cell, scores)] for name, scores in rows.items()]
    totals = [[name, *map(_cell, scores)] for name, scores in means.items()]
    return [["", *columns], *cells, [""] * (len(columns) + 1), *totals]


def describe_unmatched(missing: Sequence[str], extra: Sequence[str]) -> str:
    """Return in one phrase which pictures and predictions have no partner."""
    parts = []
    if missing:
        parts.append(f"{_count(missing, 'picture')} without a prediction ({_some(missing)})")
    if extra:
        parts.append(f"{_count(extra, 'prediction')} of no picture ({_some(extra)})")
    return ", ".join(parts)


def _heading(report: Mapping[str, Any]) -> list[str]:
    data, size = report["data"], report["size"]
    if "store" in data:
        seed = "" if report["seed"] is None else f", seed {report['seed']}"
        what = [f"{report['checkpoint'] or 'a predictor'}{seed}", f"on {data['store']}"]
    else:
        what = [data["predictions"], f"on {data['ground_truth']}"]
    count = report["num_images"]
    images = f"{count} image{'' if count == 1 else 's'}"
    of = "of sizes that differ" if size is None else f"of {size[0]}x{size[1]}"
    absent = "left out of means" if report["absent"] == "skip" else "counted as 0"
    lines = [
        *what,
        f"{images} {of}, {report['task']}",
        f"protocol {report['protocol']}, classes {report['classes']}, absent classes {absent}",
    ]
    unmatched = describe_unmatched(report["missing"], report["extra"])
    return [*lines, f"left out: {unmatched}"] if unmatched else lines


def _cell(score: Score) -> str:
    return "-" if score is None else f"{score:.3f}"


def _count(names: Sequence[str], noun: str) -> str:
    return f"{len(names)} {noun}{'' if len(names) == 1 else 's'}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
