"""A table as Markdown, and docs/results.md, which holds it between two markers."""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results_rows import Column, Row, Table
from results_runs import Attempt
from scipy import stats

from unienc_core.files import write_atomic
from unienc_core.metrics.steering import sign_test

RISK = 0.05
"""Chance that a table of equal rows calls any two of them different, in any column that ranks."""

NOT_COMPARABLE = "other data: not comparable"


@dataclass
class Results:
    """What was made for a table.

    Attributes:
        rows: Reports of each row's runs that succeeded.
        failures: What went wrong, by row label and seed.
        training: Seconds of each training.
        attempts: When commands ran.
        shared: How many trainings it has besides from tables before it; their time is not counted.
        machine: What it ran on.
        trained_by: Digest of the code of each training, by row label and seed.
    """

    rows: list[tuple[Row, list[dict[str, Any]]]]
    failures: dict[str, str] = field(default_factory=dict)
    training: list[float] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    shared: int = 0
    machine: str = ""
    trained_by: dict[str, str] = field(default_factory=dict)


def render(table: Table, results: Results) -> str:
    """Return the table as Markdown, and below it what made it and what it cannot tell."""
    header = ["", "seeds", *(column.title for column in table.columns)]
    lines = [header, ["---"] * len(header)]
    for row, reports in results.rows:
        count = len(row.seeds)
        seeds = str(count) if len(reports) == count else f"{len(reports)} of {count}"
        figures = [cell(_figures(reports, column)) for column in table.columns]
        lines.append([row.label, seeds, *figures])
    reports = [report for _, made in results.rows for report in made]
    lines += _baseline_lines(table, reports)
    for label, figures in table.published.items():
        cells = [figures.get(column.title, "") for column in table.columns]
        lines.append([f"{label} ({NOT_COMPARABLE})", "", *cells])
    below = [
        *_what(reports, any(len(made) > 1 for _, made in results.rows)),
        paired(results.rows),
        ordering(table, results.rows),
        wall_time(results),
        code(results),
    ]
    if results.failures:
        below.append(f"Failed, and missing here: {'; '.join(results.failures)}.")
    body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([table.caption, "", *body, "", *filter(None, below)])


def cell(values: Sequence[float]) -> str:
    """Return the mean and, of several values, the standard deviation; a count as it is."""
    if not values:
        return "-"
    if len(values) == 1 and isinstance(values[0], int):
        return str(values[0])
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def ordering(table: Table, rows: Sequence[tuple[Row, list[dict[str, Any]]]]) -> str:
    """Say which rows the seeds do not tell apart, for every column that ranks.

    Two rows are told apart by Student's t-test of their means, two-sided, the variance of the
    seeds pooled over the two, at `RISK` shared equally by all comparisons of the table.
    """
    ranking = [column for column in table.columns if column.ranks]
    several = [entry for entry in rows if len(entry[1]) > 1]
    pairs = {column: _comparable(several, column) for column in ranking}
    count = sum(len(compared) for compared in pairs.values())
    ties: list[str] = []
    for column, compared in pairs.items():
        tied = [
            f"{a.label} and {b.label}"
            for (a, of_a), (b, of_b) in compared
            if not told_apart(of_a, of_b, count)
        ]
        if tied:
            ties.append(f"{column.title}: {', '.join(tied)}")
    test = f"t-test, {RISK:.0%} over {count} comparison{'s' if count > 1 else ''}"
    sentences: list[str] = []
    if ties:
        sentences.append(f"Not ordered by these runs ({test}): {'; '.join(ties)}.")
    elif count:
        titles = ", ".join(column.title for column in ranking)
        sentences.append(f"Rows with several seeds differ ({test}) in {titles}.")
    alone = [row.label for row, reports in rows if len(reports) == 1]
    if ranking and alone and len(rows) > 1:
        sentences.append(f"One seed, so not ordered by these runs: {', '.join(alone)}.")
    return " ".join(sentences)


def _comparable(
    rows: Sequence[tuple[Row, list[dict[str, Any]]]], column: Column
) -> list[tuple[tuple[Row, list[float]], tuple[Row, list[float]]]]:
    """Return all pairs of rows that have figures in a column, with these."""
    figures = [(row, _figures(reports, column)) for row, reports in rows]
    return list(itertools.combinations([entry for entry in figures if entry[1]], 2))


def told_apart(x: Sequence[float], y: Sequence[float], comparisons: int = 1) -> bool:
    """Say whether the means of two samples differ by more than their seeds explain.

    Args:
        x: Figures of one row's seeds.
        y: Of the other's.
        comparisons: How many are made, so that one of them by chance is as rare as `RISK`.
    """
    if min(len(x), len(y)) < 2:
        return False
    freedom = len(x) + len(y) - 2
    squares = (len(x) - 1) * statistics.variance(x) + (len(y) - 1) * statistics.variance(y)
    error = math.sqrt(squares / freedom * (1 / len(x) + 1 / len(y)))
    bound = float(stats.t.ppf(1 - RISK / (2 * comparisons), freedom))
    return abs(statistics.fmean(x) - statistics.fmean(y)) > bound * error


def wall_time(results: Results) -> str:
    """Say what the table cost: the runs' own times, the time of all, and the cores."""
    if not results.training or not results.attempts:
        return ""
    shortest, longest = (duration(pick(results.training)) for pick in (min, max))
    each = shortest if shortest == longest else f"{shortest} to {longest}"
    last = max(results.attempts, key=lambda attempt: attempt.end)
    count = len(results.training)
    saved = f" {results.shared} more are those of tables above." if results.shared else ""
    return (
        f"{count} training{'s' if count > 1 else ''} of {each}, one thread each, {last.jobs} side "
        f"by side on {last.cores} cores ({results.machine}): {duration(busy(results.attempts))} of "
        f"wall time with the evaluations.{saved}"
    )


def code(results: Results) -> str:
    """Say which code trained; several versions in one table are named with their rows."""
    digests: dict[str, list[str]] = {}
    for name, digest in results.trained_by.items():
        digests.setdefault(digest, []).append(name)
    if len(digests) < 2:
        return "".join(f"Code {digest}." for digest in digests)
    parts = (f"{digest} ({'; '.join(names)})" for digest, names in digests.items())
    return f"Trained by different code: {', '.join(parts)}."


def busy(attempts: Iterable[Attempt]) -> float:
    """Return the seconds in which at least one command ran."""
    seconds, until = 0.0, -math.inf
    for attempt in sorted(attempts, key=lambda attempt: attempt.start):
        seconds += max(0.0, attempt.end - max(attempt.start, until))
        until = max(until, attempt.end)
    return seconds


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _what(reports: Sequence[Mapping[str, Any]], has_seeds: bool) -> list[str]:
    if not reports:
        return []
    pose = reports[0].get("pose")
    counts = [_images(report) for report in reports]
    images = " to ".join(str(n) for n in sorted({min(counts), max(counts)}))
    pairs = f", {pose['num_pairs']} pairs, {pose['num_snippets']} snippets" if pose else ""
    spread = "; ± is the standard deviation over seeds" if has_seeds else ""
    return [f"{images} images{pairs}{spread}."]


def _images(report: Mapping[str, Any]) -> int:
    return next(x["num_images"] for x in (report, *report.values()) if "num_images" in x)


def paired(rows: Sequence[tuple[Row, list[dict[str, Any]]]]) -> str:
    """Compare rows by pairs of folds: in how many the error is lower, and a sign test of it."""
    first = {row: made[0] for row, made in rows if made}
    sentences: list[str] = []
    for row, report in first.items():
        if row.against not in first:
            continue
        ours, theirs = (
            [fold["test"]["steering_mse"] for fold in tested["folds"]]
            for tested in (report, first[row.against])
        )
        found = sign_test([a - b for a, b in zip(ours, theirs, strict=True)])
        sentences.append(
            f"{row.label} has {statistics.fmean(ours) / statistics.fmean(theirs):.2f} times the "
            f"error of {row.against.label}, a lower one in {found['lower']} of "
            f"{found['lower'] + found['higher']} folds (sign test, p = {found['p']:.2g})"
        )
    return f"By pairs: {'; '.join(sentences)}." if sentences else ""


def _figures(reports: Sequence[Mapping[str, Any]], column: Column) -> list[float]:
    values = [_look_up(report, column.path) for report in reports]
    if column.over is not None:
        below = [_look_up(report, column.over) for report in reports]
        values = [
            a / b if a is not None and b else None for a, b in zip(values, below, strict=True)
        ]
    return [value for value in values if value is not None]


def _look_up(report: Mapping[str, Any], path: str) -> float | None:
    several = re.search(r"\{(.*?)\}", path)
    if several:
        paths = [path.replace(several[0], key) for key in several[1].split(",")]
        found = [value for each in paths if (value := _look_up(report, each)) is not None]
        return statistics.fmean(found) if found else None
    value: Any = report
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _baseline_lines(table: Table, reports: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return a line for every baseline, of depth, motion or pose; it fills the columns it can.

    Each is that of the first report that has a figure for one of them.
    """
    lines: dict[str, list[str]] = {}
    for report in reports:
        found = {
            name: {"metrics": figures} for name, figures in report.get("baselines", {}).items()
        }
        pose = report.get("pose") or {}
        found |= {name: {"pose": figures} for name, figures in pose.get("baselines", {}).items()}
        for name in [n for n in found if n not in {*lines, *table.own_baselines}]:
            figures = [_look_up(found[name], column.path) for column in table.columns]
            if any(figure is not None for figure in figures):
                cells = ["" if figure is None else f"{figure:.3f}" for figure in figures]
                lines[name] = [f"baseline: {name.replace('_', ' ')}", "", *cells]
    return list(lines.values())


def write(page: Path, name: str, title: str, text: str) -> None:
    """Put a table between its markers on the page; the first time, under a heading at its end."""
    content = page.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.S)
    if not pattern.search(content):
        content = f"{content.rstrip()}\n\n## {title}\n\n{begin}\n{end}\n"
    changed = pattern.sub(lambda _: f"{begin}\n{text}\n{end}", content)
    write_atomic(page, changed.encode())
