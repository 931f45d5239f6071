"""What every sink offers, and how its output comes into being: aside, then at once."""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from unienc_core.errors import UsageError
from unienc_core.files import fsync_path
from unienc_core.inference.results import ClipFacts, FrameResult

MARKER = "unienc.json"
"""Lies in each folder of ours: only such a folder is ever replaced."""


class Sink(ABC):
    """Takes the results of one clip, frame by frame, in order.

    A sink writes to `part`; `Outputs` opens it, feeds it, closes it, and at the end gives what
    `finish` returns its own name. After a kill the part stays and can be read.

    Args:
        target: Where the output will be.
        facts: The clip.

    Attributes:
        suffix: End of the target's name.
        needs_picture: Whether it wants the annotated picture.
        part: Where the output is meanwhile.
    """

    suffix: ClassVar[str]
    needs_picture: ClassVar[bool] = False

    def __init__(self, target: Path, facts: ClipFacts) -> None:
        self.target, self.facts = target, facts
        self.part = target.with_name(f"{target.stem}.part{target.suffix}")

    @abstractmethod
    def open(self) -> None:
        """Begin; nothing of an earlier try is left at `part`."""

    @abstractmethod
    def write(self, result: FrameResult) -> None:
        """Take the next frame."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is open; what was written can be read from then on."""

    def finish(self) -> Path:
        """Complete the closed output on the disk and return where it lies."""
        fsync_path(self.part)
        return self.part

    def leftovers(self) -> list[Path]:
        """Return what must not stay once the output is published or given up."""
        return [self.part]

    def report(self) -> dict[str, Any]:
        """Return what is worth a line in the summary."""
        return {}


class FolderSink(Sink):
    """A sink that writes one file per frame into a folder."""

    def __init__(self, target: Path, facts: ClipFacts) -> None:
        super().__init__(target, facts)
        self.part = _beside(target, "part")

    def open(self) -> None:
        """Make the folder and mark it as ours."""
        self.part.mkdir()
        self._mark()

    def close(self) -> None:
        """Nothing is open between two frames."""

    def finish(self) -> Path:
        """Mark the folder with the final counts and force it onto the disk."""
        self._mark()
        for file in self.part.iterdir():
            fsync_path(file)
        return super().finish()

    def put(self, name: str, content: bytes) -> None:
        """Write a file of the folder so that it is never seen half."""
        aside = self.part / f".{name}.tmp"
        aside.write_bytes(content)
        aside.replace(self.part / name)

    def describe(self) -> dict[str, Any]:
        """Return what the folder says of itself."""
        return {"unit": self.facts.unit, "K": self.facts.K.round(4).tolist()}

    def _mark(self) -> None:
        self.put(MARKER, (json.dumps(self.describe()) + "\n").encode())


def remove(path: Path) -> None:
    """Remove a file, or a folder that a sink made, if it is there.

    Raises:
        UsageError: If it is a folder of somebody else.
    """
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    check_ours(path)
    shutil.rmtree(path)


def check_ours(folder: Path) -> None:
    """Check that a folder, if there is one, was made by a sink, or is empty.

    Raises:
        UsageError: If not.
    """
    if folder.is_dir() and not (folder / MARKER).exists() and any(folder.iterdir()):
        raise UsageError(
            f"{folder}: is a folder that infer-video did not make; it is not replaced, choose "
            "another --out"
        )


def publish(finished: Path, target: Path) -> None:
    """Give an output its own name, in place of an earlier one.

    Raises:
        UsageError: If the name is that of a folder of somebody else.
    """
    check_ours(target)
    if target.is_dir():  # a folder cannot be replaced by one rename
        old = _beside(target, "old")
        remove(old)
        target.rename(old)
        finished.rename(target)
        remove(old)
    else:
        finished.replace(target)


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f"{folder.name}.{what}")
