"""What cannot be read of a drive: which frames, and what is left of the drive without them.

One damaged file must not end a run of hours. A source that can say what a drive is without a frame
(`Divisible`) has its drives cut there; the bytes of a store depend on the files alone.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from unienc_core.data.manifest import ShardRecord, StoreSpec
from unienc_core.data.shard_build import DrivePlan, Frame, FrameSource, write_shard
from unienc_core.errors import DataError


class UnreadableFrame(DataError):  # noqa: N818 - it reports a state of the data
    """One frame of a drive cannot be read.

    Attributes:
        position: Of the frame in its drive, from 0.
    """

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


@contextmanager
def reading(position: int) -> Iterator[None]:
    """Say of a `DataError` that it concerns the frame at this position of its drive alone."""
    try:
        yield
    except DataError as error:
        raise UnreadableFrame(str(error), position) from None


@runtime_checkable
class Divisible(Protocol):
    """A source whose drives can be cut."""

    def __call__(self, plan: DrivePlan) -> Iterable[Frame]:
        """Return the frames of a drive in order."""
        ...

    def without(self, plan: DrivePlan, position: int) -> list[DrivePlan]:
        """Return what is left of a drive without a frame: pieces, in order, perhaps none."""
        ...


@dataclass(frozen=True)
class Loss:
    """What was left out of a store.

    Attributes:
        drive: Name of the drive, or of the piece of it, that could not be read.
        num_frames: Frames that are not stored.
        reason: One line that names the file.
    """

    drive: str
    num_frames: int
    reason: str


@dataclass(frozen=True)
class Written:
    """What became of the drives of a shard.

    Attributes:
        record: Of the shard; None if nothing of its drives could be read, and there is none.
        lost: What was left out.
    """

    record: ShardRecord | None
    lost: tuple[Loss, ...] = ()

    @property
    def num_frames(self) -> int:
        """Frames that are stored or lost: all there were to be."""
        stored = self.record.drives if self.record else ()
        return sum(part.num_frames for part in (*stored, *self.lost))


def write_drives(
    folder: Path,
    index: int,
    spec: StoreSpec,
    plans: Sequence[DrivePlan],
    source: FrameSource,
    leave_out: bool,
) -> Written:
    """Write a shard as `write_shard` does.

    Args:
        folder: Of the store.
        index: Number of the shard.
        spec: What the store holds.
        plans: Drives of the shard.
        source: Gives their frames.
        leave_out: Leave out what cannot be read of a `Divisible` source instead of raising.
    """
    kept, lost = list(plans), list[Loss]()
    while kept:
        try:
            return Written(write_shard(folder, index, spec, kept, source), tuple(lost))
        except DataError:
            if not (leave_out and isinstance(source, Divisible)):
                raise
            kept, more = readable_drives(kept, source)
            if not more:
                raise  # all can be read: the fault lies elsewhere
            lost += more
    return Written(None, tuple(lost))


def readable_drives(
    plans: Sequence[DrivePlan], source: Divisible
) -> tuple[list[DrivePlan], list[Loss]]:
    """Read drives to see which of their frames can be read, and cut them there.

    A drive is cut at a frame that cannot be read; one of which nothing can be read without another
    file (its camera, its poses) is left out as a whole.

    Args:
        plans: Drives.
        source: Gives their frames.

    Returns:
        Drives that can be read, in order, and what is lost.
    """
    todo, kept, lost = list(plans), list[DrivePlan](), list[Loss]()
    while todo:
        plan = todo.pop(0)
        try:
            for _ in source(plan):
                pass
        except DataError as error:
            is_one = isinstance(error, UnreadableFrame)
            pieces = source.without(plan, error.position) if is_one else []
            left = sum(piece.num_frames or 0 for piece in pieces)
            lost.append(Loss(plan.name, (plan.num_frames or 0) - left, str(error)))
            todo[:0] = pieces
        else:
            kept.append(plan)
    return kept, lost
