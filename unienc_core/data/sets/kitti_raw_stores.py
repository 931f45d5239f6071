"""What drives of KITTI raw become: a store of triplets, and one of labelled images.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import Attribute, StoreSpec
from unienc_core.data.picture_motion import STANDING
from unienc_core.data.resample import Size
from unienc_core.data.sets.folder_frames import numbered_files
from unienc_core.data.sets.kitti_calibration import FPS, KITTI_SIZE
from unienc_core.data.sets.kitti_names import RAW_DIGITS, check_names
from unienc_core.data.sets.kitti_raw_source import (
    RECORD_FOLDER,
    SCAN_FOLDER,
    DepthKind,
    RawLabelled,
    RawTriplets,
    depth_key,
    picture_folder,
)
from unienc_core.data.sets.kitti_times import frame_times, timestamps_file
from unienc_core.data.sets.listing import Listing, StorePlan, listing_digest, missing_tree
from unienc_core.data.sets.runs import cut, runs
from unienc_core.data.sets.sequence import MIN_DISTANCE, MOST_LABELLED, most_frames
from unienc_core.data.sets.settings import check_settings
from unienc_core.data.sets.spans import to_spans
from unienc_core.data.sets.turning import STANDSTILL, ahead_specs
from unienc_core.data.sets.velodyne import DepthConvention
from unienc_core.data.shard_build import DrivePlan
from unienc_core.errors import UsageError

_OXTS_KEYS = ("T_world_camera", "speed", "yaw_rate")
_OXTS_CURVATURE = f"OXTS, yaw rate / speed; unknown below {STANDSTILL:g} m/s"

DEPTH_TREES: dict[DepthKind, tuple[str, ...]] = {
    "velodyne": ("<date>/<drive>_sync/velodyne_points/data/<frame>.bin",),
    "annotated": ("train/<drive>_sync/proj_depth/groundtruth/image_02/<frame>.png (or val/)",),
}
"""Where depth is expected, for people."""


@dataclass(frozen=True)
class RawRequest:
    """What is wanted of KITTI raw.

    Attributes:
        split: Name of the store.
        frames: Split file; None for all frames of `drives`.
        drives: ``train`` (all but those of the Eigen split's test images), ``test`` (those),
            ``all``, or names, separated by commas.
        cameras: Of 2 (left) and 3 (right).
        image_size: (h, w) of the triplets; None for that of the pictures.
        gap: Frames between a target and each of its sources.
        min_distance: Least way of the camera from target to source, in m, where OXTS tells it;
            None for `MIN_DISTANCE`, or 0 with a split file, which is taken as it is.
        min_motion: Least apparent motion, in widths of the picture, where it does not; None alike.
        depth: Where the depth of labelled images comes from; None for no such store.
        convention: What the depth of a LiDAR scan means.
        annotated: Folder of annotated depth maps; None for the root.
        image_encoding: Of the stored pictures.
        look_ahead: Metres ahead along the path at which its curvature is stored, too.
    """

    split: str = "train"
    frames: Path | None = None
    drives: str = "train"
    cameras: tuple[int, ...] = (2, 3)
    image_size: Size | None = KITTI_SIZE
    gap: int = 1
    min_distance: float | None = None
    min_motion: float | None = None
    depth: DepthKind | None = None
    convention: DepthConvention = "camera-z"
    annotated: Path | None = None
    image_encoding: Literal["png", "jpeg"] = "jpeg"
    look_ahead: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check every setting."""
        check_settings(self.split, self.image_size, self.gap, self.min_motion or 0.0)
        if self.depth == "annotated" and self.convention != "camera-z":
            raise UsageError(
                f"annotated depth is camera-z, asked {self.convention}, which only LiDAR scans "
                "have: choose --depth velodyne, or leave --depth-convention out"
            )

    def least(self, asked: float | None, usual: float) -> float:
        """Return the limit below which a camera counts as standing."""
        if asked is None:
            return usual if self.frames is None else 0.0
        return asked


@dataclass(frozen=True)
class CameraDrive:
    """One camera of a drive, and which of its frames are wanted.

    Attributes:
        drive: ``2011_09_26_drive_0001``.
        folder: Of the drive, relative to the root.
        camera: 2 or 3.
        suffix: Of the pictures.
        present: Numbers of the frames there are.
        wanted: Those that may be targets, or labelled.
        image_size: (h, w) of the pictures.
    """

    drive: str
    folder: str
    camera: int
    suffix: str
    present: frozenset[int]
    wanted: frozenset[int]
    image_size: Size

    @property
    def label(self) -> str:
        """What it is called in reports."""
        return f"{self.drive}/image_{self.camera:02d}"

    def plan(self, frames: Sequence[int], size: Size | None, **attrs: Attribute) -> DrivePlan:
        """Return the drive of a store that some of its frames become."""
        return DrivePlan(
            f"{self.drive}_image_{self.camera:02d}_{frames[0]:010d}",
            len(frames),
            size,
            attrs={
                "folder": self.folder,
                "camera": self.camera,
                "suffix": self.suffix,
                "frames": to_spans(frames),
                **attrs,
            },
        )


def add_triplets(listing: Listing, views: Sequence[CameraDrive], request: RawRequest) -> None:
    """Add the store of triplets, unless no frame has both its neighbours."""
    for view in views:
        pictures = listing.root / view.folder / picture_folder(view.camera)
        check_names(pictures, view.suffix, view.present, RAW_DIGITS)
    with_oxts = _all_have_records(listing, views)
    timed = {view.label for view in views if _has_times(listing.root, view)}
    plans: list[DrivePlan] = []
    for view in views:
        plans += _runs_of(view, request, listing, view.label in timed)
    if not plans:
        return
    if len(timed) < len(views):
        first = next(view for view in views if view.label not in timed)
        listing.remarks.append(
            f"{len(views) - len(timed)} of {len(views)} cameras of drives have no "
            f"{timestamps_file(first.camera)} ({first.drive}, ...): their times are nominal, "
            f"{1 / FPS:g} s a frame"
        )
    min_motion = request.least(request.min_motion, STANDING)
    keys = standard_keys(
        "image",
        "K",
        "timestamp",
        *(_OXTS_KEYS if with_oxts else ()),
        image_encoding=request.image_encoding,
    )
    if with_oxts:
        keys |= ahead_specs(request.look_ahead, _OXTS_CURVATURE)
    elif request.look_ahead:
        raise UsageError(f"--look-ahead: {listing.root} holds no OXTS of all drives: no path")
    spec = StoreSpec(
        source="kitti-raw",
        split=request.split,
        image_size=request.image_size or views[0].image_size,
        keys=keys,
        fps=FPS / request.gap,
        min_motion=request.least(request.min_distance, MIN_DISTANCE) if with_oxts else 0.0,
        config={
            "frames": listing_digest(plans),
            "gap": request.gap,
            "min_motion": None if with_oxts else min_motion,
        },
    )
    source = RawTriplets(
        listing.root, request.image_size, min_motion, with_oxts, request.look_ahead
    )
    listing.stores.append(StorePlan(request.split, spec, tuple(plans), source))


def _has_times(root: Path, view: CameraDrive) -> bool:
    """Say whether a camera's times are known, and check that those of all pictures are."""
    path = root / view.folder / timestamps_file(view.camera)
    if not path.is_file():
        return False
    frame_times(path, sorted(view.present))
    return True


def _runs_of(
    view: CameraDrive, request: RawRequest, listing: Listing, timed: bool
) -> list[DrivePlan]:
    gap, size = request.gap, request.image_size or view.image_size
    whole = {n for n in view.wanted if {n - gap, n + gap} <= view.present}
    needed = {near for n in whole for near in (n - gap, n, n + gap)}
    # The ends of a drive are sources, and nothing is lost unless a list wants them as targets.
    used = needed if view.wanted == view.present else whole
    listing.drop(
        f"no frame {gap} before or after it",
        [f"{view.label}/{n}" for n in sorted(view.wanted - used)],
    )
    plans: list[DrivePlan] = []
    for run in runs(needed, gap):
        for frames in cut(run, most_frames(size)):
            inside = set(frames[1:-1])
            if not inside & whole:
                continue  # a piece of a cut run in which nothing is listed
            more = {} if inside <= whole else {"targets": to_spans(inside & whole)}
            if timed:
                more["times"] = timestamps_file(view.camera)
            plans.append(view.plan(frames, size, **more))
    return plans


def _all_have_records(listing: Listing, views: Sequence[CameraDrive]) -> bool:
    without = []
    for view in views:
        folder = listing.root / view.folder / RECORD_FOLDER
        _, records = numbered_files(folder, (".txt",))
        check_names(folder, ".txt", view.present & records, RAW_DIGITS)
        if not view.present <= records:
            without.append(view.drive)
    if without:
        listing.remarks.append(
            f"{len(set(without))} of {len({v.drive for v in views})} drives lack OXTS records "
            f"({without[0]}, ...): no poses, speed and turning; standing cameras are told by the "
            "pictures"
        )
    return not without


def add_labelled(listing: Listing, views: Sequence[CameraDrive], request: RawRequest) -> None:
    """Add the store of images with the depth asked for, at their own size, as they are scored.

    Raises:
        DataError: If no frame has such depth, with the tree expected.
    """
    assert request.depth is not None
    annotated = request.annotated or listing.root
    plans: list[DrivePlan] = []
    for view in views:
        folder = _depth_folder(listing.root, annotated, view, request.depth)
        suffix = ".bin" if request.depth == "velodyne" else ".png"
        _, known = numbered_files(folder, (suffix,)) if folder else ("", frozenset[int]())
        listing.drop(
            f"no {request.depth} depth", [f"{view.label}/{n}" for n in sorted(view.wanted - known)]
        )
        extra: dict[str, Attribute] = {}
        if folder and request.depth == "annotated":
            extra["depth_folder"] = folder.relative_to(annotated).as_posix()
        frames = sorted(view.wanted & known)
        if folder:
            check_names(folder, suffix, frames, RAW_DIGITS)
        for start in range(0, len(frames), MOST_LABELLED):
            part = frames[start : start + MOST_LABELLED]
            plans.append(view.plan(part, view.image_size, **extra))
    if not plans:
        where = annotated if request.depth == "annotated" else listing.root
        what = f"{request.depth} depth of the {sum(len(view.wanted) for view in views)} frames"
        raise missing_tree(where, what, DEPTH_TREES[request.depth])
    keys = standard_keys("image", "K", image_encoding=request.image_encoding)
    spec = StoreSpec(
        kind="images",
        source="kitti-raw",
        split=request.split,
        image_size=views[0].image_size,
        keys={**keys, "depth": depth_key(request.depth, request.convention)},
        config={"frames": listing_digest(plans)},
    )
    source = RawLabelled(listing.root, request.depth, request.convention, annotated)
    listing.stores.append(StorePlan(f"{request.split}-labelled", spec, tuple(plans), source))


def _depth_folder(root: Path, annotated: Path, view: CameraDrive, kind: DepthKind) -> Path | None:
    if kind == "velodyne":
        return root / view.folder / SCAN_FOLDER
    drive = Path(view.folder).name
    inside = f"proj_depth/groundtruth/image_{view.camera:02d}"
    places = [annotated / part / drive / inside for part in ("train", "val", ".")]
    places.append(annotated / view.folder / inside)
    return next((place for place in places if place.is_dir()), None)
