"""Train and evaluate what a table needs, side by side, each step a resumable `unienc` command."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results_rows import STEERING, Run, plain_name

from unienc_core.code_version import code_digest
from unienc_core.files import write_atomic

PROGRESS_SECONDS = 30.0


class StepError(Exception):
    """A command failed; the message says which, with its last words and its log."""


@dataclass(frozen=True)
class Attempt:
    """When a training or evaluation ran, and on what."""

    start: float
    end: float
    jobs: int
    cores: int


def count_cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass
class Workshop:
    """Where runs are made.

    Every training has one thread, so that its result does not depend on how many run side by
    side; two of them get nearly twice as far as one with two threads.

    Attributes:
        folder: Holds a folder per world: its store, the ``grids`` that resting encoders make of
            it, and per run ``run/`` (the run folder), ``log.txt``, ``attempts.jsonl`` and the
            reports of the evaluations.
        unienc: The command line's first words.
        jobs: Trainings side by side.
        say: Takes lines for people.
    """

    folder: Path
    unienc: Sequence[str]
    jobs: int
    say: Callable[[str], None]
    cores: int = field(default_factory=count_cores)

    def __post_init__(self) -> None:
        """Start with nothing at work."""
        self._lock = threading.Lock()
        self._at_work: dict[Run | str, subprocess.Popen[bytes]] = {}
        self._stopped = False
        self._missing: dict[str, str] = {}

    def prepare(self, world: str, words: Sequence[str], *, optional: bool = False) -> None:
        """Make the store of a world, or go on with it.

        Args:
            world: Its name.
            words: Those that follow ``prepare-data``, without ``--out``.
            optional: Not to raise; runs in this world fail then.

        Raises:
            StepError: If that fails and is not optional: nothing can be trained then.
        """
        log = self.folder / world / "log.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        self.say(f"preparing '{world}' unless it is there")
        try:
            self._command(world, ["prepare-data", *words, "--out", str(self.store(world))], log)
        except StepError as error:
            if not optional:
                raise
            self._missing[world] = str(error)

    def make(self, runs: Mapping[Run, Iterable[Sequence[str]]]) -> dict[Run, str]:
        """Train all runs, and evaluate each by the commands that it is given.

        Args:
            runs: With their evaluations, and all that they need among them; of those that can
                begin, the first begins first.

        Returns:
            What went wrong, by run. One may fail alone.

        Raises:
            KeyboardInterrupt: When interrupted, after the commands at work have saved and ended.
        """
        waiting = list(runs)
        settled: set[Run] = set()
        failures: dict[Run, str] = {}
        pool = ThreadPoolExecutor(self.jobs)
        pending: dict[Future[None], Run] = {}
        try:
            while waiting or pending:
                for run in [run for run in waiting if settled.issuperset(run.needs)]:
                    waiting.remove(run)
                    pending[pool.submit(self._make_one, run, runs[run], failures)] = run
                done, _ = wait(pending, PROGRESS_SECONDS, FIRST_COMPLETED)
                for future in done:
                    run, error = pending.pop(future), future.exception()
                    settled.add(run)
                    if error is not None:
                        failures[run] = str(error)
                    outcome = "done" if error is None else f"FAILED: {error}"
                    self.say(f"[{len(settled)}/{len(runs)}] {run.name}: {outcome}")
                if not done:
                    self._say_progress()
        except KeyboardInterrupt:
            self._stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        return failures

    def store(self, world: str) -> Path:
        """Return the folder of a world's stores."""
        return self.folder / world / "store"

    def report_path(self, run: Run, evaluation: Sequence[str]) -> Path:
        """Return where the report of an evaluation (verb and options) lies."""
        name = plain_name("".join(evaluation))
        return self._place(run) / f"{name}.json"

    def report(self, run: Run, evaluation: Sequence[str]) -> dict[str, Any]:
        """Read the report of an evaluation."""
        return json.loads(self.report_path(run, evaluation).read_text(encoding="utf-8"))

    def training(self, run: Run) -> dict[str, Any]:
        """Read what the training of a finished run reported."""
        return json.loads(self._training(run).read_text(encoding="utf-8"))

    def machine(self, run: Run) -> str:
        """Return what a run was made on: processor, GPU if it had one, version of torch."""
        found = self._environment(run)
        gpu = [] if found["device"] == "cpu" else [found["device"]]
        return ", ".join([found["cpu"], *gpu, f"torch {found['torch']}"])

    def code(self, run: Run) -> str:
        """Return the digest of the code that trained a run."""
        return self._environment(run).get("code", "unrecorded")

    def attempts(self, run: Run) -> list[Attempt]:
        """Read when its commands ran."""
        path = self._place(run) / "attempts.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [Attempt(**json.loads(line)) for line in lines]

    def _make_one(
        self, run: Run, evaluations: Iterable[Sequence[str]], failed: Collection[Run]
    ) -> None:
        if run.world in self._missing:
            raise StepError(self._missing[run.world])
        if not set(run.needs).isdisjoint(failed):
            raise StepError("a run that it needs failed")
        place, store = self._place(run), self.store(run.world)
        place.mkdir(parents=True, exist_ok=True)
        # Unless cores are left over, a loading process only takes time from its training.
        workers = min(2, max(0, self.cores - self.jobs) // self.jobs)
        sets = [word for override in run.sets for word in ("--set", override)]
        train = [
            *(run.verb, str(store), "--preset", run.preset, *sets),
            *("--seed", str(run.seed), "--threads", "1", "--workers", str(workers)),
            *("--out", str(place / "run"), "--json", *run.options),
        ]
        train += [] if run.stages is None else ["--stages", run.stages]
        train += ["--grids", str(self.folder / run.world / "grids")] if run.verb == STEERING else []
        for option, needed in (("--init", run.start), ("--teacher", run.teacher)):
            train += [] if needed is None else [option, str(self._place(needed) / "run")]
        # Repeated even if finished: it says so where the preset or the store has changed since.
        said = self._attempt(run, train, counts=not self._is_finished(run))
        if not self._is_finished(run):
            write_atomic(self._training(run), said)
        for evaluation in evaluations:
            if self._is_current(run, evaluation):
                continue
            verb, *options = evaluation
            words = [verb, str(store), "--checkpoint", str(place / "run"), *options]
            found = self._attempt(run, [*words, "--threads", "1", "--json"], counts=True)
            write_atomic(self.report_path(run, evaluation), found)

    def _attempt(self, run: Run, words: Sequence[str], *, counts: bool) -> bytes:
        start = time.time()
        try:
            return self._command(run, words, self._place(run) / "log.txt")
        finally:
            if counts:
                line = json.dumps(vars(Attempt(start, time.time(), self.jobs, self.cores)))
                with (self._place(run) / "attempts.jsonl").open("a", encoding="utf-8") as file:
                    file.write(f"{line}\n")

    def _command(self, key: Run | str, words: Sequence[str], log: Path) -> bytes:
        """Run a command and return its stdout; the rest of what it says goes into `log`."""
        with log.open("ab") as file:
            file.write(f"$ unienc {' '.join(words)}\n".encode())
            file.flush()
            with self._lock:
                if self._stopped:
                    raise StepError("interrupted before it began")
                # A session of its own: what interrupts us reaches it once, through `_stop`.
                process = subprocess.Popen(
                    [*self.unienc, *words],
                    stdout=subprocess.PIPE,
                    stderr=file,
                    start_new_session=True,
                )
                self._at_work[key] = process
            try:
                output, _ = process.communicate()
            except KeyboardInterrupt:
                self._stop()
                process.wait()
                raise
            finally:
                with self._lock:
                    del self._at_work[key]
        if process.returncode:
            said = last_line(log) or "no word"
            raise StepError(f"{words[0]} ended with {process.returncode} ({said}); see {log}")
        return output

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._at_work.values():
                process.terminate()

    def _say_progress(self) -> None:
        with self._lock:
            at_work = [key for key in self._at_work if isinstance(key, Run)]
        for run in at_work:
            line = last_line(self._place(run) / "log.txt")
            if line:
                self.say(f"  {run.name}: {line}")

    def _place(self, run: Run) -> Path:
        return self.folder / run.world / run.name

    def _record(self, run: Run) -> Path:
        name = "steering.json" if run.verb == STEERING else "run.json"
        return self._place(run) / "run" / name

    def _environment(self, run: Run) -> dict[str, Any]:
        folds = "fold-0" if run.verb == STEERING else ""
        path = self._place(run) / "run" / folds / "environment.json"
        return json.loads(path.read_text(encoding="utf-8"))

    def _is_current(self, run: Run, evaluation: Sequence[str]) -> bool:
        """Say whether a report is of this training and made by the code as it is now."""
        report, record = self.report_path(run, evaluation), self._record(run)
        if not report.exists() or report.stat().st_mtime < record.stat().st_mtime:
            return False
        return self.report(run, evaluation).get("code") == code_digest()

    def _training(self, run: Run) -> Path:
        return self._place(run) / "training.json"

    def _is_finished(self, run: Run) -> bool:
        """Say whether its training, or the part of it that is wanted, has ended."""
        report, record = self._training(run), self._record(run)
        return (
            report.exists() and record.exists() and report.stat().st_mtime >= record.stat().st_mtime
        )


def last_line(log: Path) -> str:
    """Return the last line of a log that says anything."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
