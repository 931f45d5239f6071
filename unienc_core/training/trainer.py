"""The only training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from signal import Signals
from typing import Any, NoReturn

from torch import Tensor

from unienc_core.checkpoint import (
    Checkpoint,
    list_checkpoints,
    load_checkpoint,
    load_tensors,
    newest_checkpoint,
    prune_checkpoints,
    save_checkpoint,
    set_aside,
)
from unienc_core.contracts import Batch, Reporter, Say
from unienc_core.errors import IntegrityError, Interrupted
from unienc_core.files import require_space
from unienc_core.models.network import Network
from unienc_core.presets import Preset
from unienc_core.training.distributed import PeerError, World
from unienc_core.training.history import History
from unienc_core.training.logbook import STEPS_PER_LINE, Logbook
from unienc_core.training.module import TrainModule
from unienc_core.training.optim import (
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
    stage_groups,
)
from unienc_core.training.replicas import share_batch_statistics
from unienc_core.training.run_dir import RunFolder
from unienc_core.training.signals import StopFlag
from unienc_core.training.stages import Position, apply_stage, locate, moving_names, start_encoders
from unienc_core.training.step import StageStepper
from unienc_core.training.task_gradients import TaskGradients
from unienc_core.training.weight_average import average_of

Draw = Mapping[str, Batch]
"""One batch of every stream, by stream name."""

Draws = Callable[[int], Iterable[Draw]]
"""From the number of the first draw to that draw and all after it; a step may take several."""

KEPT_CHECKPOINTS = 2
_FAILED = 1000
"""Beyond every signal's number: what processes agree on is the largest that any brings."""


class Trainer:
    """Runs the stages of a preset over draws of batches, into a run folder.

    Args:
        module: Network and objective, on their device.
        preset: What to do.
        draws: Where batches come from; a step takes `optimizer.accumulate` draws.
        folder: The opened run folder.
        seed: Seed of the run.
        resume: The checkpoint to go on from.
        reporter: Told of progress and of what people should know.
        describe: Names the items of a draw, for people.
        facts: What each checkpoint's state shall say besides (JSON-able).
        checkpoint_every: Steps between checkpoints; default: a twentieth of the run, within
            100 to 1000.
        world: The processes of the run; each has its own trainer, the lead's alone writes.
        task_gradients: Steps from one measurement of how tasks pull at the encoders to the next;
            None: never. See `TaskGradients`.
        part: The steps of the run to do now, up to the end of a stage; the first counts only where
            there is nothing to resume. Default: all.

    Attributes:
        logbook: Counters, clock and warnings of the run.

    Raises:
        WiringError: If a stage moves nothing.
        CheckpointError: If `resume` does not fit.
        ResourceError: If there is no room for checkpoints.
    """

    def __init__(
        self,
        module: TrainModule,
        preset: Preset,
        draws: Draws,
        folder: RunFolder,
        *,
        seed: int,
        resume: Checkpoint | None = None,
        reporter: Reporter | None = None,
        describe: Callable[[int], str] = "draw {}".format,
        facts: Mapping[str, Any] | None = None,
        checkpoint_every: int | None = None,
        world: World | None = None,
        task_gradients: int | None = None,
        part: range | None = None,
    ) -> None:
        for stage in preset.stages:
            moving_names(module.network, stage)
        self._world, self._part = world or World(), part or range(preset.total_steps)
        self._module, self._preset, self._draws, self._folder = module, preset, draws, folder
        self._seed, self._describe, self._facts = seed, describe, dict(facts or {})
        self._reporter = reporter or Reporter()
        self._watch = TaskGradients(module.network, task_gradients) if task_gradients else None
        self._every = checkpoint_every or min(1000, max(100, preset.total_steps // 20))
        self._entered: int | None = None
        self._saved_step = resume.step if resume else None
        self.logbook = Logbook(self._part.stop, self._reporter)
        self.logbook.counters.step = self._part.start
        share_batch_statistics(module.network, self._world, self._reporter.say)
        self._average = average_of(module.network, preset.optimizer)
        if self._world.lead:
            self._check_space()
        if resume is not None:
            self._restore(resume)

    @property
    def network(self) -> Network:
        """The network as it is used and kept: of averaged weights, if the preset says so."""
        return self._module.network if self._average is None else self._average.network

    def run(self) -> Path:
        """Train to the end of the part and return its last checkpoint.

        Raises:
            Interrupted: After SIGTERM or SIGINT, with everything saved.
            IntegrityError: If too many steps in a row were not finite.
            ResourceError: If a checkpoint cannot be written.
        """
        for _ in self.steps():
            pass
        return list_checkpoints(self._folder.checkpoints)[-1]

    def steps(self) -> Generator[int, None, None]:
        """Train, yielding the number of finished steps after each."""
        counters, total = self.logbook.counters, self._part.stop
        if counters.step >= total:
            return
        history = History(self._folder.metrics, counters.step) if self._world.lead else None
        with StopFlag() as stop, history or nullcontext():
            self.logbook.report("start")
            draws = iter(self._draws(counters.step * self._preset.optimizer.accumulate))
            while counters.step < total:
                self._one_step(draws, history, stop)
                yield counters.step

    def _one_step(self, draws: Iterator[Draw], history: History | None, stop: StopFlag) -> None:
        started = time.perf_counter()
        first_draw = self.logbook.counters.step * self._preset.optimizer.accumulate
        position = locate(self._preset.stages, self.logbook.counters.step)
        stage = self._preset.stages[position.stage]
        if position.stage != self._entered:
            self._enter(position)
        drawn = self._fetch(draws, history, stop)
        waited = time.perf_counter() - started
        result = self._stepper.take(drawn, self.logbook.counters.step, position.step)
        if result.taken and self._average is not None:
            self._average.update(position.step)
        self.logbook.add(result, time.perf_counter() - started, waited)
        if not result.taken:
            self._throw_away(result.loss, [first_draw + i for i in range(len(drawn))])
        step, ends = self.logbook.counters.step, position.step + 1 == stage.steps
        if ends or step % STEPS_PER_LINE == 0:
            self.logbook.write_line(history, stage.name, self._stepper.rate(position.step))
        # Not amid bad steps: what makes them bad may be the weights that would be saved.
        if ends or (step % self._every == 0 and result.taken):
            self._save(history)
        self.logbook.report(stage.name, result.loss)
        if (reason := self._world.agree(stop.number)) and step < self._part.stop:
            self._leave(history, reason)

    def _fetch(self, draws: Iterator[Draw], history: History | None, stop: StopFlag) -> list[Draw]:
        """Return the draws of a step, if those of no process are missing."""
        try:
            drawn = [next(draws) for _ in range(self._preset.optimizer.accumulate)]
        except Exception:
            if not stop.number:
                self._world.agree(_FAILED)
                raise
            drawn = None  # the same signal ended the loader's workers
        outcome = self._world.agree(0 if drawn else stop.number)
        if outcome == _FAILED:
            raise PeerError
        if drawn is None or outcome:
            self._leave(history, outcome)
        return drawn

    def _enter(self, position: Position) -> None:
        """Freeze, build the optimiser and set everything up for a stage."""
        stage, spec = self._preset.stages[position.stage], self._preset.optimizer
        if position.step == 0:
            start_encoders(self._module.network, self._preset, stage, self._reporter.say)
        moving = apply_stage(self._module.network, stage)
        if self._average is not None:
            self._average.enter(position.step)
        groups = stage_groups(self._module, self._preset, stage)
        self._optimizer = build_optimizer(self._module, groups)
        self._stepper = StageStepper(
            self._module,
            self._optimizer,
            stage,
            spec,
            seed=self._seed,
            world=self._world,
            task_gradients=self._watch,
        )
        self._entered = position.stage
        rates = ", ".join(f"{g.label} {g.lr:g} (decay {g.weight_decay:g})" for g in groups)
        self._reporter.say(
            f"stage {stage.name}, {stage.steps - position.step} steps: {moving}; rates: {rates}"
        )

    def _throw_away(self, loss: float, draws: list[int]) -> None:
        """Say which items made a step not finite; stop where that has become the rule."""
        counters, limit = self.logbook.counters, self._preset.optimizer.max_bad_steps
        items = ", ".join(self._describe(draw) for draw in draws)
        self._reporter.say(
            f"step {counters.step} thrown away: its loss ({loss:g}) or gradient is not finite; "
            f"made from {items}"
        )
        if counters.bad_in_a_row >= limit:
            saved = list_checkpoints(self._folder.checkpoints)
            raise IntegrityError(
                f"{counters.bad_in_a_row} steps in a row were not finite, the last (step "
                f"{counters.step}) made from {items}; last good checkpoint: "
                f"{saved[-1] if saved else 'none'}; look at these items, or lower optimizer.lr"
            )

    def _leave(self, history: History | None, reason: int) -> NoReturn:
        self._save(history)
        self._world.agree(0)  # the launcher ends all when one has left: not before it is saved
        raise Interrupted(
            f"stopped by {Signals(reason).name} after step {self.logbook.counters.step} of "
            f"{self._part.stop}; saved in {self._folder.path}, the same command goes on"
        )

    def _save(self, history: History | None) -> None:
        """Save what a new process needs to end in the same bits, unless it lies there already."""
        if history is None or self._saved_step == self.logbook.counters.step:
            return
        history.sync()
        objective = self._module.objective.state_dict()
        live = {} if self._average is None else self._average.live_tensors()
        save_checkpoint(
            self._folder.checkpoints,
            preset=self._preset,
            model=self.network.state_dict(),
            optimizer={
                **{f"live/{name}": tensor for name, tensor in live.items()},
                **{f"objective/{name}": tensor for name, tensor in objective.items()},
                **{f"adamw/{k}": t for k, t in optimizer_tensors(self._optimizer).items()},
            },
            state={
                **self._facts,
                "seed": self._seed,
                "stage": self._entered,
                **self.logbook.state(),
            },
        )
        self._saved_step = self.logbook.counters.step
        prune_checkpoints(self._folder.checkpoints, KEPT_CHECKPOINTS)

    def _check_space(self) -> None:
        """Refuse to start what could not be saved: the kept checkpoints and one being written."""
        copies = 3 if self._average is None else 4
        one = sum(copies * parameter.nbytes for parameter in self._module.parameters())
        missing = KEPT_CHECKPOINTS + 1 - len(list_checkpoints(self._folder.checkpoints))
        require_space(self._folder.checkpoints, one * max(1, missing))

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Put everything where `checkpoint` left it."""
        where = str(checkpoint.path)
        parts: dict[str, dict[str, Tensor]] = {"live": {}, "objective": {}, "adamw": {}}
        for key, tensor in checkpoint.optimizer_tensors().items():
            part, _, name = key.partition("/")
            parts[part][name] = tensor
        kept = checkpoint.model_tensors()
        load_tensors(self._module.network, {**kept, **parts["live"]}, where)
        if self._average is not None:
            load_tensors(self._average.network, kept, where)
        load_tensors(self._module.objective, parts["objective"], where)
        device = next(self._module.network.parameters()).device
        self.logbook.restore(checkpoint.state, device)
        if checkpoint.step < self._part.stop:
            position = locate(self._preset.stages, checkpoint.step)
            if position.step > 0:  # the optimiser of a finished stage is not carried over
                self._enter(position)
                load_optimizer_tensors(self._optimizer, parts["adamw"], where)


def resume_point(folder: RunFolder, say: Say, world: World | None = None) -> Checkpoint | None:
    """Return the newest intact checkpoint of a run, or None if it has none yet.

    The lead chooses for all processes. Damaged ones are passed over, said, and renamed out of the
    way.

    Raises:
        CheckpointError: If there are checkpoints but none is intact.
        DataError: If this process does not see what the lead chose.
    """
    world = world or World()
    chosen = _newest(folder, say) if world.lead else None
    name = world.share(chosen.path.name if chosen else None)
    if world.lead or name is None:
        return chosen
    return load_checkpoint(folder.checkpoints / name)


def _newest(folder: RunFolder, say: Say) -> Checkpoint | None:
    if not list_checkpoints(folder.checkpoints):
        return None
    checkpoint = newest_checkpoint(folder.checkpoints, say=say)
    for name in set_aside(folder.checkpoints, checkpoint.step):
        say(f"kept the damaged checkpoint as {folder.checkpoints / name}")
    say(f"resuming after step {checkpoint.step} ({checkpoint.path})")
    return checkpoint
