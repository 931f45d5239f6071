"""The folder of a store to be written: what is in it, whether there is room, who may write."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from unienc_core.data.manifest import (
    MANIFEST_NAME,
    Manifest,
    StoreSpec,
    read_manifest,
)
from unienc_core.data.shard_build import DrivePlan
from unienc_core.errors import ResourceError, StoreError, UsageError, differences

# Share of the raw bytes that is left after packing, from above: for the estimate only.
_PACKED = {"png": 0.75, "jpeg": 0.35, "gzip": 0.12, "raw": 1.0}


def existing_manifest(path: Path, spec: StoreSpec, *, force: bool) -> Manifest | None:
    """Return the manifest of the store of this spec that lies in a folder, finished or not.

    Args:
        path: The folder; it need not exist.
        spec: What is to be written there.
        force: Answer None instead of refusing a damaged store or one of another spec.

    Raises:
        UsageError: If the folder holds another store (what differs is named) or other files.
        StoreError: If its manifest is damaged.
    """
    if not (path / MANIFEST_NAME).exists():
        strangers = [p.name for p in path.iterdir() if not _is_ours(p)] if path.is_dir() else []
        if strangers:
            raise UsageError(
                f"{path}: folder is not empty and no store (it holds {strangers[0]}); "
                "choose another folder"
            )
        return None
    try:
        manifest = read_manifest(path)
    except StoreError as error:
        if force:
            return None
        raise StoreError(f"{error} (--force starts over)") from None
    found, asked = manifest.spec.model_dump(mode="json"), spec.model_dump(mode="json")
    if found == asked:
        return manifest
    if force:
        return None
    raise UsageError(
        f"{path}: holds another store: {'; '.join(differences(found, asked))}; "
        "choose another folder, or --force to start over"
    )


def clear_store(path: Path) -> None:
    """Remove the store in a folder, its manifest first, so that it never looks whole."""
    (path / MANIFEST_NAME).unlink(missing_ok=True)
    for shard in path.glob("shard-*.h5"):
        shard.unlink()


def remove_leftovers(path: Path) -> None:
    """Remove what an interrupted writer left aside."""
    for leftover in path.glob(".tmp-*"):
        leftover.unlink(missing_ok=True)


def estimate_bytes(spec: StoreSpec, plans: Iterable[DrivePlan]) -> int:
    """Estimate what drives will need on disk; those of unknown length count as nothing."""
    total = 0.0
    for plan in plans:
        size = plan.image_size or spec.image_size
        for key in spec.keys.values():
            raw = float(np.prod(key.frame_shape(size))) * np.dtype(key.dtype).itemsize
            total += raw * _PACKED[key.encoding] * (plan.num_frames or 0)
    return int(total)


def resource_error(error: OSError, path: Path, needed: int) -> ResourceError:
    """Say in one line why a folder could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ResourceError(
            f"{path}: the disk is full; about {needed / 1e6:.1f} MB are needed in all; free some "
            "space and repeat the command: what is finished is kept"
        )
    return ResourceError(f"{path}: cannot be written ({error.strerror or error})")


def _is_ours(path: Path) -> bool:
    return path.name.startswith(".tmp-") or path.match("shard-*.h5")
