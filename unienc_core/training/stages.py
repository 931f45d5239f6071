"""Stages as data: where a step lies, what moves in it, and at which rate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from unienc_core.contracts import TEACHER, Say, say_nothing
from unienc_core.data.labels import check_labels
from unienc_core.errors import UsageError, WiringError, nearest
from unienc_core.losses.objective import Objective
from unienc_core.models.network import Network
from unienc_core.models.wiring import KIND_KEYS
from unienc_core.presets import Preset, ScheduleSpec, StageSpec
from unienc_core.view_synthesis import check_warp


@dataclass(frozen=True)
class Position:
    """A step of the run as (stage index, step within that stage), both from 0."""

    stage: int
    step: int


def locate(stages: Sequence[StageSpec], step: int) -> Position:
    """Return where step `step` (from 0) of the run lies."""
    for index, stage in enumerate(stages):
        if step < stage.steps:
            return Position(index, step)
        step -= stage.steps
    raise IndexError(f"{step} steps beyond the last stage")


def part_of(stages: Sequence[StageSpec], text: str | None) -> range:
    """Return the steps of the run that a part of its stages stands for.

    Args:
        stages: All of them.
        text: Numbers from 1, as the paper counts, or names: ``2``, ``1..3``, ``flow``; None: all.

    Raises:
        UsageError: If it names no part of the stages.
    """
    names = [stage.name for stage in stages]
    ends = text.split("..") if text is not None else ["1", str(len(names))]
    first, last = (_number(end, names) for end in (ends[0], ends[-1]))
    if len(ends) > 2 or not 1 <= first <= last <= len(names):
        raise UsageError(
            f"--stages {text}: no part of the stages 1..{len(names)} ({', '.join(names)}); give "
            "a number, a name, or two of them as 1..2, the earlier one first"
        )
    done = [sum(stage.steps for stage in stages[:count]) for count in (first - 1, last)]
    return range(*done)


def _number(text: str, names: Sequence[str]) -> int:
    """Return the number of a stage, from 1; 0 if there is none."""
    if text in names:
        return names.index(text) + 1
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def schedule_factor(schedule: ScheduleSpec, step: int, steps: int) -> float:
    """Return what the stage's rate is multiplied by at `step` (from 0) of `steps`.

    `constant`: 1. `poly`: (1 - t)^power with t = step / steps. `tail`: 1, then over the last
    share `tail` a straight line down to `final`. `steps`: `gamma` to the power of the milestones
    that are reached.
    """
    t = step / steps
    if schedule.type == "steps":
        return schedule.gamma ** sum(step >= milestone for milestone in schedule.milestones)
    if schedule.type == "poly":
        return (1.0 - t) ** schedule.power
    if schedule.type == "tail" and t > 1.0 - schedule.tail:
        fallen = (t - (1.0 - schedule.tail)) / schedule.tail
        return 1.0 + (schedule.final - 1.0) * fallen
    return 1.0


def moving_names(network: nn.Module, stage: StageSpec) -> set[str]:
    """Return the names of the network's parameters that move in `stage`.

    Raises:
        WiringError: If a glob matches no parameter.
    """
    names = [name for name, _ in network.named_parameters()]
    moving: set[str] = set()
    for glob in stage.trains:
        matched = {name for name in names if fnmatchcase(name, glob)}
        if not matched:
            modules = sorted({".".join(name.split(".")[:2]) for name in names})
            raise WiringError(
                f"stages.{stage.name}.trains: '{glob}' matches no parameter"
                f"{nearest(glob, [f'{module}.*' for module in modules])}; "
                f"the network has {', '.join(f'{module}.*' for module in modules)}"
            )
        moving |= matched
    return moving


def start_encoders(
    network: Network, preset: Preset, stage: StageSpec, say: Say = say_nothing
) -> None:
    """Let encoders take over the weights of others (`starts_as`) as a stage begins.

    It happens to an encoder when the first stage of the preset that moves it begins, and never
    else, so that a resumed stage goes on with its own weights. Batch statistics come with them.

    Args:
        network: Changed in place.
        preset: Its encoders and stages.
        stage: The one that begins.
        say: Told of each encoder.
    """
    for name, encoder in preset.network.encoders.items():
        if encoder.starts_as is not None and _first_moved(network, preset, name) is stage:
            other = network.encoders[encoder.starts_as]
            network.encoders[name].load_state_dict(other.state_dict())
            say(f"encoders.{name} starts as encoders.{encoder.starts_as} is now")


def _first_moved(network: nn.Module, preset: Preset, encoder: str) -> StageSpec | None:
    """Return the first stage that moves something of an encoder."""
    place = f"encoders.{encoder}."
    moved = ((s, moving_names(network, s)) for s in preset.stages)
    return next((s for s, names in moved if any(n.startswith(place) for n in names)), None)


def _check_starts(network: nn.Module, preset: Preset) -> None:
    """Check that encoders start as others of the same form, and ever begin to move."""
    encoders = preset.network.encoders
    for name, spec in encoders.items():
        if spec.starts_as is None:
            continue
        where = f"network.encoders.{name}.starts_as"
        others = [other for other in encoders if other != name]
        if spec.starts_as not in others:
            hint = nearest(spec.starts_as, others)
            raise WiringError(f"{where}: no other encoder '{spec.starts_as}'{hint}")
        other = encoders[spec.starts_as]
        form = ("type", "reads", "view", "options")
        differing = [part for part in form if getattr(spec, part) != getattr(other, part)]
        if differing:
            raise WiringError(
                f"{where}: '{name}' and '{spec.starts_as}' differ in {', '.join(differing)}, so "
                "that the weights of one are none for the other; give both the same, or leave it "
                "out"
            )
        if _first_moved(network, preset, name) is None:
            raise WiringError(f"{where}: no stage moves '{name}'; add it to the trains of one")


def check_stages(network: Network, objective: Objective, preset: Preset) -> None:
    """Check that every stage of a preset can run: what moves, how views are warped, its terms.

    Raises:
        WiringError: Naming the stage and what does not fit.
    """
    for name, stream in preset.streams.items():
        check_labels(name, stream.kind, stream.labels)
    # Whether a teacher says what is read of it, `check_teacher` finds out.
    taught = {key for key in objective.requires(list(preset.terms)) if key.startswith(TEACHER)}
    offered = {
        name: {*KIND_KEYS[stream.kind], *stream.labels, *network.produces, *taught}
        for name, stream in preset.streams.items()
    }
    _check_starts(network, preset)
    for stage in preset.stages:
        moving_names(network, stage)
        try:
            check_warp(stage.warp, network.produces)
        except WiringError as error:
            raise WiringError(f"stages.{stage.name}: {error}") from error
        for term in stage.terms:
            objective.streams_of(term, offered, stage.warp)


def apply_stage(network: nn.Module, stage: StageSpec) -> str:
    """Freeze what does not move in `stage`, set train and eval modes, and return a summary.

    A module all of whose parameters are frozen is put in ``eval()``, so that its batch statistics
    and dropout rest too.
    """
    moving = moving_names(network, stage)
    moved: Counter[str] = Counter()
    frozen = 0
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in moving)
        if name in moving:
            moved[".".join(name.split(".")[:2])] += parameter.numel()
        else:
            frozen += parameter.numel()
    set_modes(network)
    parts = ", ".join(f"{module} {count:,}" for module, count in sorted(moved.items()))
    return f"{sum(moved.values()):,} parameters move ({parts}), {frozen:,} are frozen"


def set_modes(network: nn.Module) -> None:
    """Put `network` in training mode, and its wholly frozen modules in ``eval()``."""
    network.train()
    for module in network.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()
