"""Frames of Cityscapes in the keys of a store: sequences for triplets, single labelled images.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unienc_core.data.manifest import Attribute
from unienc_core.data.sets.cityscapes_files import (
    FPS,
    CityscapesCamera,
    FrameName,
    camera_of,
    disparity_to_metres,
    path_of,
    typical_camera,
)
from unienc_core.data.sets.pictures import View, read_codes, read_picture
from unienc_core.data.sets.standing import StandingWatch
from unienc_core.data.shard_build import DrivePlan, Frame
from unienc_core.errors import UsageError


@dataclass(frozen=True)
class CityscapesReader:
    """Reads parts of single frames.

    Attributes:
        root: Of the data set.
        split: Which of its parts.
        view: How pictures become those of the store.
        has_cameras: Whether there are camera files; otherwise the typical camera is assumed.
    """

    root: Path
    split: str
    view: View
    has_cameras: bool

    def camera(self, name: FrameName) -> CityscapesCamera:
        """Return the camera of a frame, of the whole picture."""
        return camera_of(self.root, self.split, name) if self.has_cameras else typical_camera()

    def image(self, name: FrameName, part: str) -> np.ndarray:
        """Return the stored picture of a frame, from the sequences or the single images."""
        path = path_of(self.root, part, self.split, name)
        return self.view.image(read_picture(path), str(path))

    def label(self, name: FrameName, key: str) -> np.ndarray:
        """Return the stored map of a frame, of the type that its key declares."""
        if key == "depth":
            return self._depth(name)
        bits = np.uint8 if key == "semantic" else np.uint16
        path = path_of(self.root, key, self.split, name)
        values = self.view.map(read_codes(path, bits), str(path))
        return values if key == "semantic" else values.astype(np.int32)

    def _depth(self, name: FrameName) -> np.ndarray:
        path = path_of(self.root, "disparity", self.split, name)
        if not path.exists():
            return np.zeros(self.view.image_size, np.float32)
        codes = self.view.map(read_codes(path, np.uint16), str(path))
        return disparity_to_metres(codes, self.camera(name))


@dataclass(frozen=True)
class SequenceSource:
    """Gives the frames of a run of a sequence.

    Attributes:
        reader: Reads them.
        gap: Between the numbers of two frames.
        min_motion: Least apparent motion between two frames, in widths of the picture.
    """

    reader: CityscapesReader
    gap: int
    min_motion: float

    def __call__(self, plan: DrivePlan) -> SequenceFrames:
        """Return the frames of a plan."""
        first = frame_name(plan)
        frames = range(first.frame, first.frame + (plan.num_frames or 0) * self.gap, self.gap)
        names = [first._replace(frame=number) for number in frames]
        return SequenceFrames(self.reader, names, StandingWatch(self.min_motion))


class SequenceFrames:
    """Frames of one drive, read one by one.

    Attributes:
        attrs: Height of the camera above the ground, m.
    """

    def __init__(
        self, reader: CityscapesReader, names: list[FrameName], watch: StandingWatch
    ) -> None:
        self._reader, self._names, self._watch = reader, names, watch
        self.attrs: dict[str, Attribute] = {"camera_height": reader.camera(names[0]).height}

    @property
    def standing(self) -> frozenset[int]:
        """Frames that are no targets; known when all were read."""
        return self._watch.standing

    def __iter__(self) -> Iterator[Frame]:
        first = self._names[0].frame
        for name in self._names:
            image = self._reader.image(name, "sequence")
            self._watch.add(image)
            yield {
                "image": image,
                "K": self._reader.view.K(self._reader.camera(name).K),
                "timestamp": np.asarray((name.frame - first) / FPS, np.float64),
            }


@dataclass(frozen=True)
class LabelledSource:
    """Gives the one frame of a labelled image.

    Attributes:
        reader: Reads it.
        keys: Labels of the store: ``semantic``, ``instance``, ``depth``.
    """

    reader: CityscapesReader
    keys: tuple[str, ...]

    def __call__(self, plan: DrivePlan) -> Iterator[Frame]:
        """Yield the image of a plan."""
        name = frame_name(plan)
        frame: dict[str, np.ndarray] = {
            "image": self.reader.image(name, str(plan.attrs["part"])),
            "K": self.reader.view.K(self.reader.camera(name).K),
        }
        yield frame | {key: self.reader.label(name, key) for key in self.keys}


def frame_name(plan: DrivePlan) -> FrameName:
    """Return the frame that a plan begins with."""
    city, sequence, frame = (plan.attrs.get(key) for key in ("city", "sequence", "first_frame"))
    if not (isinstance(city, str) and isinstance(sequence, int) and isinstance(frame, int)):
        raise UsageError(f"drive {plan.name}: needs a city, a sequence and its first frame")
    return FrameName(city, sequence, frame)
