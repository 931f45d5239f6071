"""`unienc prepare-data donkey`, `csv`, `udacity`, `sullychen`, `comma2k19` and `mit-driving`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unienc_cli.options import (
    DryRun,
    Force,
    Json,
    LookAhead,
    Quiet,
    SteeringRatio,
    Threads,
    Wheelbase,
    Workers,
    use_threads,
)
from unienc_cli.prepare_sets import (
    ImageEncoding,
    Making,
    Shard,
    Split,
    make_set,
    parse_encoding,
    parse_size,
)

if TYPE_CHECKING:
    from unienc_core.data.sets.recordings import RecordingsRequest

Size = Annotated[str, typer.Option(help="Height x width to store, or native.")]
Label = Annotated[
    str | None,
    typer.Option(
        help="Label to store: curvature (1/km), steering_wheel_deg, steering_wheel_rad or "
        "steering_unit (default: what the files hold).",
        show_default=False,
    ),
]
MaxGap = Annotated[
    float,
    typer.Option(
        metavar="S", help="Longest time between frames of a drive, and between measurements."
    ),
]
Outlier = Annotated[
    float | None,
    typer.Option(
        help="Labels further than this from their neighbours, in the unit of the files, are "
        "unknown; 0 keeps all (default: by the unit).",
        show_default=False,
    ),
]


def _request(
    split: str,
    size: str,
    encoding: str,
    label: str | None,
    car: tuple[float | None, float | None],
    max_gap: float,
    outlier: float | None,
) -> RecordingsRequest:
    image_size, image_encoding = parse_size(size), parse_encoding(encoding)

    from unienc_core.data.sets.measured import LabelRequest
    from unienc_core.data.sets.recordings import RecordingsRequest
    from unienc_core.data.steering import Vehicle

    labels = LabelRequest(label, Vehicle(*car), outlier, max_gap)
    return RecordingsRequest(split, image_size, labels, image_encoding)


def donkey(
    root: Annotated[Path, typer.Argument(help="A tub of version 4, or a folder of tubs.")],
    out: Annotated[Path, typer.Option(help="Folder of the stores.")] = Path("data/donkey"),
    split: Split = "train",
    size: Size = "native",
    max_gap: MaxGap = 0.5,
    outlier: Outlier = None,
    image_encoding: ImageEncoding = "jpeg",
    shard: Shard = None,
    workers: Workers = None,
    threads: Threads = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make steering sequences out of a Donkey car's recordings: commands of -1..1.

    Deleted records are left out; a drive ends at a gap.
    """
    use_threads(threads)
    request = _request(split, size, image_encoding, None, (None, None), max_gap, outlier)
    making = Making(out, shard, workers, threads, force, dry_run, as_json, quiet)

    from unienc_core.data.sets.donkey import list_donkey

    make_set("donkey", making, lambda: list_donkey(root, request))


def frame_table(
    tables: Annotated[list[Path], typer.Argument(help="Tables: a recording each.")],
    unit: Annotated[str, typer.Option(help="Of the values: 1/km, 1/m, deg, rad or -1..1.")],
    out: Annotated[Path, typer.Option(help="Folder of the stores.")] = Path("data/steering"),
    frame: Annotated[
        str, typer.Option(help="Column of pictures, by name or number: file names, or numbers.")
    ] = "0",
    value: Annotated[str, typer.Option(help="Column of steering values.")] = "1",
    time: Annotated[
        str | None, typer.Option(help="Column of times (else: --fps).", show_default=False)
    ] = None,
    time_unit: Annotated[str, typer.Option(help="s, ms, us or ns.")] = "s",
    fps: Annotated[
        float | None, typer.Option(help="Frames per second, without times.", show_default=False)
    ] = None,
    right_positive: Annotated[
        bool, typer.Option("--right-positive", help="Positive values turn right.")
    ] = False,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Folder of the pictures (default: the table's).", show_default=False),
    ] = None,
    split: Split = "train",
    size: Size = "native",
    label: Label = None,
    steering_ratio: SteeringRatio = None,
    wheelbase: Wheelbase = None,
    max_gap: MaxGap = 0.5,
    outlier: Outlier = None,
    image_encoding: ImageEncoding = "jpeg",
    shard: Shard = None,
    workers: Workers = None,
    threads: Threads = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make steering sequences out of pictures and any table of frame and value.

    Columns are separated by commas, semicolons, tabs or blanks, with a header or without.
    """
    use_threads(threads)
    car = (steering_ratio, wheelbase)
    request = _request(split, size, image_encoding, label, car, max_gap, outlier)
    making = Making(out, shard, workers, threads, force, dry_run, as_json, quiet)

    from unienc_core.data.sets.frame_table import TableRequest, list_frame_tables

    positive = "right" if right_positive else "left"
    table = TableRequest(unit, frame, value, time, time_unit, fps, positive, pictures)
    make_set("csv", making, lambda: list_frame_tables(tables, table, request))


def udacity(
    root: Annotated[
        Path, typer.Argument(help="Folder with interpolated.csv or driving_log.csv, or of such.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the stores.")] = Path("data/udacity"),
    side_correction: Annotated[
        float | None,
        typer.Option(
            help="Store the simulator's side cameras, too, their command corrected by this.",
            show_default=False,
        ),
    ] = None,
    split: Split = "train",
    size: Size = "native",
    label: Label = None,
    steering_ratio: SteeringRatio = None,
    wheelbase: Wheelbase = None,
    max_gap: MaxGap = 0.5,
    outlier: Outlier = None,
    image_encoding: ImageEncoding = "jpeg",
    shard: Shard = None,
    workers: Workers = None,
    threads: Threads = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make steering sequences out of Udacity's recordings, on the road or of the simulator."""
    use_threads(threads)
    car = (steering_ratio, wheelbase)
    request = _request(split, size, image_encoding, label, car, max_gap, outlier)
    making = Making(out, shard, workers, threads, force, dry_run, as_json, quiet)

    from unienc_core.data.sets.udacity import list_udacity

    make_set("udacity", making, lambda: list_udacity(root, request, side_correction))


def sullychen(
    root: Annotated[Path, typer.Argument(help="Folder with data.txt, or that file.")],
    out: Annotated[Path, typer.Option(help="Folder of the stores.")] = Path("data/sullychen"),
    fps: Annotated[
        float | None,
        typer.Option(
            help="Frames per second of the edition without times (default: 30).",
            show_default=False,
        ),
    ] = None,
    split: Split = "train",
    size: Size = "native",
    label: Label = None,
    steering_ratio: SteeringRatio = None,
    wheelbase: Wheelbase = None,
    max_gap: MaxGap = 0.5,
    outlier: Outlier = None,
    image_encoding: ImageEncoding = "jpeg",
    shard: Shard = None,
    workers: Workers = None,
    threads: Threads = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make steering sequences out of Sully Chen's set, both editions."""
    use_threads(threads)
    car = (steering_ratio, wheelbase)
    request = _request(split, size, image_encoding, label, car, max_gap, outlier)
    making = Making(out, shard, workers, threads, force, dry_run, as_json, quiet)

    from unienc_core.data.sets.sullychen import list_sullychen

    make_set("sullychen", making, lambda: list_sullychen(root, request, fps))


def comma2k19(
    root: Annotated[Path, typer.Argument(help="Folder with <route>/<segment>/video.hevc.")],
    out: Annotated[Path, typer.Option(help="Folder of the stores.")] = Path("data/comma2k19"),
    split: Split = "train",
    size: Size = "240x320",
    label: Label = None,
    steering_ratio: SteeringRatio = None,
    wheelbase: Wheelbase = None,
    look_ahead: LookAhead = None,
    max_gap: MaxGap = 0.5,
    outlier: Outlier = None,
    image_encoding: ImageEncoding = "jpeg",
    shard: Shard = None,
    workers: Workers = None,
    threads: Threads = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make steering sequences out of comma2k19: wheel angles, or curvature of the driven path."""
    use_threads(threads)
    car = (steering_ratio, wheelbase)
    request = _request(split, size, image_encoding, label, car, max_gap, outlier)
    making = Making(out, shard, workers, threads, force, dry_run, as_json, quiet)

    from unienc_core.data.sets.comma2k19 import list_comma2k19

    make_set("comma2k19", making, lambda: list_comma2k19(root, request, tuple(look_ahead or ())))


def mit_driving(
    root: Annotated[Path, typer.Argument(help="Folder of HDF5 files, one a drive, or one.")],
    out: Annotated[Path, typer.Option(help="Folder of the stores.")] = Path("data/mit-driving"),
    split: Split = "train",
    size: Size = "native",
    label: Label = None,
    steering_ratio: SteeringRatio = None,
    wheelbase: Wheelbase = None,
    max_gap: MaxGap = 5.0,  # no sequence of the protocol holds a longer one
    outlier: Outlier = None,
    image_encoding: ImageEncoding = "jpeg",
    shard: Shard = None,
    workers: Workers = None,
    threads: Threads = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make steering sequences out of drives of the MIT protocol: camera_front, inverse_r."""
    use_threads(threads)
    car = (steering_ratio, wheelbase)
    request = _request(split, size, image_encoding, label, car, max_gap, outlier)
    making = Making(out, shard, workers, threads, force, dry_run, as_json, quiet)

    from unienc_core.data.sets.mit_driving import list_mit_driving

    make_set("mit-driving", making, lambda: list_mit_driving(root, request))
