"""Frames of Cityscapes in the keys of a store: sequences for triplets, single labelled images.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unienc_core.data.manifest import Attribute
from unienc_core.data.sets.cityscapes_files import (
    DISPARITIES,
    FPS,
    VEHICLES,
    CityscapesCamera,
    FrameName,
    camera_file,
    disparity_to_metres,
    path_of,
    read_camera,
    read_vehicle,
    typical_camera,
)
from unienc_core.data.sets.intrinsics import check_intrinsics
from unienc_core.data.sets.panoptic import label_of
from unienc_core.data.sets.pictures import View, read_codes, read_picture
from unienc_core.data.sets.runs import LEAST_RUN
from unienc_core.data.sets.standing import StandingWatch
from unienc_core.data.sets.turning import path_curvature
from unienc_core.data.shard_build import DrivePlan, Frame
from unienc_core.data.unreadable import reading
from unienc_core.errors import DataError, UsageError

LABEL_KEYS = ("semantic", "instance", "depth")
MOTION_KEYS = ("speed", "yaw_rate", "curvature")


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
        """Return the camera of a frame, of the whole picture.

        Raises:
            DataError: If there is none, or it does not fit the pictures.
        """
        if not self.has_cameras:
            return typical_camera()
        path = camera_file(self.root, self.split, name)
        camera = read_camera(path)
        check_intrinsics(camera.K, self.view.whole, str(path))
        return camera

    def image(self, name: FrameName, part: str) -> np.ndarray:
        """Return the stored picture of a frame, from the sequences or the single images."""
        path = path_of(self.root, part, self.split, name)
        return self.view.image(read_picture(path), str(path))

    def values(self, name: FrameName, keys: Collection[str]) -> dict[str, np.ndarray]:
        """Return labels and motion of a frame, those of `keys` that are such."""
        found = {key: self._label(name, key) for key in LABEL_KEYS if key in keys}
        if "speed" in keys:
            found |= self._motion(name)
        return found

    def _label(self, name: FrameName, key: str) -> np.ndarray:
        """Return the stored map of a frame, of the type that its key declares."""
        if key == "depth":
            return self._depth(name)
        bits = np.uint8 if key == "semantic" else np.uint16
        path = path_of(self.root, key, self.split, name)
        values = self.view.map(read_codes(path, bits), str(path))
        for value in np.flatnonzero(np.bincount(values.reshape(-1))).tolist():
            label_of(value, str(path))  # an id of no label is refused
        return values if key == "semantic" else values.astype(np.int32)

    def _depth(self, name: FrameName) -> np.ndarray:
        path = self._first_of(DISPARITIES, name)
        if path is None:
            return np.zeros(self.view.image_size, np.float32)
        codes = self.view.map(read_codes(path, np.uint16), str(path))
        return disparity_to_metres(codes, self.camera(name))

    def _motion(self, name: FrameName) -> dict[str, np.ndarray]:
        path = self._first_of(VEHICLES, name)
        if path is None:
            raise DataError(f"{path_of(self.root, VEHICLES[0], self.split, name)}: not there")
        speed, yaw_rate = read_vehicle(path)
        values = (speed, yaw_rate, path_curvature(yaw_rate, speed))
        return {key: np.asarray(v, np.float32) for key, v in zip(MOTION_KEYS, values, strict=True)}

    def _first_of(self, parts: tuple[str, ...], name: FrameName) -> Path | None:
        """Return the file of a frame in the first part that has it."""
        paths = (path_of(self.root, part, self.split, name) for part in parts)
        return next((path for path in paths if path.exists()), None)


@dataclass(frozen=True)
class SequenceSource:
    """Gives the frames of a run of a sequence.

    Attributes:
        reader: Reads them.
        gap: Between the numbers of two frames.
        min_motion: Least apparent motion between two frames, in widths of the picture.
        keys: Further keys of the store: ``depth``, and `MOTION_KEYS`.
    """

    reader: CityscapesReader
    gap: int
    min_motion: float
    keys: tuple[str, ...] = ()

    def __call__(self, plan: DrivePlan) -> SequenceFrames:
        """Return the frames of a plan."""
        watch = StandingWatch(self.min_motion)
        return SequenceFrames(self.reader, self._names(plan), watch, self.keys)

    def without(self, plan: DrivePlan, position: int) -> list[DrivePlan]:
        """Return the runs before and after a frame, those that hold a triplet."""
        names = self._names(plan)
        parts = [part for part in (names[:position], names[position + 1 :]) if part]
        return [run_plan(part[0], len(part)) for part in parts if len(part) >= LEAST_RUN]

    def _names(self, plan: DrivePlan) -> list[FrameName]:
        return frame_names(plan, self.gap)


class SequenceFrames:
    """Frames of one drive, read one by one.

    Attributes:
        attrs: Height of the camera above the ground, m.
    """

    def __init__(
        self,
        reader: CityscapesReader,
        names: list[FrameName],
        watch: StandingWatch,
        keys: tuple[str, ...],
    ) -> None:
        self._reader, self._names, self._watch, self._keys = reader, names, watch, keys
        self.attrs: dict[str, Attribute] = {"camera_height": reader.camera(names[0]).height}

    @property
    def standing(self) -> frozenset[int]:
        """Frames that are no targets; known when all were read."""
        return self._watch.standing

    def __iter__(self) -> Iterator[Frame]:
        first = self._names[0].frame
        for position, name in enumerate(self._names):
            with reading(position):
                image = self._reader.image(name, "sequence")
                K = self._reader.view.K(self._reader.camera(name).K)
                values = self._reader.values(name, self._keys)
            self._watch.add(image)
            yield {
                "image": image,
                "K": K,
                "timestamp": np.asarray((name.frame - first) / FPS, np.float64),
                **values,
            }


@dataclass(frozen=True)
class LabelledSource:
    """Gives the one frame of a labelled image.

    Attributes:
        reader: Reads it.
        keys: Of the store beside picture and intrinsics: `LABEL_KEYS` and `MOTION_KEYS`.
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
        yield frame | self.reader.values(name, self.keys)

    def without(self, plan: DrivePlan, position: int) -> list[DrivePlan]:
        """Return nothing: each image is a drive of its own."""
        return []


def run_plan(first: FrameName, num_frames: int, part: str | None = None) -> DrivePlan:
    """Return the drive of a store that begins with a frame.

    Args:
        first: The frame.
        num_frames: How many there are.
        part: Where the picture of a labelled image lies.
    """
    attrs = {"city": first.city, "sequence": first.sequence, "first_frame": first.frame}
    return DrivePlan(first.stem, num_frames, attrs=attrs | ({"part": part} if part else {}))


def frame_name(plan: DrivePlan) -> FrameName:
    """Return the frame that a plan begins with."""
    city, sequence, frame = (plan.attrs.get(key) for key in ("city", "sequence", "first_frame"))
    if not (isinstance(city, str) and isinstance(sequence, int) and isinstance(frame, int)):
        raise UsageError(f"drive {plan.name}: needs a city, a sequence and its first frame")
    return FrameName(city, sequence, frame)


def frame_names(plan: DrivePlan, gap: int) -> list[FrameName]:
    """Return all frames of a plan, `gap` apart."""
    first = frame_name(plan)
    frames = range(first.frame, first.frame + (plan.num_frames or 0) * gap, gap)
    return [first._replace(frame=number) for number in frames]
