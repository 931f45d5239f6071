"""What a look at the files of a data set found: stores to be made, what is left out, and why."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unienc_core.data.manifest import StoreSpec
from unienc_core.data.shard_build import DrivePlan, FrameSource
from unienc_core.data.unreadable import Loss
from unienc_core.errors import DataError

_EXAMPLES = 3
_NAMED = 8
_INSIDE = 4


@dataclass(frozen=True)
class StorePlan:
    """One store that a data set is to become.

    Attributes:
        name: Of its folder.
        spec: What it holds.
        drives: Its drives; their attributes say where the frames lie, relative to the root.
        source: Reads the frames of a drive; picklable, importing no torch.
    """

    name: str
    spec: StoreSpec
    drives: tuple[DrivePlan, ...]
    source: FrameSource

    @property
    def num_frames(self) -> int:
        """Frames of all drives."""
        return sum(drive.num_frames or 0 for drive in self.drives)


@dataclass
class Listing:
    """Everything that is known of a data set before a picture is read.

    Attributes:
        root: Folder (or file) it was found in.
        stores: Stores to be made of it.
        remarks: What people should know: parts that are missing, what is assumed.
        lost: Recordings that cannot be read, while others can.
    """

    root: Path
    stores: list[StorePlan] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    lost: list[Loss] = field(default_factory=list)
    _dropped: dict[str, dict[str, None]] = field(default_factory=dict)

    @property
    def dropped(self) -> dict[str, list[str]]:
        """Reason to names of what is left out."""
        return {reason: list(names) for reason, names in self._dropped.items()}

    def drop(self, reason: str, names: Iterable[str]) -> None:
        """Leave out frames or images, saying why; each name counts once, no names, no entry."""
        for name in names:
            self._dropped.setdefault(reason, {})[name] = None

    def dropped_in_words(self) -> str:
        """Return how many are left out for which reason, for an error; empty if none is."""
        return "; ".join(f"{len(names)}: {reason}" for reason, names in self._dropped.items())

    def dropped_report(self) -> list[dict[str, Any]]:
        """Return reason, count and the first names of what is left out, as plain data."""
        return [
            {"reason": reason, "count": len(names), "examples": sorted(names)[:_EXAMPLES]}
            for reason, names in self._dropped.items()
        ]


def listing_digest(drives: Sequence[DrivePlan]) -> str:
    """Return what identifies the frames of a store, for its config: other files, other store."""
    text = repr([(d.name, d.num_frames, d.image_size, sorted(d.attrs.items())) for d in drives])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def missing_tree(root: Path, what: str, expected: Sequence[str]) -> DataError:
    """Return the error for a root that holds nothing of a data set: the tree, and what was found.

    Args:
        root: As the user gave it.
        what: Name of the data set.
        expected: Paths relative to the root, placeholders in angle brackets.
    """
    return DataError(
        f"{root}: no {what} found; expected under it {' or '.join(expected)}; found {_found(root)}"
    )


def _found(root: Path) -> str:
    if not root.exists():
        return "no such folder"
    if not root.is_dir():
        return "a file"
    names = [_with_content(path) for path in sorted(root.iterdir())]
    if not names:
        return "an empty folder"
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + rest


def _with_content(path: Path) -> str:
    """Name a file, or a folder with the folders in it: ``camera/{train,val}``."""
    if not path.is_dir():
        return path.name
    inside = sorted(p.name for p in path.iterdir() if p.is_dir())
    if not inside:
        return f"{path.name}/"
    rest = ",..." if len(inside) > _INSIDE else ""
    return f"{path.name}/{{{','.join(inside[:_INSIDE])}{rest}}}"
