"""`unienc prepare-data kitti-raw` and `kitti-odometry`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unienc_cli.options import (
    DryRun,
    Force,
    Json,
    LookAhead,
    Quiet,
    Threads,
    Workers,
    use_threads,
)
from unienc_cli.prepare_sets import (
    Gap,
    ImageEncoding,
    Making,
    MinMotion,
    Shard,
    make_set,
    parse_encoding,
    parse_size,
)
from unienc_core.errors import UsageError

if TYPE_CHECKING:
    from unienc_core.contracts import Reporter

ChosenSplit = Annotated[
    str | None,
    typer.Option(
        help="Name of the store below --out (default: train, or test where that is chosen).",
        show_default=False,
    ),
]
_DEPTHS = ("velodyne", "annotated")
_CAMERAS = {"left": (2,), "right": (3,), "both": (2, 3)}
_ODOMETRY_CAMERAS = {
    "any": (2, 3, 0, 1),
    "colour": (2, 3),
    "grey": (0, 1),
    **{f"image_{number}": (number,) for number in range(4)},
}


def kitti_raw(
    root: Annotated[Path, typer.Argument(help="Folder of the days: 2011_09_26, ...")],
    out: Annotated[Path, typer.Option(help="Folder of the stores.")] = Path("data/kitti-raw"),
    split: ChosenSplit = None,
    frames: Annotated[
        Path | None,
        typer.Option(
            help="Split file: lines 'DATE/DRIVE_sync FRAME l|r' (default: all of --drives).",
            show_default=False,
        ),
    ] = None,
    drives: Annotated[
        str | None,
        typer.Option(
            help="train (all but those of the Eigen split's test images), test (those), all, or "
            "names separated by commas (default: train); not with --frames, which names drives.",
            show_default=False,
        ),
    ] = None,
    camera: Annotated[str, typer.Option(help="left, right or both colour cameras.")] = "both",
    size: Annotated[
        str, typer.Option(help="Height x width of the triplets, or native.")
    ] = "192x640",
    gap: Gap = 1,
    min_distance: Annotated[
        float | None,
        typer.Option(
            help="Leave out triplets whose camera moves less, in m, from target to source, where "
            "OXTS tells it (default: 0.1; 0 with --frames).",
            min=0,
            show_default=False,
        ),
    ] = None,
    min_motion: Annotated[
        float | None,
        typer.Option(
            help="The same by the picture, in % of its width, where there is no OXTS (default: "
            "0.1; 0 with --frames).",
            min=0,
            show_default=False,
        ),
    ] = None,
    depth: Annotated[
        str | None,
        typer.Option(
            help="Make a store of labelled images, too, with depth of LiDAR scans (velodyne) or "
            "of the annotated maps (annotated).",
            show_default=False,
        ),
    ] = None,
    depth_convention: Annotated[
        str,
        typer.Option(
            help="Depth of a scan: camera-z (along the optical axis) or velodyne-x (ahead of the "
            "LiDAR, as the published ground truth of the Eigen split has it)."
        ),
    ] = "camera-z",
    annotated: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the annotated maps, with train/ and val/ (default: ROOT).",
            show_default=False,
        ),
    ] = None,
    export_depth: Annotated[
        Path | None,
        typer.Option(
            help="Write the depth of the labelled images here, too: .npy, m, 0 = unknown.",
            show_default=False,
        ),
    ] = None,
    look_ahead: LookAhead = None,
    image_encoding: ImageEncoding = "jpeg",
    shard: Shard = None,
    workers: Workers = None,
    threads: Threads = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make triplets, and images with LiDAR depth, out of KITTI raw as it lies on the disk.

    Poses, speed and turning come from OXTS where all drives have it. Interrupted, it goes on
    where it stopped.
    """
    image_size, encoding = parse_size(size), parse_encoding(image_encoding)
    cameras = _one_of(camera, _CAMERAS, "--camera")
    if depth is not None:
        _one_of(depth, dict.fromkeys(_DEPTHS), "--depth")
    use_threads(threads)

    from unienc_core.data.sets.kitti_raw import list_kitti_raw
    from unienc_core.data.sets.kitti_raw_stores import RawRequest
    from unienc_core.data.sets.velodyne import DEPTH_CONVENTIONS
    from unienc_core.workflows.export_kitti_depth import export_kitti_depth

    _one_of(depth_convention, dict.fromkeys(DEPTH_CONVENTIONS), "--depth-convention")
    if export_depth is not None and depth is None:
        raise UsageError("--export-depth writes the depth that --depth chooses: give both")
    if frames is not None and drives is not None:
        raise UsageError("--frames names the drives itself: leave --drives out")
    convention: Any = depth_convention
    kind: Any = depth
    request = RawRequest(
        split=_split(split, drives),
        frames=frames,
        drives=drives or "train",
        cameras=cameras,
        image_size=image_size,
        gap=gap,
        min_distance=min_distance,
        min_motion=None if min_motion is None else min_motion / 100,
        depth=kind,
        convention=convention,
        annotated=annotated,
        image_encoding=encoding,
        look_ahead=tuple(look_ahead or ()),
    )
    making = Making(out, shard, workers, threads, force, dry_run, as_json, quiet)

    list_files = cache(lambda: list_kitti_raw(root, request))

    def export(reporter: Reporter, only_check: bool) -> dict[str, Any]:
        if export_depth is None:
            return {}
        found = export_kitti_depth(
            list_files(),
            export_depth,
            workers=making.processes,
            force=force,
            dry_run=only_check,
            reporter=reporter,
        )
        return {"exported_depth": found}

    make_set("kitti-raw", making, list_files, export)


def kitti_odometry(
    root: Annotated[Path, typer.Argument(help="Folder with sequences/ and poses/.")],
    out: Annotated[Path, typer.Option(help="Folder of the stores.")] = Path("data/kitti-odometry"),
    split: ChosenSplit = None,
    sequences: Annotated[
        str,
        typer.Option(
            help="train (all but 09, 10, and 11 to 21, which have no poses), test (09 and 10), "
            "all, or names separated by commas."
        ),
    ] = "train",
    camera: Annotated[
        str,
        typer.Option(help="any (colour where there is any), colour, grey, or image_0 to image_3."),
    ] = "any",
    size: Annotated[str, typer.Option(help="Height x width to store, or native.")] = "192x640",
    gap: Gap = 1,
    min_distance: Annotated[
        float,
        typer.Option(
            help="Leave out triplets whose camera moves less, in m, from target to source, where "
            "there are poses.",
            min=0,
        ),
    ] = 0.1,
    min_motion: MinMotion = 0.1,
    look_ahead: LookAhead = None,
    image_encoding: ImageEncoding = "jpeg",
    shard: Shard = None,
    workers: Workers = None,
    threads: Threads = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make triplets with poses out of KITTI's odometry sequences, grey or colour.

    `eval-depth --protocol odometry` scores camera motion on such a store.
    """
    image_size, encoding = parse_size(size), parse_encoding(image_encoding)
    cameras = _one_of(camera, _ODOMETRY_CAMERAS, "--camera")
    use_threads(threads)

    from unienc_core.data.sets.kitti_odometry import OdometryRequest, list_kitti_odometry

    request = OdometryRequest(
        split=_split(split, sequences),
        sequences=sequences,
        cameras=cameras,
        image_size=image_size,
        gap=gap,
        min_distance=min_distance,
        min_motion=min_motion / 100,
        image_encoding=encoding,
        look_ahead=tuple(look_ahead or ()),
    )
    making = Making(out, shard, workers, threads, force, dry_run, as_json, quiet)
    make_set("kitti-odometry", making, lambda: list_kitti_odometry(root, request))


def _split(asked: str | None, choice: str | None) -> str:
    """Return the name of the store: that asked for, else the part of the set that is chosen."""
    if asked is not None:
        return asked
    return "test" if choice == "test" else "train"


def _one_of(text: str, choices: dict[str, Any], option: str) -> Any:
    if text not in choices:
        raise UsageError(f"{option} is one of {', '.join(choices)}, found '{text}'")
    return choices[text]
