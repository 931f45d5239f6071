"""Cityscapes as people have it: which stores its folders make, what is missing or left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from unienc_core.data.clip_scan import Window
from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.resample import Size
from unienc_core.data.sets.cityscapes_cities import missing_cities
from unienc_core.data.sets.cityscapes_evidence import identified
from unienc_core.data.sets.cityscapes_files import (
    FPS,
    SUFFIXES,
    TYPICAL_SIZE,
    VEHICLES,
    FrameName,
    forget_cameras,
    names_in,
    path_of,
    tree_of,
)
from unienc_core.data.sets.cityscapes_source import (
    MOTION_KEYS,
    CityscapesReader,
    LabelledSource,
    SequenceSource,
    run_plan,
)
from unienc_core.data.sets.listing import Listing, StorePlan, missing_tree
from unienc_core.data.sets.pictures import View
from unienc_core.data.sets.runs import LEAST_RUN, cut, runs
from unienc_core.data.sets.sequence import common_size
from unienc_core.data.sets.settings import check_settings
from unienc_core.data.sets.turning import ahead_specs
from unienc_core.data.shard_build import DrivePlan
from unienc_core.data.store_folder import estimate_bytes
from unienc_core.errors import DataError, UsageError

MAX_DRIVE_BYTES = 64 << 20
"""A drive is built in memory; longer runs are cut."""


@dataclass(frozen=True)
class CityscapesRequest:
    """What is to be made of Cityscapes.

    Attributes:
        split: Folder below each part: "train", "val", "test".
        image_size: (h, w) as stored.
        gap: Frames between a target and each of its sources; 2 of 17 Hz come near KITTI's rate.
        crop: Share of the height that is cut off at the bottom: the bonnet.
        min_motion: Triplets whose picture moves less than this, in widths, are left out.
        image_encoding: How pictures are stored.
    """

    split: str = "train"
    image_size: Size = (192, 512)
    gap: int = 2
    crop: float = 0.25
    min_motion: float = 0.0
    image_encoding: Literal["png", "jpeg"] = "jpeg"

    def __post_init__(self) -> None:
        """Check every setting."""
        if not 0 <= self.crop < 0.9:
            raise UsageError(f"a crop of {self.crop:g} of the height, expected 0 to 0.9")
        check_settings(self.split, self.image_size, self.gap, self.min_motion)


def list_cityscapes(root: Path, request: CityscapesRequest) -> Listing:
    """Look at the names of all files of a split, at one picture, and at the camera files.

    Triplets come from ``leftImg8bit_sequence``; labelled images from ``gtFine`` and ``disparity``
    with ``leftImg8bit``, or the sequence where that lacks the picture. Each part is optional.

    Args:
        root: Folder that holds ``leftImg8bit_sequence`` and the others.
        request: What is to be made of it.

    Returns:
        Stores ``<split>`` (triplets) and ``<split>-labelled``, those that there are files for.

    Raises:
        DataError: If there are files for neither, with the tree expected and what was found.
    """
    forget_cameras()
    found = {part: names_in(root, part, request.split) for part in SUFFIXES}
    pictured = [part for part in ("sequence", "image") if found[part]]
    if not pictured:
        raise _nothing_found(root, request.split)
    part = pictured[0]
    whole = common_size([path_of(root, part, request.split, name) for name in found[part]])
    view = _view(whole, request)
    listing = Listing(root)
    listing.remarks += missing_cities(request.split, {name.city for name in found[part]})
    listing.remarks += _missing_parts(root, request.split, found, whole)
    reader = CityscapesReader(root, request.split, view, bool(found["camera"]))
    with_camera = {(name.city, name.sequence) for name in found["camera"]}
    for plan in (
        _triplets(found, request, reader, with_camera, listing),
        _labelled(found, request, reader, with_camera, listing),
    ):
        if plan is not None:
            listing.stores.append(plan)
    if not listing.stores:
        reasons = [listing.dropped_in_words()] if listing.dropped else []
        raise DataError(
            f"{root}: nothing to store of split {request.split}: "
            f"{'; '.join([*reasons, *listing.remarks])}"
        )
    return listing


def _view(whole: Size, request: CityscapesRequest) -> View:
    height, width = whole
    kept = round((1.0 - request.crop) * height)
    return View(whole, Window(0, 0, width, kept), request.image_size)


def _triplets(
    found: dict[str, list[FrameName]],
    request: CityscapesRequest,
    reader: CityscapesReader,
    with_camera: set[tuple[str, int]],
    listing: Listing,
) -> StorePlan | None:
    names = _with_camera(found["sequence"], with_camera, reader, listing)
    depth = ("depth",) if found["disparity_sequence"] else ()
    extra = (*depth, *_motion_keys("triplets", names, found, listing))
    spec = _spec(request, ("image", "K", "timestamp", *extra), FPS / request.gap)
    frame_bytes = estimate_bytes(spec, [DrivePlan("", 1)])
    most = max(LEAST_RUN, MAX_DRIVE_BYTES // frame_bytes)
    drives: list[DrivePlan] = []
    for (city, sequence), group in groupby(names, key=lambda name: name[:2]):
        numbers = [name.frame for name in group]
        rows = runs(numbers, request.gap)
        lonely = set(numbers).difference(*rows)
        listing.drop(
            f"frames without both neighbours at gap {request.gap}",
            [FrameName(city, sequence, n).stem for n in lonely],
        )
        drives += [
            run_plan(FrameName(city, sequence, piece[0]), len(piece))
            for row in rows
            for piece in cut(row, most)
        ]
    if not drives:
        return None
    source = SequenceSource(reader, request.gap, request.min_motion, extra)
    spec, plans = identified(spec, drives, found, reader, listing)
    return StorePlan(request.split, spec, plans, source)


def _labelled(
    found: dict[str, list[FrameName]],
    request: CityscapesRequest,
    reader: CityscapesReader,
    with_camera: set[tuple[str, int]],
    listing: Listing,
) -> StorePlan | None:
    parts = {"semantic": "semantic", "instance": "instance", "depth": "disparity"}
    has = {key: set(found[part]) for key, part in parts.items() if found[part]}
    if not has:
        return None
    # Depth of a whole sequence serves its annotated frames; the others carry no labels.
    of_sequences = set(found["disparity_sequence"]) & set().union(*has.values())
    if of_sequences:
        has["depth"] = of_sequences | has.get("depth", set())
    singles, sequence = set(found["image"]), set(found["sequence"])
    labelled = sorted(set().union(*has.values()))
    pictured = [name for name in labelled if name in singles or name in sequence]
    listing.drop("labels without their picture", _stems(set(labelled).difference(pictured)))
    listing.drop("pictures without labels", _stems(singles.difference(labelled)))
    # A depth that is unknown everywhere is scored nowhere; a picture without classes would be
    # taken for one in which nothing is to be seen.
    kept = set(pictured).intersection(*(names for key, names in has.items() if key != "depth"))
    listing.drop("pictures that lack the labels others have", _stems(set(pictured) - kept))
    names = _with_camera(sorted(kept), with_camera, reader, listing)
    if not names:
        return None
    drives = [run_plan(name, 1, "image" if name in singles else "sequence") for name in names]
    keys = (*has, *_motion_keys("labelled images", names, found, listing))
    spec = _spec(request, ("image", "K", *keys), FPS, kind="images")
    spec, plans = identified(spec, drives, found, reader, listing)
    return StorePlan(f"{request.split}-labelled", spec, plans, LabelledSource(reader, keys))


def _motion_keys(
    what: str, names: Sequence[FrameName], found: dict[str, list[FrameName]], listing: Listing
) -> tuple[str, ...]:
    """Return the keys of speed and turning, if every frame has them; else say who lacks them."""
    known = {name for part in VEHICLES for name in found[part]}
    without = [name for name in names if name not in known]
    if known and without:
        listing.remarks.append(
            f"{len(without)} of {len(names)} frames of the {what} have no vehicle file "
            f"({without[0].stem}, ...): no speed and turning"
        )
    return () if without else MOTION_KEYS


def _with_camera(
    names: Sequence[FrameName],
    with_camera: set[tuple[str, int]],
    reader: CityscapesReader,
    listing: Listing,
) -> list[FrameName]:
    if not reader.has_cameras:
        return list(names)
    kept = [name for name in names if name[:2] in with_camera]
    listing.drop("frames whose sequence has no camera file", _stems(set(names).difference(kept)))
    return kept


def _spec(
    request: CityscapesRequest,
    keys: tuple[str, ...],
    fps: float,
    kind: Literal["drives", "images"] = "drives",
) -> StoreSpec:
    config = {"crop": request.crop}
    if kind == "drives":
        config |= {"gap": request.gap, "min_motion": request.min_motion}
    curvature = ahead_specs((), "vehicle, yaw rate / speed") if "curvature" in keys else {}
    return StoreSpec(
        kind=kind,
        source="cityscapes",
        split=request.split,
        image_size=request.image_size,
        keys={**standard_keys(*keys, image_encoding=request.image_encoding), **curvature},
        fps=fps,
        config=config,
    )


def _stems(names: set[FrameName]) -> list[str]:
    return [name.stem for name in sorted(names)]


def _missing_parts(
    root: Path, split: str, found: dict[str, list[FrameName]], whole: Size
) -> list[str]:
    without = {
        "sequence": "no triplets",
        "semantic": "no classes",
        "instance": "no instances",
        "disparity": "no depth of annotated frames",
        "disparity_sequence": "no depth in the triplets",
    }
    lines = [
        f"{root}: no {tree_of(part, split)}: {what}"
        for part, what in without.items()
        if not found[part]
    ]
    if not any(found[part] for part in VEHICLES):
        trees = " and no ".join(tree_of(part, split) for part in VEHICLES)
        lines.append(f"{root}: no {trees}: no speed and turning")
    if not found["camera"]:
        if whole != TYPICAL_SIZE:
            raise DataError(
                f"{root}: no camera/{split}, and pictures of {whole[0]}x{whole[1]} are not the "
                "camera's own 1024x2048, so that K is unknown; add the camera files"
            )
        lines.append(
            f"{root}: no {tree_of('camera', split)}: the typical camera of Cityscapes is assumed "
            "for all cities, though each has its own"
        )
    return lines


def _nothing_found(root: Path, split: str) -> DataError:
    expected = [tree_of(part, split) for part in ("sequence", "image")]
    return missing_tree(root, f"Cityscapes split '{split}'", expected)
