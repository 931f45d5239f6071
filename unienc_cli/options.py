"""Options that mean the same under every verb."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from unienc_core.errors import UsageError

DEFAULT_DATA = Path("data/synth-city")
MAX_THREADS = 1024
MAX_WORKERS = 256
"""Beyond these a slip of the finger ends in a machine that answers no more."""

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no remarks.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything the real run needs, then stop.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.", min=0)]
Threads = Annotated[
    int | None,
    typer.Option(
        help="CPU threads (default: all cores).", min=1, max=MAX_THREADS, show_default=False
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Processes (default: one per core).", min=1, max=MAX_WORKERS, show_default=False
    ),
]
Loaders = Annotated[
    int | None,
    typer.Option(
        "--workers",
        help="Processes that load data (default: cores to spare).",
        min=0,
        max=MAX_WORKERS,
        show_default=False,
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start over instead of resuming.")]
LookAhead = Annotated[
    list[float] | None,
    typer.Option(
        metavar="M",
        help="Store the curvature of the driven path M metres ahead, too, as curvature_<M>m; "
        "repeatable.",
        show_default=False,
    ),
]
SteeringRatio = Annotated[
    float | None,
    typer.Option(
        help="Angle of the steering wheel over that of the front wheels: turns the one into "
        "curvature, with --wheelbase.",
        show_default=False,
    ),
]
Wheelbase = Annotated[
    float | None, typer.Option(help="Between the axles, in m.", show_default=False)
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what exists.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change one key of the preset; repeatable."),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        help="Checkpoint or run folder (default: $UNIENC_CHECKPOINT, then the newest finished run "
        "in ./runs).",
        show_default=False,
    ),
]
FailUnder = Annotated[
    list[str] | None,
    typer.Option("--fail-under", metavar="NAME=VALUE", help="Exit 7 if a metric is smaller."),
]
FailOver = Annotated[
    list[str] | None,
    typer.Option("--fail-over", metavar="NAME=VALUE", help="Exit 7 if a metric is larger."),
]


def use_threads(threads: int | None) -> None:
    """Give `threads` to every library that starts a pool; call before torch is imported."""
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)


def processes(workers: int | None, threads: int | None) -> int | None:
    """Return how many processes to use; None for one per core."""
    return workers or (threads and min(threads, MAX_WORKERS))


def parse_pair(text: str, what: str) -> tuple[int, int]:
    """Parse ``96x320`` or ``24x25`` into two positive integers."""
    match = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", text.strip())
    if not match or 0 in (int(match[1]), int(match[2])):
        raise UsageError(f"{what} is two positive numbers like 96x320, found '{text}'")
    return int(match[1]), int(match[2])
