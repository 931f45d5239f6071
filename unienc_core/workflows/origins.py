"""What is scored on what: the inputs that all evaluators share, and the head of their reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from unienc_core.checkpoint import Checkpoint, find_checkpoint
from unienc_core.code_version import code_digest
from unienc_core.contracts import Reporter
from unienc_core.data.manifest import read_manifest
from unienc_core.data.store import Store, is_store, resolve_store

SCHEMA = 1


def find_split(folder: Path, split: str, keys: Iterable[str]) -> Path | None:
    """Find what a folder of stores holds of a split: its labelled images, or its triplets.

    Args:
        folder: Of the stores.
        split: Name of the store of triplets; that of labelled images ends in ``-labelled``.
        keys: What frames must hold.

    Returns:
        The labelled images, which are what data sets score, or else the triplets: whichever
        declares `keys`. If neither does, what there is, triplets first; None if nothing is.

    Raises:
        StoreError: If a manifest cannot be read.
    """
    found = [path for name in (f"{split}-labelled", split) if is_store(path := folder / name)]
    wanted = set(keys)
    fitting = (path for path in found if wanted <= read_manifest(path).spec.keys.keys())
    return next(fitting, found[-1] if found else None)


def open_scored(store: Path, reporter: Reporter, keys: Sequence[str] = ()) -> Store:
    """Open a store, or the validation split of a folder of stores, which is said then.

    Args:
        store: The store, or the folder.
        reporter: Takes the remark.
        keys: What frames must hold, to choose between triplets and labelled images as `find_split`
            does; without any, triplets are taken.

    Raises:
        DataError: If it is missing or damaged.
    """
    inside = find_split(store, "val", keys) if keys and not is_store(store) else None
    path = inside or resolve_store(store, "val")
    if path != store:
        reporter.say(f"evaluating on {path}")
    return Store(path)


def open_scorer(checkpoint: Path | None, reporter: Reporter) -> Checkpoint:
    """Open a checkpoint; which one is said where none was named.

    Raises:
        UsageError: If none is to be found.
        IntegrityError: If it is damaged.
    """
    found = find_checkpoint(checkpoint, say=reporter.say)
    if checkpoint is None:
        reporter.say(f"using the checkpoint {found.path}")
    return found


def report_head(verb: str, protocol: str) -> dict[str, Any]:
    """Return how every report begins: its schema, what was run, and by which code."""
    return {"schema": SCHEMA, "verb": verb, "protocol": protocol, "code": code_digest()}


def store_origin(checkpoint: Checkpoint | None, store: Store) -> dict[str, Any]:
    """Return what was scored on what: `checkpoint`, `seed` and `data` of a report.

    Args:
        checkpoint: What was scored; None where it was no checkpoint.
        store: On what.
    """
    recorded = {name: store.manifest[name] for name in ("source", "split", "seed")}
    return {
        "checkpoint": None if checkpoint is None else str(checkpoint.path),
        "seed": None if checkpoint is None else checkpoint.state.get("seed"),
        "data": {"store": str(store.path), **recorded, "gap": store.gap, "digest": store.digest},
    }
