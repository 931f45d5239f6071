"""`prepare-data` of data sets on disk: a listing of any adapter becomes stores and a report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unienc_core.contracts import Reporter
from unienc_core.data.label_values import label_lines
from unienc_core.data.manifest import StoreSpec, read_manifest
from unienc_core.data.sets.listing import Listing, StorePlan
from unienc_core.data.shard_build import DrivePlan
from unienc_core.data.store_folder import clear_store, estimate_bytes
from unienc_core.data.unreadable import Loss
from unienc_core.errors import DataError, Interrupted, PartialError, UsageError
from unienc_core.machine import available_cores
from unienc_core.workflows.contact_sheet import write_contact_sheet
from unienc_core.workflows.inspect_data import describe_one
from unienc_core.workflows.store_jobs import StoreJob, check_stores, write_stores

SHARD_BYTES = 16 << 20
"""Drives are put together into shards of about this size: a shard is built in memory."""

_MOST_NAMED = 20


def prepare_set(
    listing: Listing,
    out: Path,
    *,
    part: tuple[int, int] | None = None,
    workers: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Make the stores of a listing in ``out/<name>``, with a report and a contact sheet.

    What is finished is never made again: a repeated call does nothing, and one after a kill goes
    on where that stopped and ends in the same bytes. The bytes do not depend on `workers`.
    A drive ends before a frame that cannot be read, and another begins after it; what is lost is
    tried again by the next call.

    Args:
        listing: What an adapter found on the disk.
        out: Folder of the stores.
        part: (I, N): make the I-th of N equal parts of each store only, in ``out/<name>-I-of-N``;
            I counts from 1.
        workers: Processes; None for one per core.
        force: Start over where a folder holds another store.
        dry_run: Check folders and disk space, and read no picture.
        reporter: Progress in frames, and remarks.

    Returns:
        Plain data: ``root``, ``out``, ``dry_run``, ``remarks``, ``dropped`` (reason, count,
        examples), ``unreadable`` (drive, frames left out, reason), ``stored`` (frames),
        ``seconds``, ``contact_sheet``, ``planned`` (name, drives and frames of each store) and
        ``stores``, as `describe_store` has them.

    Raises:
        UsageError: If a part is empty, or a store of other settings is there.
        PartialError: If some frames cannot be read, with the report; the others are stored.
        DataError: If no frame at all can be read, or no triplet is left of a store of them: that
            store is removed.
        ResourceError: If the disk is full or the folder cannot be written.
        Interrupted: On Ctrl-C.
    """
    reporter = reporter or Reporter()
    for line in listing.remarks:
        reporter.say(line)
    plans = _parts(listing, part, reporter) if part else listing.stores
    jobs = [
        StoreJob(out / p.name, p.spec, p.source, tuple(shard_groups(p.spec, p.drives)))
        for p in plans
    ]
    report = {
        "root": str(listing.root),
        "out": str(out),
        "dry_run": dry_run,
        "remarks": list(listing.remarks),
        "dropped": listing.dropped_report(),
        "planned": [
            {"name": p.name, "num_drives": len(p.drives), "num_frames": p.num_frames} for p in plans
        ],
        "unreadable": [asdict(loss) for loss in listing.lost],
        "stored": 0,
        "stores": [],
    }
    if dry_run:
        check_stores(jobs, out, force)
        if listing.lost:
            raise PartialError(f"{out}: {_left_out(listing.lost, listing)}", report)
        return report
    started = time.monotonic()
    try:
        cores = available_cores()
        stored, lost = write_stores(jobs, "store", workers or cores, force, reporter)
    except KeyboardInterrupt:
        raise Interrupted(f"{out}: interrupted; the same command goes on from here") from None
    folders = [job.folder for job in jobs if read_manifest(job.folder).shards]
    if not folders:
        more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        raise DataError(f"{listing.root}: no frame can be read: {lost[0].reason}{more}")
    _refuse_empty(listing, folders)
    lost += listing.lost
    sheet = out / f"contact-sheet-{plans[0].name}.png"
    if stored or not sheet.exists():
        write_contact_sheet(sheet, folders)
    elif not lost:
        reporter.say(f"{out} is complete already: nothing to do")
    report |= {
        "unreadable": [asdict(loss) for loss in lost],
        "stored": stored,
        "seconds": round(time.monotonic() - started, 2),
        "contact_sheet": str(sheet),
        "stores": [describe_one(folder) for folder in folders],
    }
    if lost:
        raise PartialError(f"{out}: {_left_out(lost, listing)}", report)
    return report


def _left_out(lost: Sequence[Loss], listing: Listing) -> str:
    """Say what could not be read, and how to add it."""
    whole = len(listing.lost)
    drives = len({loss.drive for loss in lost}) - whole
    parts = [f"{sum(loss.num_frames for loss in lost)} frames of {drives} drives"] if drives else []
    parts += [f"{whole} recording{'s' if whole > 1 else ''}"] if whole else []
    # A recording decides what the store is of, a picture does not.
    again = "with --force, which makes the store anew" if whole else "which adds them"
    verb = "is" if whole == 1 and not drives else "are"
    return (
        f"{' and '.join(parts)} {verb} left out, for they cannot be read; restore the files and "
        f"repeat the command{' ' if whole else ', '}{again}"
    )


def _refuse_empty(listing: Listing, folders: Sequence[Path]) -> None:
    """Remove stores of drives without a triplet: no verb could do anything with one."""
    for folder in folders:
        manifest = read_manifest(folder)
        drives = [drive for shard in manifest.shards for drive in shard.drives]
        if manifest.spec.kind != "drives" or any(drive.num_triplets for drive in drives):
            continue
        frames = sum(drive.num_frames for drive in drives)
        clear_store(folder)
        with suppress(OSError):
            folder.rmdir()
        raise DataError(
            f"{listing.root}: none of {frames} frames is a target: the camera stands in all of "
            f"them; lower the least motion or distance if it does not; {folder} is not kept"
        )


def format_report(report: dict[str, Any]) -> str:
    """Return the report as text for people."""
    if report["dry_run"]:
        planned = ", ".join(
            f"{p['name']} of {p['num_frames']} frames in {p['num_drives']} drives"
            for p in report["planned"]
        )
        return "\n".join([f"{report['out']}: would hold {planned}", *_dropped(report)])
    lines = [line for store in report["stores"] for line in _store_lines(store)]
    lines += _dropped(report)
    if report["stored"]:
        rate = report["stored"] / max(report["seconds"], 1e-9)
        lines.append(
            f"stored {report['stored']} frames in {report['seconds']:.1f} s ({rate:.1f} a s)"
        )
    lines.append(f"contact sheet: {report['contact_sheet']}")
    exported = {key: found for key, found in report.items() if key.startswith("exported_")}
    for key, found in exported.items():
        name = key.removeprefix("exported_")
        lines.append(f"{name}: {found['made']} written to {found['path']}")
        lines += [f"no {name}: {fault}" for fault in found.get("unreadable", ())[:_MOST_NAMED]]
    return "\n".join(lines)


def _store_lines(store: dict[str, Any]) -> Iterator[str]:
    images = f"{store['num_frames']} images"
    if store["kind"] == "drives":
        images = (
            f"{store['num_drives']} drives, {store['num_frames']} frames, "
            f"{store['num_triplets']} triplets"
        )
        if store["num_triplets_dropped"]:
            images += f" ({store['num_triplets_dropped']} more left out: standing, or not listed)"
    height, width = store["image_size"]
    yield f"{store['path']}: {images}, {height}x{width}, {store['num_bytes'] / 1e6:.1f} MB"
    if store["intrinsics"]:
        entries = store["intrinsics"].items()
        yield "  " + ", ".join(_span(name, low, high, "px") for name, (low, high) in entries)
    for name, found in store["ranges"].items():
        unit = store["keys"][name]["unit"]
        if found["min"] is None:
            yield f"  {name}: nothing known"
        else:
            span = _span(name, found["min"], found["max"], unit)
            yield f"  {span}, known on {found['valid']:.0%}"
    yield from label_lines(store["labels"])


def _span(name: str, low: float, high: float, unit: str) -> str:
    values = f"{low:.5g}" if low == high else f"{low:.5g}..{high:.5g}"
    return f"{name} {values} {unit}".rstrip()


def _dropped(report: dict[str, Any]) -> Iterator[str]:
    unreadable = report["unreadable"]
    for loss in unreadable[:_MOST_NAMED]:
        count = loss["num_frames"] or loss["drive"]  # of a whole recording nothing is known
        yield f"left out, cannot be read: {count} ({loss['reason']})"
    if len(unreadable) > _MOST_NAMED:
        yield f"and {len(unreadable) - _MOST_NAMED} more that cannot be read (--json names all)"
    for entry in report["dropped"]:
        examples = ", ".join(entry["examples"])
        yield f"left out, {entry['reason']}: {entry['count']} ({examples})"


def _parts(listing: Listing, part: tuple[int, int], reporter: Reporter) -> list[StorePlan]:
    """Return a part (number from 1, count) of equal parts of each store, as stores of their own."""
    number, count = part
    if not 1 <= number <= count:
        raise UsageError(f"--shard {number}/{count}: expected I/N with I in 1..N")
    found: list[StorePlan] = []
    for plan in listing.stores:
        total = len(plan.drives)
        drives = plan.drives[(number - 1) * total // count : number * total // count]
        if not drives:
            reporter.say(
                f"{plan.name}: no drive in part {number} of {count}, it has {total} in all"
            )
            continue
        config = {**plan.spec.config, "shard": f"{number}/{count}"}
        spec = plan.spec.model_copy(update={"config": config})
        found.append(StorePlan(f"{plan.name}-{number}-of-{count}", spec, drives, plan.source))
    if not found:
        raise UsageError(f"--shard {number}/{count}: no store has so many drives; use a smaller N")
    return found


def shard_groups(spec: StoreSpec, drives: Sequence[DrivePlan]) -> Iterator[tuple[DrivePlan, ...]]:
    """Put drives together into shards, always in the same way."""
    group: list[DrivePlan] = []
    filled = 0
    for drive in drives:
        needed = estimate_bytes(spec, [drive])
        if group and filled + needed > SHARD_BYTES:
            yield tuple(group)
            group, filled = [], 0
        group.append(drive)
        filled += needed
    if group:
        yield tuple(group)
