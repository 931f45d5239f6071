"""Which terms of a preset listen to a teacher, and whether a teacher fits them."""

from __future__ import annotations

from pathlib import Path

from unienc_core.class_tables import ClassTable
from unienc_core.contracts import TEACHER
from unienc_core.errors import UsageError, WiringError
from unienc_core.losses.objective import Objective
from unienc_core.presets import Preset, StreamSpec, load_preset, preset_names
from unienc_core.registry import factory_of
from unienc_core.training.teacher import Teacher, with_depth

_SEGMENTS = frozenset({"class_logits", "semantic_logits"})
"""What is predicted of classes, whose channels follow the class table."""


def taught_terms(preset: Preset) -> dict[str, tuple[str, ...]]:
    """Return the terms that a teacher is needed for, each with what it reads of the teacher."""
    objective = Objective(preset)
    reads = {
        name: tuple(
            sorted(k.removeprefix(TEACHER) for k in objective.requires([name]) if TEACHER in k)
        )
        for name in preset.terms
    }
    return {name: keys for name, keys in reads.items() if keys}


def without_teacher(preset: Preset) -> Preset:
    """Return a preset without the terms that a teacher is needed for.

    Raises:
        WiringError: If a stage has no other term.
    """
    taught = taught_terms(preset)
    if not taught:
        return preset
    stages = []
    for stage in preset.stages:
        left = tuple(name for name in stage.terms if name not in taught)
        if not left:
            raise WiringError(
                f"stages.{stage.name}: all of its terms ({', '.join(stage.terms)}) need a teacher; "
                "use 'unienc distill --teacher RUN', or add a term"
            )
        stages.append(stage.model_copy(update={"terms": left}))
    terms = {name: term for name, term in preset.terms.items() if name not in taught}
    return preset.model_copy(update={"terms": terms, "stages": tuple(stages)})


def check_teacher(teacher: Teacher, preset: Preset, where: Path) -> None:
    """Check that a teacher fits what the stages of a preset read of it.

    Args:
        teacher: The teacher.
        preset: The student's.
        where: What people named as teacher.

    Raises:
        UsageError: If it does not, with what would.
    """
    on = {term for stage in preset.stages for term in stage.terms}
    taught = {name: keys for name, keys in taught_terms(preset).items() if name in on}
    if not taught:
        raise UsageError(
            f"--teacher {where}: no stage of preset {preset.name} has a term that listens to a "
            "teacher (distil_flow, distil_mask); give a --preset with one (what --init brings has "
            "none if it was trained without a teacher), or use train-student"
        )
    for name, keys in taught.items():
        if lacking := [key for key in keys if key not in teacher.makes]:
            raise UsageError(
                f"--teacher {where}: terms.{name} reads {', '.join(lacking)}, which a network of "
                f"{teacher.preset.name} does not make (it makes {', '.join(teacher.makes)}); "
                f"{_which_would(lacking, preset.image_size)}"
            )
    _check_size(teacher.preset, preset, where)
    _check_classes(teacher, preset, where)
    for name, keys in taught.items():
        _check_inputs(teacher, preset, name, keys, where)


def _which_would(keys: list[str], size: tuple[int, int]) -> str:
    presets = [load_preset(name) for name in preset_names()]
    fitting = [p.name for p in presets if set(keys) <= _made_by(p) and p.image_size == size]
    if not fitting:
        return f"nor does one of any shipped preset of {_size(size)}"
    return f"networks of these presets do: {', '.join(fitting)}"


def _made_by(preset: Preset) -> set[str]:
    """What the heads of a preset say they make, without building them."""
    heads = preset.network.heads.values()
    made = (getattr(factory_of("head", head.type), "produces", ()) for head in heads)
    return set(with_depth(key for keys in made for key in keys))


def _check_size(theirs: Preset, ours: Preset, where: Path) -> None:
    if theirs.image_size != ours.image_size:
        raise UsageError(
            f"--teacher {where}: {theirs.name} sees images of {_size(theirs.image_size)}, the "
            f"student {ours.name} of {_size(ours.image_size)}, and both must see the same; take a "
            f"teacher of that size, or --set image_size={list(theirs.image_size)}"
        )


def _check_classes(teacher: Teacher, preset: Preset, where: Path) -> None:
    if not (_SEGMENTS & set(teacher.makes) and _SEGMENTS & _made_by(preset)):
        return
    theirs, ours = teacher.preset.classes, preset.classes
    if _channels(theirs) != _channels(ours):
        raise UsageError(
            f"--teacher {where}: segments {len(theirs.evaluated)} classes of the table "
            f"'{theirs.name}', the student {preset.name} {len(ours.evaluated)} of '{ours.name}', "
            "and both must tell the same apart; take a teacher with the student's class_table"
        )


def _channels(table: ClassTable) -> list[tuple[int, str]]:
    return [(entry.id, entry.name) for entry in table.evaluated]


def _check_inputs(
    teacher: Teacher, preset: Preset, term: str, keys: tuple[str, ...], where: Path
) -> None:
    """Refuse a teacher that sees what no stream of the term holds (sparse depth, three frames)."""
    names = preset.terms[term].streams or tuple(preset.streams)
    reasons = {n: _first_gap(teacher, preset.streams[n], keys) for n in names}
    if all(reasons.values()):
        gaps = "; ".join(f"stream {name}: {reason}" for name, reason in reasons.items())
        raise UsageError(
            f"--teacher {where}: {teacher.preset.name} cannot say what terms.{term} reads "
            f"({gaps}); add it to the labels of a stream, or take another teacher"
        )


def _first_gap(teacher: Teacher, stream: StreamSpec, keys: tuple[str, ...]) -> str | None:
    return next(filter(None, (teacher.why_not(stream, key) for key in keys)), None)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
