"""What a run knows of itself: counters, running means, warnings, and where its time went."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from unienc_core.contracts import Progress, Reporter
from unienc_core.training.history import History, Window
from unienc_core.training.monitor import CollapseMonitor
from unienc_core.training.step import StepResult

STEPS_PER_LINE = 10


@dataclass
class Clock:
    """Where the time of this process went, in seconds."""

    steps: int = 0
    total: float = 0.0
    waiting: float = 0.0

    def add(self, seconds: float, waited: float) -> None:
        """Count one step."""
        self.steps += 1
        self.total += seconds
        self.waiting += waited

    @property
    def step_seconds(self) -> float:
        """Mean seconds per step."""
        return self.total / max(1, self.steps)

    @property
    def wait_share(self) -> float:
        """Share of the time spent waiting for data."""
        return self.waiting / self.total if self.total else 0.0


@dataclass
class Counters:
    """Numbers that a checkpoint carries over.

    Attributes:
        step: Finished steps.
        loss: Mean total loss of the last line of the log.
        bad_steps: Steps thrown away so far.
        bad_in_a_row: Steps thrown away since the last one that was taken.
        seconds: Training time of all processes so far.
    """

    step: int = 0
    loss: float | None = None
    bad_steps: int = 0
    bad_in_a_row: int = 0
    seconds: float = 0.0


class Logbook:
    """Takes every step's outcome, writes a line every `STEPS_PER_LINE` steps.

    Args:
        total: Steps of the run.
        reporter: Told of progress and of what people should know.

    Attributes:
        counters: What is counted over the whole run.
        clock: Where the time of this process went.
        monitor: Watches for collapse.
        followers: Each is given every line of the log once it is written.
    """

    def __init__(self, total: int, reporter: Reporter) -> None:
        self.counters, self.clock, self.monitor = Counters(), Clock(), CollapseMonitor()
        self.followers: list[Callable[[Mapping[str, Any]], None]] = []
        self._total, self._reporter = total, reporter
        self._window, self._window_steps = Window(), 0
        self._line_clock = Clock()  # of this process: a window may have begun in another one

    def add(self, result: StepResult, seconds: float, waited: float) -> None:
        """Take one finished step.

        Args:
            result: Its outcome.
            seconds: How long it took.
            waited: Seconds of these spent waiting for data.
        """
        counters = self.counters
        counters.step += 1
        counters.seconds += seconds
        self._window_steps += 1
        for clock in (self.clock, self._line_clock):
            clock.add(seconds, waited)
        if result.taken:
            self._window.add(result.logs)
            counters.bad_in_a_row = 0
        else:
            counters.bad_steps += 1
            counters.bad_in_a_row += 1

    def write_line(self, history: History | None, stage: str, rate: float) -> None:
        """Write the means since the last line, if there is a file, and look at the vital signs."""
        means, counters = self._window.means(), self.counters
        warnings = self.monitor.update(means, self._window_steps, counters.step)
        line = {
            "step": counters.step,
            "stage": stage,
            **means,
            "lr": rate,
            "bad_steps": counters.bad_steps,
            "step_seconds": round(self._line_clock.step_seconds, 4),
            "wait_share": round(self._line_clock.wait_share, 4),
            "time": round(time.time(), 2),
            **({"warnings": warnings} if warnings else {}),
        }
        if history is not None:
            history.write(line)
        for follow in self.followers:
            follow(line)
        for warning in warnings:
            self._reporter.say(warning)
        counters.loss = means.get("loss/total", counters.loss)
        self._window.clear()
        self._window_steps, self._line_clock = 0, Clock()

    def report(self, stage: str, loss: float | None = None) -> None:
        """Report progress; rate and time left follow from it."""
        text = stage if loss is None else f"{stage}, loss {loss:.4f}"
        self._reporter.progress(Progress("train", self.counters.step, self._total, "step", text))

    def state(self) -> dict[str, Any]:
        """Return what the next process needs, JSON-able."""
        return {
            **vars(self.counters),
            "window": self._window.state(),
            "window_steps": self._window_steps,
            "monitor": self.monitor.state(),
        }

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Continue from what `state` returned."""
        self.counters = Counters(**{key: state[key] for key in vars(self.counters)})
        self._window.restore(state["window"], device)
        self._window_steps = state["window_steps"]
        self.monitor.restore(state["monitor"])
