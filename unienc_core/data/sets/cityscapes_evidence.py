"""What the values of a Cityscapes drive are made of, to tell when it must be made again.

Names alone do not tell: a set that was still being copied lacks some disparity, which is stored as
unknown depth, and a camera file may be replaced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from unienc_core.data.manifest import Attribute, StoreSpec
from unienc_core.data.sets.cityscapes_files import (
    DISPARITIES,
    FrameName,
    nearest_camera,
    path_of,
)
from unienc_core.data.sets.cityscapes_source import CityscapesReader, frame_names
from unienc_core.data.sets.listing import Listing, listing_digest
from unienc_core.data.sets.spans import to_spans
from unienc_core.data.shard_build import DrivePlan


class Evidence:
    """Describes drives by the files beside their pictures.

    Args:
        root: Of the data set.
        split: Which of its parts.
        cameras: Frames that have a camera file.
        disparity: Frames that have disparity, in any of its folders.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        cameras: Collection[FrameName],
        disparity: Collection[FrameName],
    ) -> None:
        self._root, self._split = root, split
        self._disparity = frozenset(disparity)
        self._cameras: dict[tuple[str, int], list[int]] = {}
        for name in cameras:
            self._cameras.setdefault(name[:2], []).append(name.frame)
        self._contents: dict[FrameName, bytes] = {}

    def without_disparity(self, names: Sequence[FrameName]) -> list[FrameName]:
        """Return those of some frames whose depth is unknown."""
        return [name for name in names if name not in self._disparity]

    def attrs(self, names: Sequence[FrameName], with_depth: bool) -> dict[str, Attribute]:
        """Return what identifies the values of a drive.

        Args:
            names: Its frames.
            with_depth: Whether depth is stored.

        Returns:
            ``camera``, a hash of the camera files used (without any, the typical camera's name),
            and, of depth, ``without_disparity``, numbers of frames as spans.
        """
        found: dict[str, Attribute] = {"camera": self._camera(names)}
        if with_depth:
            lacking = self.without_disparity(names)
            found["without_disparity"] = to_spans(name.frame for name in lacking)
        return found

    def _camera(self, names: Sequence[FrameName]) -> str:
        if not self._cameras:
            return "typical"
        used = {name: self._file_of(name) for name in names}
        digest = hashlib.sha256()
        for name, file in used.items():
            digest.update(f"{name.frame}:".encode() + (self._content(file) if file else b""))
        return digest.hexdigest()[:16]

    def _file_of(self, name: FrameName) -> FrameName | None:
        number = nearest_camera(name.frame, self._cameras.get(name[:2], ()))
        return None if number is None else name._replace(frame=number)

    def _content(self, file: FrameName) -> bytes:
        """Return a short hash of a camera file; one that cannot be read is told when it is used."""
        if file not in self._contents:
            path = path_of(self._root, "camera", self._split, file)
            try:
                content = path.read_bytes()
            except OSError:
                content = b""
            self._contents[file] = hashlib.sha256(content).digest()
        return self._contents[file]


def identified(
    spec: StoreSpec,
    drives: Sequence[DrivePlan],
    found: Mapping[str, Sequence[FrameName]],
    reader: CityscapesReader,
    listing: Listing,
) -> tuple[StoreSpec, tuple[DrivePlan, ...]]:
    """Say in the spec which frames these are, and in the drives what their values are made of.

    So other frames are another store, while disparity that is added, or another camera file, makes
    the drives concerned again.

    Args:
        spec: Of the store.
        drives: Of it.
        found: Frames that have each part.
        reader: Of the frames.
        listing: Takes the report of depth that is unknown.

    Returns:
        The spec and the drives, with more in them.
    """
    camera = "files" if reader.has_cameras else "assumed"
    more = {"camera": camera, "files": listing_digest(drives)}
    disparity = {name for part in DISPARITIES for name in found[part]}
    evidence = Evidence(reader.root, reader.split, found["camera"], disparity)
    gap, with_depth = int(spec.config.get("gap", 1)), "depth" in spec.keys
    names = [frame_names(drive, gap) for drive in drives]
    frames = sorted({name for row in names for name in row})
    lacking = evidence.without_disparity(frames) if with_depth else []
    if lacking:
        what = "triplets" if spec.kind == "drives" else "labelled images"
        listing.remarks.append(
            f"{len(lacking)} of {len(frames)} pictures of the {what} are without disparity "
            f"(depth unknown): {lacking[0].stem}, ..."
        )
    plans = tuple(
        replace(drive, attrs={**drive.attrs, **evidence.attrs(row, with_depth)})
        for drive, row in zip(drives, names, strict=True)
    )
    return spec.model_copy(update={"config": spec.config | more}), plans
