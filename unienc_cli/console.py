"""What people and pipelines see: progress and remarks on stderr, one JSON document on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unienc_core.errors import PartialError

if TYPE_CHECKING:
    from unienc_core.contracts import Progress, Reporter

SCHEMA = 1
PLAIN_SECONDS = 5.0
MAX_LINE = 1000


@contextmanager
def reporting(quiet: bool) -> Iterator[Reporter]:
    """Yield a reporter: bars on a terminal, a plain line every few seconds elsewhere."""
    from unienc_core.contracts import Reporter

    if quiet:
        yield Reporter()
    elif sys.stderr.isatty():
        with _bars() as reporter:
            yield reporter
    else:
        yield Reporter(progress=_PlainProgress(), say=_say)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _bars() -> Iterator[Reporter]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    from unienc_core.contracts import Reporter

    console = Console(stderr=True)
    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
        console=console,
    )
    tasks: dict[str, Any] = {}
    started: dict[str, tuple[float, int]] = {}

    def show(progress: Progress) -> None:
        if progress.task not in tasks:
            started[progress.task] = (time.monotonic(), progress.done)
            tasks[progress.task] = bars.add_task(
                progress.task, total=progress.total, completed=progress.done, rate="", text=""
            )
        bars.update(
            tasks[progress.task],
            completed=progress.done,
            total=progress.total,
            rate=_rate(progress, *started[progress.task]),
            text=progress.text,
        )

    with bars:
        yield Reporter(progress=show, say=lambda line: console.print(line, highlight=False))


def _rate(report: Progress, began: float, first: int) -> str:
    seconds = time.monotonic() - began
    return f"{(report.done - first) / seconds:.1f} {report.unit}/s" if seconds > 0.5 else ""


class _PlainProgress:
    """Progress for log files: a line every few seconds, and one at the end of each task."""

    def __init__(self) -> None:
        self._began: dict[str, tuple[float, int]] = {}
        self._last: dict[str, float] = {}

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        began, first = self._began.setdefault(progress.task, (now, progress.done))
        finished = progress.total is not None and progress.done >= progress.total
        if not finished and now - self._last.setdefault(progress.task, began) < PLAIN_SECONDS:
            return
        self._last[progress.task] = now
        of = f"/{progress.total}" if progress.total is not None else ""
        parts = [
            f"{progress.task}: {progress.done}{of} {progress.unit}s",
            _rate(progress, began, first),
        ]
        if progress.total is not None and progress.done > first and not finished:
            left = (now - began) / (progress.done - first) * (progress.total - progress.done)
            parts.append(f"{_duration(left)} left")
        _say(", ".join(part for part in [*parts, progress.text] if part))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def emit(document: dict[str, Any], as_json: bool, text: str = "") -> None:
    """Print the result of a verb: the document as JSON, or `text` for people.

    Both go to stdout; everything else (progress, remarks, errors) goes to stderr.
    """
    print(json.dumps(document, allow_nan=False, default=str) if as_json else text, flush=True)


@contextmanager
def reported_when_partial(emit_report: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Emit the report that a partial success carries, then let it pass on to its exit code."""
    try:
        yield
    except PartialError as error:
        if error.report is not None:
            emit_report(error.report)
            error.reported = True
        raise


def one_line(text: str) -> str:
    """Make one printable line of any text, whatever names from outside stand in it.

    What cannot be printed (line ends, terminal codes, bytes that are no UTF-8) is written as an
    escape; of an endless line the beginning and the end are kept, where cause and remedy stand.
    """
    escaped = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
    if len(escaped) <= MAX_LINE:
        return escaped
    return f"{escaped[: MAX_LINE - 300]} ... {escaped[-290:]}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Lay out a plain table: first column left, the others right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
