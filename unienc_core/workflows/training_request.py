"""What a training verb was asked for: a preset, and the checkpoints it starts or learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unienc_core.checkpoint import Checkpoint, load_checkpoint
from unienc_core.contracts import Reporter
from unienc_core.errors import UsageError
from unienc_core.presets import Preset, load_preset, preset_from_dict
from unienc_core.training.distillation import check_teacher, taught_terms, without_teacher
from unienc_core.training.initial import weights_digest
from unienc_core.training.teacher import Teacher
from unienc_core.workflows.training_verbs import TrainingVerb, verbs_for


@dataclass(frozen=True)
class TrainingRequest:
    """What is to be trained, from what, under whom.

    Attributes:
        preset: Resolved; without a teacher it has no term that needs one.
        started: Whose weights the network starts from.
        teacher: Whose predictions it learns from.
    """

    preset: Preset
    started: Checkpoint | None
    teacher: Checkpoint | None

    @property
    def folder_name(self) -> str:
        """Name of the run folder, less the seed, where none is given."""
        tuned = "-tuned" if self.started else ""
        return f"{self.preset.name}{'-distilled' if self.teacher else ''}{tuned}"

    @property
    def facts(self) -> dict[str, Any]:
        """What the checkpoints of the run record of it besides the preset."""
        if self.teacher is None:
            return {}
        told = {"preset": self.teacher.preset.name, "step": self.teacher.step}
        return {"teacher": {**told, "sha256": weights_digest(self.teacher)}}


def open_request(
    verb: TrainingVerb,
    preset_name_or_path: str | None,
    overrides: Sequence[str] = (),
    *,
    weights: Path | None = None,
    init: Path | None = None,
    teacher: Path | None = None,
    reporter: Reporter | None = None,
) -> TrainingRequest:
    """Open what was named and check that it fits together; the stores are not looked at.

    Args:
        verb: The verb, which demands a kind of preset and has a default.
        preset_name_or_path: A shipped preset's name or a YAML file; None for that of `init`, or
            that of the verb; see `_choose_preset`.
        overrides: ``path.to.key=value`` changes of the preset.
        weights: File that an encoder starts from.
        init: Checkpoint or run folder that the network starts from.
        teacher: Checkpoint or run folder that it learns from.
        reporter: Told of damaged checkpoints passed over, and of terms left out.

    Raises:
        UsageError: If the preset is none or of another kind, or no teacher is needed or given.
        DataError: If there is no such checkpoint.
        CheckpointError: If a checkpoint is damaged.
    """
    reporter = reporter or Reporter()
    if verb.has_teacher != (teacher is not None):
        raise UsageError(f"{verb.name}: {'needs a' if verb.has_teacher else 'takes no'} --teacher")
    if init is not None and weights is not None:
        raise UsageError("--init starts the whole network, --weights its encoder: give one of them")
    started = None if init is None else load_checkpoint(init, reporter.say)
    taught = None if teacher is None else load_checkpoint(teacher, reporter.say)
    preset = _choose_preset(verb, preset_name_or_path, overrides, started)
    _check_kind(verb, preset)
    if taught is None:
        preset = _alone(preset, reporter)
    return TrainingRequest(preset, started, taught)


def open_teacher(
    request: TrainingRequest, where: Path | None, device: Any, reporter: Reporter
) -> Teacher | None:
    """Build the teacher of a request, if it has one, and check that it fits the preset.

    Args:
        request: The request.
        where: What people named as teacher.
        device: Where it is to run.
        reporter: Told which one it is.

    Raises:
        UsageError: If it does not fit, with what would.
        CheckpointError: If it is damaged.
    """
    checkpoint = request.teacher
    if checkpoint is None or where is None:
        return None
    teacher = Teacher(checkpoint, device)
    check_teacher(teacher, request.preset, where)
    steps = f"after {checkpoint.step} of {checkpoint.preset.total_steps} steps"
    reporter.say(f"teacher: {checkpoint.path} ({checkpoint.preset.name}, {steps})")
    return teacher


def _choose_preset(
    verb: TrainingVerb, name: str | None, overrides: Sequence[str], started: Checkpoint | None
) -> Preset:
    """Return the preset that was named, else that of the checkpoint, else that of the verb.

    A steering head goes on top of another system: then the preset of the verb takes over the
    encoder and the image size of the checkpoint.
    """
    if name is not None or started is None:
        return load_preset(name or verb.preset, overrides)
    raw = started.preset.model_dump(mode="json")
    if verb.kind == "steering" != started.preset.kind:
        usual = load_preset(verb.preset).model_dump(mode="json")
        encoders = {
            n: raw["network"]["encoders"].get(n, e) for n, e in usual["network"]["encoders"].items()
        }
        network = {**usual["network"], "encoders": encoders}
        raw = {**usual, "image_size": raw["image_size"], "network": network}
    return preset_from_dict(raw, str(started.path), overrides)


def _check_kind(verb: TrainingVerb, preset: Preset) -> None:
    if preset.kind == verb.kind:
        return
    takers = " or ".join(f"'unienc {name}'" for name in verbs_for(preset.kind))
    raise UsageError(
        f"preset {preset.name} is of kind {preset.kind}, and {verb.name} trains presets of kind "
        f"{verb.kind}; {f'use {takers}' if takers else 'no verb trains it'}, or another --preset"
    )


def _alone(preset: Preset, reporter: Reporter) -> Preset:
    """Return a preset for training without a teacher, and say what is left out for want of one."""
    left_out = list(taught_terms(preset))
    if left_out:
        reporter.say(f"no teacher: without {', '.join(left_out)} ('unienc distill' has them)")
    return without_teacher(preset)
