"""Weights chosen by validation: scored every so many steps, the best kept beside the last."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

from torch import nn

from unienc_core.checkpoint import (
    Checkpoint,
    list_checkpoints,
    newest_checkpoint,
    remove_checkpoints,
    save_checkpoint,
)
from unienc_core.contracts import Say, say_nothing
from unienc_core.data.folds import Span
from unienc_core.data.grid_cache import GridCache
from unienc_core.errors import UsageError
from unienc_core.presets import Preset
from unienc_core.training.history import History, read_log
from unienc_core.training.logbook import STEPS_PER_LINE
from unienc_core.training.run_dir import RunFolder
from unienc_core.training.run_record import CHECKPOINTS


@dataclass(frozen=True)
class Holdout:
    """What a run trains on where that is not all, and what its weights are chosen by.

    Attributes:
        train: The frames to learn from, drives counted through all stores in order.
        validation: The frames that decide which weights are kept.
        every: Steps from one validation to the next.
        caches: Of each store the grids of its frames; none for images.

    Raises:
        UsageError: If a validation would fall between two lines of the log.
    """

    train: tuple[Span, ...]
    validation: tuple[Span, ...]
    every: int
    caches: tuple[GridCache, ...] = ()

    def __post_init__(self) -> None:
        """Check the steps."""
        if self.every < 1 or self.every % STEPS_PER_LINE:
            raise UsageError(
                f"a validation every {self.every} steps, expected a multiple of {STEPS_PER_LINE}: "
                "the training error beside it is the mean of whole lines of the log"
            )

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides the outcome; grids stand for their images."""
        spans = {"train": self.train, "validation": self.validation}
        plain = {name: [asdict(span) for span in part] for name, part in spans.items()}
        return hashlib.sha256(json.dumps([plain, self.every]).encode()).hexdigest()


class Validation:
    """Scores the network at some steps, logs that, and keeps the weights of the least error.

    A step scored again after a kill has the same weights and the same error, so that the best is
    the same whenever the run was stopped: one kept from beyond the step to resume from included.

    Args:
        network: Whose weights are kept: that which is trained, or its average.
        preset: Its preset.
        folder: Of the run.
        score: Returns the error of the network as it is; it leaves no trace in it.
        every: Steps from one validation to the next; there is one at the end, too.
        logged: The error's name in the log of training.
        say: Told of each validation.
    """

    def __init__(
        self,
        network: nn.Module,
        preset: Preset,
        folder: RunFolder,
        score: Callable[[], float],
        *,
        every: int,
        logged: str,
        say: Say = say_nothing,
    ) -> None:
        self._network, self._preset, self._folder, self._score = network, preset, folder, score
        self._every, self._logged, self._say = every, logged, say
        kept = best_checkpoint(folder, say)
        self._least = math.inf if kept is None else float(kept.state["validation"])

    def catch_up(self, step: int) -> None:
        """Score the weights that a run resumes from, if it was killed before it could."""
        log = self._folder.validation
        if not log.exists() or all(line["step"] != step for line in read_log(log)):
            self(step)

    def __call__(self, step: int) -> None:
        """Score the weights after a step, if it is time to."""
        if step == 0 or (step % self._every and step != self._preset.total_steps):
            return
        error = self._score()
        error = error if math.isfinite(error) else math.inf
        line = {
            "step": step,
            "stage": "validation",
            "validation": error,
            "train": self._train(step),
        }
        if error < self._least:
            self._keep(line)
            self._least = error
        with History(self._folder.validation, step - 1) as history:
            history.write(line)
            history.sync()
        self._say(f"step {step}: validation {error:.4g}, best so far {self._least:.4g}")

    def _train(self, step: int) -> float | None:
        """Return the mean training error since the validation before, weights moving."""
        first = (step - 1) // self._every * self._every
        lines = [line for line in read_log(self._folder.metrics) if line["step"] <= step]
        before = [0, *(line["step"] for line in lines)]
        parts = [
            (line[self._logged], line["step"] - begin)
            for begin, line in zip(before, lines, strict=False)
            if line["step"] > first and line.get(self._logged) is not None
        ]
        steps = sum(count for _, count in parts)
        return sum(mean * count for mean, count in parts) / steps if steps else None

    def _keep(self, line: dict[str, object]) -> None:
        folder = self._folder.best / CHECKPOINTS
        older = list_checkpoints(folder)
        # A run gone on with elsewhere may better a step that lies there already.
        remove_checkpoints([path for path in older if path.name == f"step-{line['step']:07d}"])
        new = save_checkpoint(
            folder,
            preset=self._preset,
            model=self._network.state_dict(),
            optimizer={},
            state=line,
        )
        remove_checkpoints([path for path in list_checkpoints(folder) if path != new])


def best_checkpoint(folder: RunFolder, say: Say = say_nothing) -> Checkpoint | None:
    """Return the weights of the least validation error so far; None before the first.

    Raises:
        CheckpointError: If they are damaged.
    """
    kept = folder.best / CHECKPOINTS
    return newest_checkpoint(kept, say=say) if list_checkpoints(kept) else None
