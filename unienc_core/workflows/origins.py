"""What is scored on what: the inputs that all evaluators share, and the head of their reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unienc_core.checkpoint import Checkpoint, find_checkpoint
from unienc_core.code_version import code_digest
from unienc_core.contracts import Reporter
from unienc_core.data.store import Store, resolve_store

SCHEMA = 1


def open_scored(store: Path, reporter: Reporter) -> Store:
    """Open a store, or `val` of a folder of stores, which is said then.

    Raises:
        DataError: If it is missing or damaged.
    """
    path = resolve_store(store, "val")
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


def store_origin(checkpoint: Checkpoint, store: Store) -> dict[str, Any]:
    """Return what was scored on what: `checkpoint`, `seed` and `data` of a report."""
    recorded = {name: store.manifest[name] for name in ("source", "split", "seed")}
    return {
        "checkpoint": str(checkpoint.path),
        "seed": checkpoint.state.get("seed"),
        "data": {"store": str(store.path), **recorded, "gap": store.gap, "digest": store.digest},
    }
