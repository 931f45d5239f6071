"""What a table of docs/results.md is made of: rows, the runs they need, columns to read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

STEERING = "finetune-steering"
"""The verb that tests what it trains."""


@dataclass(frozen=True)
class Row:
    """One line of a table: a preset, changed a little, trained once per seed.

    Attributes:
        label: What it is called.
        preset: Name of the preset.
        sets: Its changes, as of ``--set``.
        seeds: One training each.
        verb: What trains it.
        stages: The part of the preset's stages to train, as of ``--stages``.
        start: The row whose weights of the same seed (or its first) training begins with.
        teacher: The row whose network of the same seed (or its first) is the teacher.
        has_depth: Whether its network predicts depth, which is scored then.
        scored_by: What scores it, where that is not what scores its table: verb and options.
        world: Name in `WORLDS` of what it learns from, where that is not its table's.
        options: Further words for `verb`.
        against: A row that was tested on the same folds, with which it is compared by pairs.
    """

    label: str
    preset: str
    sets: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    verb: str = "train-student"
    stages: str | None = None
    start: Row | None = None
    teacher: Row | None = None
    has_depth: bool = True
    scored_by: tuple[str, ...] | None = None
    world: str | None = None
    options: tuple[str, ...] = ()
    against: Row | None = None


@dataclass(frozen=True)
class Column:
    """One figure of a report.

    Attributes:
        title: Head of the column.
        path: Keys that lead to the figure in the report of `scored_by` (or of the training, if that
            tests itself), or, after the name of a task, in that of `eval-seg`, joined by dots; of
            keys like ``{a,b}`` the mean is taken.
        over: Keys that lead to what the figure is divided by, if to anything.
        ranks: Whether the text below the table says which rows this column does not order.
    """

    title: str
    path: str
    ranks: bool = False
    over: str | None = None


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: Heading on the page.
        caption: What is measured, on what, how.
        world: Name in `WORLDS` of what its rows learn from and are scored on.
        rows: Its lines. Rows, of other tables too, that need the same run share it.
        columns: What to read from each report.
        scored_by: Verb that scores a row, or `STEERING`, whose training does.
        evaluation: Further options of it.
        tasks: Tasks of `eval-seg`.
        own_baselines: Baselines of the reports that are each network's own: no lines of the table.
        published: Other people's figures: label, and figure by column title.
    """

    title: str
    caption: str
    world: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    scored_by: str = "eval-depth"
    evaluation: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    own_baselines: tuple[str, ...] = ()
    published: dict[str, dict[str, str]] = field(default_factory=dict)

    def evaluations(self, row: Row) -> dict[str, tuple[str, ...]]:
        """Return the commands that score a row; their reports lie under the names of tasks."""
        if row.verb == STEERING:
            return {}
        words = row.scored_by or (self.scored_by, *self.evaluation)
        depth = {"": words} if row.has_depth else {}
        return {**depth, **{task: ("eval-seg", "--task", task) for task in self.tasks}}

    def worlds(self) -> list[str]:
        """Return the worlds of its rows, its own first."""
        return list(dict.fromkeys([self.world, *(row.world or self.world for row in self.rows)]))


_LONGEST_NAME = 220
"""Of a folder, before its seed; file systems end at 255."""


@dataclass(frozen=True)
class Run:
    """One training. Equal runs are one run, whichever rows and tables ask for it.

    `start` is the run whose weights it begins with, `teacher` the one that it is distilled from.
    """

    world: str
    preset: str
    sets: tuple[str, ...]
    seed: int
    verb: str = "train-student"
    stages: str | None = None
    start: Run | None = None
    teacher: Run | None = None
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of its folder."""
        parts = [self.preset, *self.sets]
        if self.stages is not None:
            parts.append(f"stages-{self.stages}")
        parts += ["-".join(word.lstrip("-") for word in self.options)] if self.options else []
        parts += [
            f"{word}-{hashlib.sha256(run.name.encode()).hexdigest()[:8]}"
            for word, run in (("from", self.start), ("taught-by", self.teacher))
            if run is not None
        ]
        name, seed = "--".join(plain_name(part) for part in parts), f"--seed-{self.seed}"
        if len(name) > _LONGEST_NAME:
            name = f"{name[:_LONGEST_NAME]}--{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        return name + seed

    @property
    def needs(self) -> tuple[Run, ...]:
        """The runs that come before it."""
        return tuple(run for run in (self.start, self.teacher) if run is not None)


def runs_of(table: Table, row: Row) -> list[Run]:
    """Return the runs of a row, one per seed."""
    return [_run_of(table, row, seed) for seed in row.seeds]


def _run_of(table: Table, row: Row, seed: int) -> Run:
    """Return the run of a row with a seed; it begins with that of the same seed, or the first."""
    needed = [
        other and _run_of(table, other, seed if seed in other.seeds else other.seeds[0])
        for other in (row.start, row.teacher)
    ]
    world = row.world or table.world
    return Run(world, row.preset, row.sets, seed, row.verb, row.stages, *needed, row.options)


def in_order(runs: Iterable[Run]) -> list[Run]:
    """Return runs and all that they need, each after what it needs, without repetition."""
    ordered: dict[Run, None] = {}

    def add(run: Run) -> None:
        for needed in run.needs:
            add(needed)
        ordered.setdefault(run)

    for run in runs:
        add(run)
    return sorted(ordered, key=_depth)


def _depth(run: Run) -> int:
    return 1 + max((_depth(needed) for needed in run.needs), default=0)


def plain_name(text: str) -> str:
    """Return a text without what does not belong in the name of a file."""
    return re.sub(r"[^\w.=,+-]+", "_", text)
