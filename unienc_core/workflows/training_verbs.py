"""The training verbs: one workflow, told apart by their default preset and what they demand of it.

The command line reads this table at once, so nothing here loads torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unienc_core.specs import Kind


@dataclass(frozen=True)
class TrainingVerb:
    """A verb that trains.

    Attributes:
        name: What it is called on the command line.
        kind: The kind of preset that it takes.
        preset: The shipped preset that it takes by default.
        has_teacher: Whether it trains under a teacher, which then must be given.
    """

    name: str
    kind: Kind
    preset: str
    has_teacher: bool = False


TRAIN_STUDENT = TrainingVerb("train-student", "student", "unified-tiny")
TRAIN_TEACHER = TrainingVerb("train-teacher", "teacher", "teacher-tiny")
DISTILL = TrainingVerb("distill", "student", "unified-all-tiny", has_teacher=True)
FINETUNE_STEERING = TrainingVerb("finetune-steering", "steering", "steering-tiny")

VERBS = (TRAIN_TEACHER, TRAIN_STUDENT, DISTILL, FINETUNE_STEERING)


def verbs_for(kind: Kind) -> list[str]:
    """Return the names of the verbs that take presets of a kind."""
    return [verb.name for verb in VERBS if verb.kind == kind]
