"""`unienc prepare-data cityscapes` and `folders`, and what verbs for data sets have in common."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unienc_cli.console import SCHEMA, emit, reporting
from unienc_cli.options import (
    DryRun,
    Force,
    Json,
    Quiet,
    Threads,
    Workers,
    parse_pair,
    processes,
    use_threads,
)
from unienc_core.errors import PartialError, UsageError

if TYPE_CHECKING:
    from unienc_core.contracts import Reporter
    from unienc_core.data.sets.listing import Listing

Gap = Annotated[int, typer.Option(help="Frames between a target and each of its sources.", min=1)]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N", help="Make the I-th of N equal parts only, as stores of their own."
    ),
]
ImageEncoding = Annotated[str, typer.Option(help="How pictures are stored: jpeg or png.")]
Split = Annotated[str, typer.Option(help="Name of the store below --out.")]
MinMotion = Annotated[
    float,
    typer.Option(
        help="Leave out triplets whose picture moves less, in % of its width, from target to "
        "source, where nothing else tells of standing.",
        min=0,
    ),
]
_ENCODINGS = ("jpeg", "png")


@dataclass(frozen=True)
class Making:
    """Options that every data set has, as they were given."""

    out: Path
    shard: str | None
    workers: int | None
    threads: int | None
    force: bool
    dry_run: bool
    as_json: bool
    quiet: bool

    @property
    def processes(self) -> int | None:
        """How many processes to use; None for one per core."""
        return processes(self.workers, self.threads)


def make_set(
    verb: str,
    making: Making,
    list_files: Callable[[], Listing],
    export: Callable[[Reporter, bool], dict[str, Any]] | None = None,
) -> None:
    """List a data set, make its stores, and print the report.

    Args:
        verb: Its name below ``prepare-data``.
        making: Options given.
        list_files: Looks at the files.
        export: Writes more files once the stores are made; what it returns is added to the report.
            Asked for a dry run, it only refuses what it would refuse: that is done first.
    """
    part = parse_part(making.shard)

    from unienc_core.contracts import Reporter
    from unienc_core.workflows.prepare_sets import format_report, prepare_set

    partial: PartialError | None = None
    with reporting(making.quiet) as reporter:
        listing = list_files()
        speaker = reporter if making.dry_run else Reporter()  # else the export itself will say it
        exported = {} if export is None else export(speaker, True)
        try:
            report = prepare_set(
                listing,
                making.out,
                part=part,
                workers=making.processes,
                force=making.force,
                dry_run=making.dry_run,
                reporter=reporter,
            )
        except PartialError as error:
            partial, report = error, error.report or {}
        if export is not None and not making.dry_run:
            exported = export(reporter, False)
        report |= exported
    document = {"schema": SCHEMA, "verb": f"prepare-data {verb}", **report}
    emit(document, making.as_json, format_report(report))
    lost = [found for found in exported.values() if found.get("unreadable")]
    if lost and partial is None:
        count = sum(len(found["unreadable"]) for found in lost)
        partial = PartialError(
            f"{lost[0]['path']}: {count} files are not made, for their sources cannot be read; "
            "restore these and repeat the command, which adds them"
        )
    if partial is not None:
        partial.reported = True
        raise partial


def parse_part(text: str | None) -> tuple[int, int] | None:
    """Parse ``3/8`` into two positive integers."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard is I/N with I in 1..N, like 3/8, found '{text}'")
    return int(match[1]), int(match[2])


def parse_encoding(text: str) -> Any:
    """Check the name of an image encoding."""
    if text not in _ENCODINGS:
        raise UsageError(f"--image-encoding is {' or '.join(_ENCODINGS)}, found '{text}'")
    return text


def parse_size(text: str) -> tuple[int, int] | None:
    """Parse the size to store pictures in; None for that of the pictures."""
    return None if text == "native" else parse_pair(text, "--size")


def cityscapes(
    root: Annotated[
        Path,
        typer.Argument(help="Folder with leftImg8bit_sequence, leftImg8bit, gtFine, camera, ..."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the stores.")] = Path("data/cityscapes"),
    split: Annotated[str, typer.Option(help="train, val or test.")] = "train",
    size: Annotated[str, typer.Option(help="Height x width to store, after the crop.")] = "192x512",
    crop: Annotated[
        float, typer.Option(help="Share of the height to cut off at the bottom (the bonnet).")
    ] = 0.25,
    gap: Gap = 2,
    min_motion: Annotated[
        float,
        typer.Option(
            help="Leave out triplets whose picture moves less, in % of its width, from target to "
            "source.",
            min=0,
        ),
    ] = 0.0,
    image_encoding: ImageEncoding = "jpeg",
    export_depth: Annotated[
        Path | None,
        typer.Option(
            help="Write depth ground truth here, too: .npy of whole pictures, m, 0 = unknown.",
            show_default=False,
        ),
    ] = None,
    export_frames: Annotated[
        Path | None,
        typer.Option(
            help="List of frames, one a line: write these only, as 000_depth.npy and so on.",
            show_default=False,
        ),
    ] = None,
    export_panoptic: Annotated[
        Path | None,
        typer.Option(
            help="Write panoptic ground truth here, too: png and json, made of instanceIds.",
            show_default=False,
        ),
    ] = None,
    shard: Shard = None,
    workers: Workers = None,
    threads: Threads = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make triplets and labelled images out of Cityscapes as it lies on the disk.

    Parts that are missing are said, and left out. Interrupted, it goes on where it stopped.
    """
    image_size, encoding = parse_pair(size, "--size"), parse_encoding(image_encoding)
    use_threads(threads)

    from unienc_core.data.sets.cityscapes import CityscapesRequest, list_cityscapes
    from unienc_core.workflows.export_cityscapes import export_cityscapes

    request = CityscapesRequest(split, image_size, gap, crop, min_motion / 100, encoding)
    making = Making(out, shard, workers, threads, force, dry_run, as_json, quiet)
    if export_frames is not None and export_depth is None:
        raise UsageError("--export-frames chooses what --export-depth writes: give both")
    if shard is not None and (export_depth or export_panoptic):
        raise UsageError("an export is of the whole split: leave --shard out")

    def export(reporter: Reporter, only_check: bool) -> dict[str, Any]:
        return export_cityscapes(
            root,
            split,
            depth=export_depth,
            frames=export_frames,
            panoptic=export_panoptic,
            workers=making.processes,
            force=force,
            dry_run=only_check,
            reporter=reporter,
        )

    make_set("cityscapes", making, lambda: list_cityscapes(root, request), export)


def folders(
    calibration: Annotated[
        Path, typer.Argument(help="YAML file: rate, patterns of pictures, and their cameras.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the stores.")] = Path("data/folders"),
    split: Split = "train",
    size: Annotated[
        str, typer.Option(help="Height x width to store, or native (after the crop).")
    ] = "native",
    gap: Gap = 1,
    min_motion: MinMotion = 0.1,
    image_encoding: ImageEncoding = "jpeg",
    shard: Shard = None,
    workers: Workers = None,
    threads: Threads = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make triplets out of folders of pictures whose camera is calibrated.

    With a folder of depth maps beside them, labelled images as well.
    """
    image_size, encoding = parse_size(size), parse_encoding(image_encoding)
    use_threads(threads)

    from unienc_core.data.sets.folders import FoldersRequest, list_folders

    request = FoldersRequest(split, image_size, gap, min_motion / 100, encoding)
    making = Making(out, shard, workers, threads, force, dry_run, as_json, quiet)
    make_set("folders", making, lambda: list_folders(calibration, request))
