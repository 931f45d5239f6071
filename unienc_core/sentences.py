"""The sentences that name a task or a class, as tokens of a closed vocabulary.

No tokenizer is needed: the words of all sentences are known beforehand. This module runs in worker
processes and imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np

from unienc_core.tables import read_table

Task = Literal["semantic", "instance", "panoptic"]
TASKS: Final[tuple[Task, ...]] = get_args(Task)

CONTEXT_LENGTH: Final = 77
"""Tokens of a sentence, with start, end and the zeros that follow."""

START: Final = 49406
END: Final = 49407
CLIP_TOKENS: Final = 49408
"""Tokens that CLIP knows; those of words of one's own follow."""


@dataclass(frozen=True)
class Vocabulary:
    """Words and their tokens.

    Attributes:
        words: Each word, in lower case, to its tokens.
    """

    words: Mapping[str, tuple[int, ...]]

    @property
    def tokens(self) -> tuple[int, ...]:
        """All tokens that a sentence may hold, in order."""
        return tuple(sorted({0, START, END}.union(*self.words.values())))

    def encode(self, sentence: str) -> np.ndarray:
        """Return the tokens of a sentence, `CONTEXT_LENGTH` int64, zero after the end.

        One that is too long is cut, and ends all the same.

        Raises:
            KeyError: If the vocabulary lacks a word.
        """
        found = [token for word in sentence.lower().split() for token in self.words[word]]
        kept = [START, *found][: CONTEXT_LENGTH - 1] + [END]
        return np.array(kept + [0] * (CONTEXT_LENGTH - len(kept)), np.int64)


def closed_vocabulary(class_names: Iterable[str] = ()) -> Vocabulary:
    """Return the words of all sentences about these classes.

    Words that the shipped table lacks get tokens of their own, in order of appearance, which a
    network learns from nothing.
    """
    words = {
        row["word"]: tuple(int(token) for token in row["tokens"].split())
        for row in read_table("unienc_core", "clip_tokens.csv")
    }
    known = len(words)
    for name in class_names:
        for word in class_sentence(name).lower().split():
            words.setdefault(word, (CLIP_TOKENS + len(words) - known,))
    return Vocabulary(words)


def task_sentence(task: Task) -> str:
    """Return what a network is told of its task."""
    return f"the task is {task}"


def photo_sentence(task: Task) -> str:
    """Return what is said of an image where no segment of it is left to name."""
    return f"{'an' if task == 'instance' else 'a'} {task} photo"


def class_sentence(name: str) -> str:
    """Return what is said of a segment of a class."""
    return f"a photo with a {name}"
