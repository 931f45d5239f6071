"""`data show`: what a store holds, from its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from unienc_core.data.label_values import describe_labels, label_lines
from unienc_core.data.manifest import KeyStats
from unienc_core.data.store import Store, is_store
from unienc_core.errors import DataError, StoreError

_MATRICES = ("K", "T_world_camera")


def describe_store(path: Path, *, verify: bool = False) -> dict[str, Any]:
    """Describe a store, or each store of a folder of stores.

    Args:
        path: The folder.
        verify: Hash every shard, too.

    Returns:
        ``{"stores": [...]}``: plain data, one entry per store: where it came from, its keys with
        dtype, shape, unit and encoding, counts, intrinsics and value ranges.

    Raises:
        DataError: If the folder does not exist.
        StoreError: If there is no store in it, or one is damaged.
    """
    if not path.exists():
        raise DataError(f"{path}: no such folder")
    if is_store(path):
        stores = [path]
    else:
        stores = sorted(p for p in path.iterdir() if is_store(p)) if path.is_dir() else []
    if not stores:
        raise StoreError(f"{path}: neither a store nor a folder of stores")
    return {"stores": [describe_one(store, verify=verify) for store in stores]}


def describe_one(path: Path, *, verify: bool = False) -> dict[str, Any]:
    """Describe one store; see `describe_store`."""
    with closing(Store(path, verify=verify)) as store:
        manifest = store.manifest
        triplets = sum(drive.num_triplets for drive in store.drives)
        possible = sum(max(0, d.num_frames - 2 * store.gap) for d in store.drives)
        is_sequence = manifest["kind"] == "drives"
        return {
            "path": str(path),
            **{k: manifest[k] for k in ("format", "version", "kind", "source", "split", "seed")},
            **{k: manifest[k] for k in ("image_size", "fps", "gap", "min_motion", "config")},
            "num_drives": len(store.drives),
            "num_frames": store.num_frames,
            "num_triplets": triplets,
            "num_triplets_dropped": possible - triplets if is_sequence else 0,
            "num_bytes": store.num_bytes,
            "digest": store.digest,
            "verified": verify,
            "keys": manifest["keys"],
            "intrinsics": _intrinsics(store),
            "ranges": _ranges(store),
            "labels": describe_labels(store),
            "drives": [
                {"name": d.name, "num_frames": d.num_frames, **d.attrs} for d in store.drives
            ],
        }


def format_description(description: dict[str, Any]) -> str:
    """Return the description as text for people."""
    return "\n\n".join(_format_store(store) for store in description["stores"])


def _format_store(store: dict[str, Any]) -> str:
    height, width = store["image_size"]
    checked = ", hashes verified" if store["verified"] else ""
    lines = [
        f"{store['path']}: {store['source']}, split '{store['split']}', seed {store['seed']}, "
        f"{store['format']} v{store['version']}{checked}",
        f"  {store['num_drives']} drives, {store['num_frames']} frames of {height}x{width} at "
        f"{store['fps']:g} Hz, {store['num_bytes'] / 1e6:.1f} MB",
        f"  {store['num_triplets']} triplets at gap {store['gap']}{_dropped(store)}",
    ]
    if store["intrinsics"]:
        parts = (f"{k} {low:.1f}..{high:.1f}" for k, (low, high) in store["intrinsics"].items())
        lines.append(f"  intrinsics in px: {', '.join(parts)}")
    rows = [("key", "dtype", "shape", "unit", "encoding", "range", "valid")]
    for name, key in store["keys"].items():
        stats = store["ranges"].get(name, {})
        known = bool(stats) and stats["min"] is not None
        rows.append(
            (
                name,
                key["dtype"],
                "x".join(str(n) for n in key["shape"]) or "1",
                key["unit"],
                key["encoding"],
                f"{stats['min']:.4g}..{stats['max']:.4g}" if known else "",
                f"{stats['valid']:.0%}" if known else "",
            )
        )
    return "\n".join([*lines, *columns(rows), *label_lines(store["labels"])])


def _dropped(store: dict[str, Any]) -> str:
    if not store["min_motion"]:
        return ""
    least = f"{store['min_motion']:g} m"
    return f", {store['num_triplets_dropped']} dropped (camera moves < {least})"


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lay out rows of cells as indented lines, every column as wide as its widest cell."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _intrinsics(store: Store) -> dict[str, list[float]]:
    """Least and greatest focal length and principal point over the first frames of all drives."""
    if "K" not in store.keys:
        return {}
    K = np.stack([store.frame(d, 0, ("K",))["K"] for d in range(len(store.drives))])
    entries = {"fx": K[:, 0, 0], "fy": K[:, 1, 1], "cx": K[:, 0, 2], "cy": K[:, 1, 2]}
    return {name: [float(v.min()), float(v.max())] for name, v in entries.items()}


def _ranges(store: Store) -> dict[str, dict[str, float | None]]:
    """Ranges of all keys over all drives, drives weighted by their frames."""
    ranges: dict[str, dict[str, float | None]] = {}
    for name, key in store.keys.items():
        if key.encoded or name in _MATRICES:
            continue
        drives = [(drive.stats[name], drive.num_frames) for drive in store.drives]
        ranges[name] = _merge(drives)
    return ranges


def _merge(parts: Sequence[tuple[KeyStats, int]]) -> dict[str, float | None]:
    weights = [stats.valid * frames for stats, frames in parts]
    total = sum(weights)
    lows = [stats.min for stats, _ in parts if stats.min is not None]
    highs = [stats.max for stats, _ in parts if stats.max is not None]
    means = [(stats.mean or 0.0) * w for (stats, _), w in zip(parts, weights, strict=True)]
    return {
        "min": min(lows, default=None),
        "max": max(highs, default=None),
        "mean": sum(means) / total if total else None,
        "valid": total / sum(frames for _, frames in parts),
    }
