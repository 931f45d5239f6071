"""Make one table of docs/results.md from presets.

Usage: python benchmarks/results.py TABLE [--jobs N]. Every step is a `unienc` command that resumes
or does nothing when repeated, so an interrupted table goes on where it was. Stores, runs, logs and
reports stay under runs/results/; a row that fails is reported and does not stop the others.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from results_page import Results, render, write
from results_rows import Run, Table, in_order, runs_of
from results_runs import StepError, Workshop, count_cores
from results_shared import WORLDS
from results_tables import TABLES

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "runs" / "results"
PAGE = ROOT / "docs" / "results.md"
UNIENC = (str(Path(sys.executable).with_name("unienc")),)

PARTIAL, INTERRUPTED = 4, 130


def main(
    arguments: Sequence[str] | None = None,
    *,
    tables: Mapping[str, Table] = TABLES,
    worlds: Mapping[str, tuple[str, ...]] = WORLDS,
    unienc: Sequence[str] = UNIENC,
    work: Path = WORK,
    page: Path = PAGE,
) -> int:
    """Make one table and return the exit code: 0, 1, 4 if a row failed, 130 if interrupted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("table", choices=sorted(tables))
    parser.add_argument(
        "--jobs",
        type=_positive,
        metavar="N",
        default=min(2, count_cores()),
        help="trainings side by side, one thread each (default: 2, on one core 1)",
    )
    options = parser.parse_args(arguments)
    table = tables[options.table]
    workshop = Workshop(work, unienc, options.jobs, say)
    try:
        for world in table.worlds():
            workshop.prepare(world, worlds[world], optional=world != table.world)
        results = collect(table, workshop, made_before(tables, options.table))
    except StepError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        return INTERRUPTED
    text = render(table, results)
    write(page, options.table, table.title, text)
    print(text)
    for name, reason in results.failures.items():
        say(f"failed: {name}: {reason}")
    return PARTIAL if results.failures else 0


def made_before(tables: Mapping[str, Table], name: str) -> set[Run]:
    """Return the runs of the tables that come before one."""
    earlier = itertools.takewhile(lambda other: other != name, tables)
    rows = ((tables[other], row) for other in earlier for row in tables[other].rows)
    return set(in_order(run for table, row in rows for run in runs_of(table, row)))


def collect(table: Table, workshop: Workshop, before: Collection[Run] = ()) -> Results:
    """Make all runs of a table and read what they gave.

    Args:
        table: The table.
        workshop: Where runs are made.
        before: Runs of other tables, whose time is not this one's.
    """
    runs = {row: runs_of(table, row) for row in table.rows}
    wanted: dict[Run, dict[str, tuple[str, ...]]] = {
        run: {} for run in in_order(run for made in runs.values() for run in made)
    }
    for row, made in runs.items():
        for run in made:
            wanted[run].update(table.evaluations(row))
    failed = workshop.make({run: commands.values() for run, commands in wanted.items()})
    sound = [run for run in wanted if run not in failed]
    own = [run for run in sound if run not in before]
    results = Results(
        rows=[
            (row, [report(workshop, run, table.evaluations(row)) for run in made if run in sound])
            for row, made in runs.items()
        ],
        failures={
            f"{row.label}, seed {run.seed}": failed[run]
            for row, made in runs.items()
            for run in made
            if run in failed
        },
        training=[workshop.training(run)["seconds"] for run in own],
        attempts=[attempt for run in own for attempt in workshop.attempts(run)],
        shared=len(sound) - len(own),
        trained_by={
            f"{row.label}, seed {run.seed}": workshop.code(run)
            for row, made in runs.items()
            for run in made
            if run in sound
        },
    )
    if sound:
        results.machine = workshop.machine(sound[-1])
    return results


def report(
    workshop: Workshop, run: Run, evaluations: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return the reports of a run as one: that without a name, and the others under theirs.

    What tests itself in training has no other report.
    """
    if not evaluations:
        return workshop.training(run)
    found = {name: workshop.report(run, words) for name, words in evaluations.items()}
    return {**found.pop("", {}), **found}


def say(line: str) -> None:
    """Tell people a line."""
    print(line, file=sys.stderr, flush=True)


def stop_politely() -> None:
    """Let SIGTERM and a closed terminal do what Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of 1 or more")
    return int(text)


if __name__ == "__main__":
    stop_politely()
    sys.exit(main())
