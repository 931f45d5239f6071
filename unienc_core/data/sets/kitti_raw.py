"""KITTI raw as it lies on disk: which drives, frames, records and depths there are.

Only names and calibrations are read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from unienc_core.data.sets.folder_frames import numbered_pictures
from unienc_core.data.sets.kitti_calibration import CAMERA_FILE, read_camera
from unienc_core.data.sets.kitti_raw_source import SCAN_FOLDER, picture_folder
from unienc_core.data.sets.kitti_raw_stores import (
    CameraDrive,
    RawRequest,
    add_labelled,
    add_triplets,
)
from unienc_core.data.sets.kitti_splits import eigen_test_drives, read_split
from unienc_core.data.sets.listing import Listing, missing_tree
from unienc_core.errors import DataError, UsageError

TREE = (
    "<date>/calib_cam_to_cam.txt",
    "<date>/<date>_drive_<number>_sync/image_02/data/<frame>.png (or .jpg)",
)
DRIVE_CHOICES = ("train", "test", "all")

_DRIVE = re.compile(r"(\d{4}_\d\d_\d\d_drive_\d{4})_sync")


def list_kitti_raw(root: Path, request: RawRequest) -> Listing:
    """List what KITTI raw in a folder becomes: a store of triplets, and one of labelled images.

    Raises:
        UsageError: If the request names drives that are not there.
        DataError: If the folder holds no KITTI raw, or nothing that was asked for.
    """
    listing = Listing(root)
    views = _find_views(root, request, listing)
    add_triplets(listing, views, request)
    if request.depth is not None:
        add_labelled(listing, views, request)
    elif any((root / view.folder / SCAN_FOLDER).is_dir() for view in views):
        listing.remarks.append(
            f"{root}: LiDAR scans are there and not used; --depth velodyne makes labelled images"
        )
    if not listing.stores:
        gone = listing.dropped_in_words() or "no frame"
        raise DataError(f"{root}: no triplet and no labelled image is left ({gone})")
    return listing


def _find_views(root: Path, request: RawRequest, listing: Listing) -> list[CameraDrive]:
    folders = {
        match[1]: path
        for path in sorted(root.glob("*/*_drive_*_sync"))
        if (match := _DRIVE.fullmatch(path.name))
    }
    if not folders:
        raise missing_tree(root, "KITTI raw", TREE)
    listed = _listed_frames(request, folders, listing)
    names = sorted(listed) if listed is not None else choose_drives(request.drives, folders, root)
    if listed is None and request.drives == "train":
        listing.drop("drive of the Eigen split's test images", sorted(folders.keys() - set(names)))
    views: list[CameraDrive] = []
    for name in names:
        for camera in request.cameras:
            wanted = None if listed is None else listed[name].get(camera, frozenset())
            if wanted is None or wanted:
                views += _find_view(root, folders[name], name, camera, wanted, listing)
    if not views:
        raise missing_tree(root, f"pictures in {len(names)} drives", TREE)
    return views


def _listed_frames(
    request: RawRequest, folders: Mapping[str, Path], listing: Listing
) -> dict[str, dict[int, frozenset[int]]] | None:
    """Return drive to camera to listed frames, or None where no list was given."""
    if request.frames is None:
        return None
    found: dict[str, dict[int, set[int]]] = {}
    for entry in read_split(request.frames):
        if entry.drive not in folders:
            reason = "listed, but its drive is not there"
        elif entry.camera not in request.cameras:
            reason = "listed for the camera that is not asked for"
        else:
            found.setdefault(entry.drive, {}).setdefault(entry.camera, set()).add(entry.frame)
            continue
        listing.drop(reason, [f"{_label(entry.drive, entry.camera)}/{entry.frame}"])
    if not found:
        raise DataError(
            f"{request.frames}: none of its frames is one of {listing.root} ("
            f"{listing.dropped_in_words()}), which has {', '.join(sorted(folders)[:3])}"
        )
    return {
        drive: {camera: frozenset(frames) for camera, frames in cameras.items()}
        for drive, cameras in found.items()
    }


def choose_drives(choice: str, folders: Iterable[str], root: Path) -> list[str]:
    """Return the drives that a word or a list of names means.

    Raises:
        UsageError: If a name is not among `folders`, or none is left.
    """
    known = sorted(folders)
    held_out = eigen_test_drives()
    if choice in DRIVE_CHOICES:
        test = [name for name in known if name in held_out]
        train = [name for name in known if name not in held_out]
        names = {"train": train, "test": test, "all": known}[choice]
        if not names:
            other = "test" if choice == "train" else "train"
            raise UsageError(
                f"{root}: none of its {len(known)} drives is of the Eigen split's {choice} part; "
                f"choose --drives {other} or --drives all"
            )
        return names
    names = [part.strip().removesuffix("_sync") for part in choice.split(",")]
    for name in names:
        if name not in known:
            raise UsageError(
                f"--drives {name}: not in {root}, which has {', '.join(known[:4])}; expected "
                f"{', '.join(DRIVE_CHOICES)} or such names"
            )
    return sorted(set(names))


def _find_view(
    root: Path, folder: Path, drive: str, camera: int, listed: frozenset[int] | None, out: Listing
) -> list[CameraDrive]:
    label = _label(drive, camera)
    pictures = folder / picture_folder(camera)
    suffix, present = numbered_pictures(pictures, (".png", ".jpg"), label, out)
    if not present:
        out.drop("camera without pictures", [label])
        return []
    wanted = present if listed is None else listed & present
    if listed is not None:
        out.drop("listed, but no picture", [f"{label}/{n}" for n in sorted(listed - present)])
    found = read_camera(folder.parent / CAMERA_FILE, camera)
    assert found.image_size is not None
    relative = folder.relative_to(root).as_posix()
    return [CameraDrive(drive, relative, camera, suffix, present, wanted, found.image_size)]


def _label(drive: str, camera: int) -> str:
    """Return what a camera of a drive is called in reports."""
    return f"{drive}/image_{camera:02d}"
