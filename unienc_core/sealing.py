"""How a checkpoint knows that it is whole: sizes and hashes, and a state file that seals itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unienc_core.errors import CheckpointError
from unienc_core.files import fsync_path, sha256_file

MAX_STATE_BYTES = 16 * 2**20


def fingerprint(path: Path) -> dict[str, Any]:
    """Force a file onto the disk and return its size and SHA-256."""
    fsync_path(path)
    return {"bytes": path.stat().st_size, "sha256": sha256_file(path)}


def seal(state: Mapping[str, Any]) -> bytes:
    """Return JSON that carries its own hash: a flipped bit in a counter is noticed too."""
    body = json.dumps(state, sort_keys=True)
    sealed = {"sha256": hashlib.sha256(body.encode()).hexdigest(), "state": state}
    return json.dumps(sealed, sort_keys=True, indent=1).encode()


def unseal(path: Path) -> dict[str, Any]:
    """Read what `seal` returned.

    Raises:
        CheckpointError: If it is not that, or does not match its own hash.
    """
    try:
        if path.stat().st_size > MAX_STATE_BYTES:
            raise CheckpointError(f"{path}: larger than {MAX_STATE_BYTES} bytes")
        sealed = json.loads(path.read_bytes())
        state, digest = sealed["state"], sealed["sha256"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a checkpoint's state file ({error})") from None
    body = json.dumps(state, sort_keys=True)
    if hashlib.sha256(body.encode()).hexdigest() != digest:
        raise CheckpointError(f"{path}: does not match its own SHA-256: corrupt or edited")
    return state


def check_file(path: Path, files: Mapping[str, Any]) -> None:
    """Check a file against its fingerprint among those of `files`, by name.

    Raises:
        CheckpointError: If it is missing, or of another size or hash.
    """
    expected = files[path.name]
    size = path.stat().st_size if path.is_file() else None
    if size != expected["bytes"]:
        found = "missing" if size is None else f"{size} bytes"
        raise CheckpointError(f"{path}: {found}, expected {expected['bytes']} bytes: truncated?")
    if sha256_file(path) != expected["sha256"]:
        raise CheckpointError(f"{path}: SHA-256 differs from the one recorded: corrupt or edited")
