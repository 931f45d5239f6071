"""The drives of a store that recordings become.

A recording is cut where frames are missing: a drive is uninterrupted, so that no sequence of its
frames crosses a gap. Its drives share no frame, and say where in the recording they begin.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import Attribute, KeySpec, StoreSpec
from unienc_core.data.resample import Size
from unienc_core.data.sets.cuts import cut_run
from unienc_core.data.sets.listing import Listing, StorePlan
from unienc_core.data.sets.measured import LabelRequest
from unienc_core.data.sets.pictures import whole_view
from unienc_core.data.sets.recording import Recording
from unienc_core.data.sets.runs import LEAST_RUN
from unienc_core.data.sets.sequence import most_frames
from unienc_core.data.sets.settings import check_settings
from unienc_core.data.sets.spans import from_spans, to_spans
from unienc_core.data.shard_build import DrivePlan, Frame
from unienc_core.data.unreadable import Loss, reading
from unienc_core.errors import DataError


@dataclass(frozen=True)
class RecordingsRequest:
    """What is wanted of a set of recordings.

    Attributes:
        split: Name of the store.
        image_size: (h, w) to store; None for that of the pictures.
        labels: What is wanted of the labels, and where recordings are cut.
        image_encoding: Of the stored pictures.
    """

    split: str = "train"
    image_size: Size | None = None
    labels: LabelRequest = LabelRequest()
    image_encoding: Literal["png", "jpeg"] = "jpeg"

    def __post_init__(self) -> None:
        """Check every setting."""
        check_settings(self.split, self.image_size, 1, 0.0)


def gather(
    listing: Listing, loaders: Iterable[tuple[str, Callable[[], Recording | None]]]
) -> list[Recording]:
    """Load recordings; one that cannot be read is reported, and the others are kept.

    Args:
        listing: Takes what is lost.
        loaders: Names, for the report, and what loads a recording; None is none.

    Raises:
        DataError: If none can be loaded, that of the first.
    """
    found: list[Recording] = []
    first: DataError | None = None
    for name, load in loaders:
        try:
            recording = load()
        except DataError as error:
            first = first or error
            listing.lost.append(Loss(name, 0, str(error)))
        else:
            found += [] if recording is None else [recording]
    if not found and first is not None:
        raise first
    return found


def add_recordings(
    listing: Listing,
    recordings: Sequence[Recording],
    request: RecordingsRequest,
    source: str,
    labels: Mapping[str, KeySpec],
) -> None:
    """Add the store that recordings become.

    Args:
        listing: Takes the store, and what is left out.
        recordings: Not none.
        request: What is wanted.
        source: Name of the set.
        labels: Declarations of the labels that every recording has.

    Raises:
        DataError: If no drive is left of them.
    """
    plans = [plan for found in recordings for plan in _plans(found, request, listing)]
    if not plans:
        raise DataError(
            f"{listing.root}: no {LEAST_RUN} frames follow each other without a gap of more than "
            f"{request.labels.max_gap:g} s; is --max-gap shorter than the time between frames?"
        )
    if len(plans) > len(recordings):
        listing.remarks.append(
            f"{len(plans)} drives of {len(recordings)} recording(s), none with a gap of more than "
            f"{request.labels.max_gap:g} s"
        )
    shared = set.intersection(*(set(found.columns) for found in recordings)) - set(labels)
    K = ["K"] if all(found.K is not None for found in recordings) else []
    keys = standard_keys(
        "image", *K, "timestamp", *sorted(shared), image_encoding=request.image_encoding
    )
    digest = hashlib.sha256(b"".join(found.digest() for found in recordings))
    spec = StoreSpec(
        source=source,
        split=request.split,
        image_size=plans[0].image_size or (1, 1),
        keys={**keys, **labels},
        fps=_rate(recordings),
        config={"recordings": digest.hexdigest()[:16], "max_gap": request.labels.max_gap},
    )
    wanted = tuple(name for name in spec.keys if name not in ("image", "timestamp"))
    by_label = {found.label: found for found in recordings}
    origins: dict[str, float] = {}
    for found in recordings:
        first = float(found.times.min())
        origins[found.name] = min(first, origins.get(found.name, first))
    frames = RecordingFrames(request.image_size, by_label, origins, wanted)
    listing.stores.append(StorePlan(request.split, spec, tuple(plans), frames))


def _plans(found: Recording, request: RecordingsRequest, listing: Listing) -> list[DrivePlan]:
    size = request.image_size or found.pictures.size()
    plans: list[DrivePlan] = []
    for row in found.pieces(request.labels.max_gap, most_frames(size)):
        if len(row) < LEAST_RUN:
            names = [found.pictures.name(position) for position in row]
            listing.drop(f"frame in a row of fewer than {LEAST_RUN} without a gap", names)
            continue
        attrs: dict[str, Attribute] = {"recording": found.name, "frames": to_spans(row)}
        if found.camera:
            attrs["camera"] = found.camera
        plans.append(DrivePlan(f"{found.label}_{row[0]:06d}", len(row), size, attrs))
    return plans


def _rate(recordings: Sequence[Recording]) -> float:
    """Return the usual frames per second."""
    steps = np.concatenate([np.diff(found.times) for found in recordings])
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0
    return round(1.0 / usual, 3) or 1e-3


@dataclass(frozen=True)
class RecordingFrames:
    """Reads the drives of recordings.

    Attributes:
        image_size: (h, w) to store; None for that of the pictures.
        recordings: By their labels.
        origins: When those of a name began, s.
        keys: Of the store, besides image and timestamp.
    """

    image_size: Size | None
    recordings: Mapping[str, Recording] = field(repr=False)
    origins: Mapping[str, float]
    keys: tuple[str, ...]

    def __call__(self, plan: DrivePlan) -> DriveFrames:
        """Return the frames of a plan."""
        found = self.recordings[plan.name.rpartition("_")[0]]
        positions = from_spans(str(plan.attrs["frames"]))
        return DriveFrames(found, positions, self.origins[found.name], self.image_size, self.keys)

    def without(self, plan: DrivePlan, position: int) -> list[DrivePlan]:
        """Return the rows before and after a frame, those that are long enough."""
        return cut_run(plan, position)


@dataclass(frozen=True)
class DriveFrames:
    """Some frames of a recording, in order, in the keys of a store.

    Attributes:
        recording: They are of.
        positions: In it.
        origin: When the recording began, s.
        image_size: (h, w) to store; None for that of the pictures.
        keys: Besides image and timestamp.
    """

    recording: Recording
    positions: Sequence[int]
    origin: float
    image_size: Size | None
    keys: tuple[str, ...]

    @property
    def attrs(self) -> dict[str, Attribute]:
        """When the drive begins in its recording, s."""
        first = float(self.recording.times[self.positions[0]])
        return {"start": round(first - self.origin, 6)}

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames."""
        found = self.recording
        view = whole_view(found.pictures.size(), self.image_size)
        known = {} if found.K is None else {"K": view.K(found.K)}
        first = found.times[self.positions[0]]
        pictures = found.pictures.read(self.positions)
        for place, position in enumerate(self.positions):
            # Of a video that cannot be read up to a frame, all that follows is lost with it.
            alone = place > 0 or found.pictures.separate
            with reading(place) if alone else nullcontext():
                image = view.image(next(pictures), found.pictures.name(position))
            row = {name: np.asarray(values[position]) for name, values in found.columns.items()}
            row |= known
            time = np.asarray(found.times[position] - first, np.float64)
            yield {"image": image, "timestamp": time, **{name: row[name] for name in self.keys}}
