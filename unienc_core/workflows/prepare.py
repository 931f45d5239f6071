"""`prepare-data synth-city`: render worlds into stores, one store per split."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unienc_core.contracts import Reporter
from unienc_core.data.city_source import SPLITS, CitySource, city_plans, world_seed
from unienc_core.errors import Interrupted, UsageError
from unienc_core.machine import available_cores
from unienc_core.workflows.contact_sheet import write_contact_sheet
from unienc_core.workflows.export_city import check_export, export_city
from unienc_core.workflows.inspect_data import describe_one
from unienc_core.workflows.store_jobs import StoreJob, check_stores, write_stores

DEMO_SPLITS: Mapping[str, tuple[int, int]] = {"train": (24, 25), "val": (8, 10), "test": (1, 75)}
"""Drives x frames of each split: enough to see depth being learnt."""

CONTACT_SHEET = "contact-sheet.png"


def prepare_synth_city(
    out: Path,
    *,
    splits: Mapping[str, tuple[int, int]] | None = None,
    image_size: tuple[int, int] = (96, 320),
    supersample: int = 2,
    noise: float = 0.0075,
    shadows: bool = False,
    look_ahead: Sequence[float] = (),
    seed: int = 0,
    export: Path | None = None,
    workers: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Render a synthetic city into ``out/<split>``, each of which is a store.

    What is finished is never made again: a repeated call does nothing, and one after a kill goes
    on where that stopped and ends in the same bytes. The bytes do not depend on `workers`.

    Args:
        out: Folder of the stores.
        splits: Split ("train", "val", "test") to number of drives and frames of each; None for
            the demo's. No two splits and no two seeds share a world.
        image_size: (h, w), px.
        supersample: Samples along each side of a pixel.
        noise: Standard deviation of the sensor noise, image values being 0..1.
        shadows: Whether the sun casts shadows.
        look_ahead: Metres ahead along the path at which its curvature is a label, too.
        seed: Which worlds.
        export: Folder to write the same worlds to in the layout of Cityscapes; see `export_city`.
        workers: Processes; None for one per core.
        force: Start over where a split holds a store of other settings.
        dry_run: Check settings, folders and disk space, and render nothing.
        reporter: Progress in frames, and remarks.

    Returns:
        Plain data: ``out``, ``rendered`` (frames), ``seconds``, ``contact_sheet``, ``stores``,
        as `describe_store` has them, and ``export``, as `export_city` returns it, or None.

    Raises:
        UsageError: If the settings make no sense, or a store of other settings is there.
        ResourceError: If the disk is full or the folder cannot be written.
        Interrupted: On Ctrl-C.
    """
    reporter = reporter or Reporter()
    splits = dict(DEMO_SPLITS if splits is None else splits)
    ahead = tuple(sorted(set(look_ahead) - {0.0}))
    source = CitySource(image_size, supersample, noise, shadows, ahead)
    _check(source, splits, seed, workers)
    jobs = [
        StoreJob(
            out / split,
            source.spec(split, seed, *counts),
            source,
            tuple((plan,) for plan in city_plans(split, seed, *counts)),
        )
        for split, counts in splits.items()
    ]
    if export is not None:
        check_export(export, force)
    if dry_run:
        check_stores(jobs, out, force)
        return {"out": str(out), "dry_run": True, "rendered": 0, "stores": []}
    started, workers = time.monotonic(), workers or available_cores()
    folders, exported = [job.folder for job in jobs], None
    try:
        rendered, _ = write_stores(jobs, "render", workers, force, reporter)
        seconds = time.monotonic() - started
        if export is not None:
            exported = export_city(folders, export, workers=workers, force=force, reporter=reporter)
    except KeyboardInterrupt:
        raise Interrupted(f"{out}: interrupted; the same command goes on from here") from None
    sheet = out / CONTACT_SHEET
    if rendered or not sheet.exists():
        write_contact_sheet(sheet, folders)
    else:
        reporter.say(f"{out} is complete already: nothing to do")
    return {
        "out": str(out),
        "dry_run": False,
        "rendered": rendered,
        "seconds": round(seconds, 2),
        "contact_sheet": str(sheet),
        "stores": [describe_one(folder) for folder in folders],
        "export": exported,
    }


def format_report(report: dict[str, Any]) -> str:
    """Return the report as text for people."""
    if report["dry_run"]:
        return f"{report['out']}: settings are fine"
    lines = [
        f"{store['path']}: {store['num_drives']} drives, {store['num_frames']} frames, "
        f"{store['num_triplets']} triplets kept, {store['num_triplets_dropped']} dropped, "
        f"{store['num_bytes'] / 1e6:.1f} MB; {_figures(store)}"
        for store in report["stores"]
    ]
    if report["rendered"]:
        rate = report["rendered"] / max(report["seconds"], 1e-9)
        lines.append(
            f"rendered {report['rendered']} frames in {report['seconds']:.1f} s ({rate:.1f} a s)"
        )
    lines.append(f"contact sheet: {report['contact_sheet']}")
    if report["export"] is not None:
        found = report["export"]
        lines.append(
            f"{found['path']}: the same {found['frames']} frames as Cityscapes has them, "
            f"{found['annotated']} of them annotated"
        )
    return "\n".join(lines)


def _figures(store: dict[str, Any]) -> str:
    ranges, intrinsics = store["ranges"], store["intrinsics"]
    depth, speed, moving = ranges["depth"], ranges["speed"], ranges["motion_mask"]["mean"]
    return (
        f"fx {intrinsics['fx'][0]:.0f} px, cx {intrinsics['cx'][0]:.0f}.."
        f"{intrinsics['cx'][1]:.0f} px, depth {depth['min']:.1f}..{depth['max']:.0f} m on "
        f"{depth['valid']:.0%}, speed {speed['min']:.1f}..{speed['max']:.1f} m/s, "
        f"{moving:.1%} moving pixels"
    )


def _check(
    source: CitySource, splits: Mapping[str, tuple[int, int]], seed: int, workers: int | None
) -> None:
    """Check every setting before anything is touched.

    Raises:
        UsageError: Naming the first that is wrong.
    """
    if not splits:
        raise UsageError(f"no split asked for; splits are {', '.join(SPLITS)}")
    if seed < 0 or (workers is not None and workers < 1):
        raise UsageError(f"seed {seed} and workers {workers}: expected at least 0 and 1")
    for split, (drives, frames) in splits.items():
        if drives < 1 or frames < 1:
            raise UsageError(f"split {split}: {drives} drives of {frames} frames, expected >= 1")
        source.config(world_seed(seed, split, drives - 1), frames)
