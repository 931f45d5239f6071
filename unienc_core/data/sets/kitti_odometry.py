"""KITTI's odometry sequences as they lie on disk: grey or colour pictures, and their poses.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.picture_motion import STANDING
from unienc_core.data.resample import Size
from unienc_core.data.sets.folder_frames import numbered_pictures
from unienc_core.data.sets.kitti_calibration import (
    FPS,
    KITTI_SIZE,
)
from unienc_core.data.sets.kitti_names import ODOMETRY_DIGITS, check_names
from unienc_core.data.sets.kitti_odometry_source import OdometryTriplets, picture_file
from unienc_core.data.sets.kitti_poses import poses_file
from unienc_core.data.sets.kitti_times import TIMES_FILE, frame_times
from unienc_core.data.sets.listing import Listing, StorePlan, listing_digest, missing_tree
from unienc_core.data.sets.runs import cut, runs
from unienc_core.data.sets.sequence import (
    MIN_DISTANCE,
    common_size,
    most_frames,
)
from unienc_core.data.sets.settings import check_settings
from unienc_core.data.sets.spans import to_spans
from unienc_core.data.sets.turning import (
    STANDSTILL,
    ahead_specs,
)
from unienc_core.data.shard_build import DrivePlan
from unienc_core.errors import DataError, UsageError

TEST_SEQUENCES = frozenset({"09", "10"})
"""What the odometry protocol of Zhou et al. (CVPR 2017) tests on; they train on 00 to 08."""

UNKNOWN_SEQUENCES = frozenset(f"{number:02d}" for number in range(11, 22))
"""Of the benchmark, whose poses are not published."""

TREE = (
    "sequences/<name>/calib.txt",
    "sequences/<name>/image_2/<frame>.png (colour) or image_0 (grey)",
    "poses/<name>.txt (00 to 10 have them)",
)
_CURVATURE = f"poses; unknown below {STANDSTILL:g} m/s"
CAMERAS = (2, 3, 0, 1)
"""In the order they are looked for: colour before grey, left before right."""


@dataclass(frozen=True)
class OdometryRequest:
    """What is wanted of the odometry set.

    Attributes:
        split: Name of the store.
        sequences: ``train`` (all but 09, 10 and those without published poses), ``test`` (09 and
            10), ``all``, or names, separated by commas.
        cameras: In the order they are looked for; 0 and 1 are grey, 2 and 3 colour. The first
            that a sequence has is taken.
        image_size: (h, w) to store; None for that of the pictures.
        gap: Frames between a target and each of its sources.
        min_distance: Least way of the camera from target to source, in m, where poses tell it.
        min_motion: Least apparent motion, in widths of the picture, where there are none.
        image_encoding: Of the stored pictures.
        look_ahead: Metres ahead along the path at which its curvature is stored, too.
    """

    split: str = "train"
    sequences: str = "train"
    cameras: tuple[int, ...] = CAMERAS
    image_size: Size | None = KITTI_SIZE
    gap: int = 1
    min_distance: float = MIN_DISTANCE
    min_motion: float = STANDING
    image_encoding: Literal["png", "jpeg"] = "jpeg"
    look_ahead: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check every setting."""
        check_settings(self.split, self.image_size, self.gap, self.min_motion)


def list_kitti_odometry(root: Path, request: OdometryRequest) -> Listing:
    """List what the odometry sequences in a folder become: a store of triplets, with poses.

    Raises:
        UsageError: If the request names sequences that are not there.
        DataError: If the folder holds no odometry sequence, or no triplet of what was asked for.
    """
    listing = Listing(root)
    names = sorted(path.parent.name for path in root.glob("sequences/*/calib.txt"))
    if not names:
        raise missing_tree(root, "KITTI odometry", TREE)
    chosen = _choose(request.sequences, names, root)
    if request.sequences == "train":
        listing.drop(
            "sequence that the odometry protocol tests on", sorted(TEST_SEQUENCES & {*names})
        )
        listing.drop(
            "sequence whose poses are not published (name it in --sequences to have it)",
            sorted(UNKNOWN_SEQUENCES & {*names}),
        )
    without = [name for name in chosen if not poses_file(root, name).is_file()]
    if without:
        listing.remarks.append(
            f"{len(without)} of {len(chosen)} sequences have no {poses_file(root, without[0])}: "
            "no poses; standing cameras are told by the pictures"
        )
    timed = {name for name in chosen if (root / "sequences" / name / TIMES_FILE).is_file()}
    if len(timed) < len(chosen):
        first = next(name for name in chosen if name not in timed)
        listing.remarks.append(
            f"{len(chosen) - len(timed)} of {len(chosen)} sequences have no {TIMES_FILE} ({first}, "
            f"...): their times are nominal, {1 / FPS:g} s a frame"
        )
    plans = [plan for name in chosen for plan in _plan(root, name, request, listing, name in timed)]
    if not plans:
        gone = listing.dropped_in_words()
        raise DataError(f"{root}: no triplet is left ({gone or 'no frame'})")
    poses = () if without else ("T_world_camera",)
    keys = standard_keys("image", "K", "timestamp", *poses, image_encoding=request.image_encoding)
    if without and request.look_ahead:
        raise UsageError(f"--look-ahead: {poses_file(root, without[0])} is missing: no path")
    if not without:
        keys |= ahead_specs(request.look_ahead, _CURVATURE)
    spec = StoreSpec(
        source="kitti-odometry",
        split=request.split,
        image_size=plans[0].image_size or KITTI_SIZE,
        keys=keys,
        fps=FPS / request.gap,
        min_motion=0.0 if without else request.min_distance,
        config={
            "frames": listing_digest(plans),
            "gap": request.gap,
            "min_motion": request.min_motion if without else None,
        },
    )
    source = OdometryTriplets(
        root, request.image_size, request.min_motion, not without, request.look_ahead
    )
    listing.stores.append(StorePlan(request.split, spec, tuple(plans), source))
    return listing


def _choose(choice: str, known: Sequence[str], root: Path) -> list[str]:
    parts = {
        "train": [name for name in known if name not in TEST_SEQUENCES | UNKNOWN_SEQUENCES],
        "test": [name for name in known if name in TEST_SEQUENCES],
        "all": list(known),
    }
    names = parts.get(choice) or sorted({part.strip() for part in choice.split(",")})
    for name in names:
        if name not in known:
            raise UsageError(
                f"--sequences {name}: not in {root / 'sequences'}, which has "
                f"{', '.join(known[:12])}; expected train, test, all, or such names"
            )
    return names


def _plan(
    root: Path, name: str, request: OdometryRequest, listing: Listing, timed: bool
) -> list[DrivePlan]:
    folder = root / "sequences" / name
    cameras = request.cameras
    found = ((camera, *_pictures(folder, camera, listing)) for camera in cameras)
    camera, suffix, frames = next(filter(lambda item: item[2], found), (None, "", frozenset()))
    if camera is None:
        wanted = " or ".join(f"image_{number}" for number in cameras)
        listing.drop(f"sequence without pictures in {wanted}", [name])
        return []
    check_names(folder / f"image_{camera}", suffix, frames, ODOMETRY_DIGITS)
    if timed:
        frame_times(folder / TIMES_FILE, sorted(frames))  # a damaged file is told at once
    on_disk = common_size([picture_file(folder, camera, n, suffix) for n in sorted(frames)])
    size = request.image_size or on_disk
    found_runs = runs(frames, request.gap)
    listing.drop(
        f"frame without one {request.gap} before and one after it near",
        [f"{name}/{n}" for n in sorted(frames - {n for run in found_runs for n in run})],
    )
    return [
        DrivePlan(
            f"{name}_image_{camera}_{part[0]:06d}",
            len(part),
            size,
            {
                "sequence": name,
                "camera": camera,
                "suffix": suffix,
                "frames": to_spans(part),
                **({"times": TIMES_FILE} if timed else {}),
            },
        )
        for run in found_runs
        for part in cut(run, most_frames(size))
    ]


_SUFFIXES = (".png", ".jpg")


def _pictures(folder: Path, camera: int, listing: Listing) -> tuple[str, frozenset[int]]:
    label = f"{folder.name}/image_{camera}"
    return numbered_pictures(folder / f"image_{camera}", _SUFFIXES, label, listing)
