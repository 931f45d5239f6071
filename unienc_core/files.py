"""Writing so that a reader never sees half of anything, whatever happens in between."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from unienc_core.errors import ResourceError


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_path(path: Path) -> None:
    """Force a file or folder onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, content: bytes) -> None:
    """Write a new file and force it onto the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_atomic(path: Path, content: bytes) -> None:
    """Replace a file at once: readers see the old bytes or the new ones, never a mixture."""
    aside = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        write_synced(aside, content)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    fsync_path(path.parent)


def check_writable(folder: Path) -> None:
    """Check that files can be written into `folder`, which need not exist yet; leave nothing.

    Raises:
        ResourceError: If not, with the reason.
    """
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):  # permissions alone do not tell
            pass
    except OSError as error:
        raise ResourceError(f"{folder}: cannot be written ({error.strerror})") from None


def require_space(folder: Path, needed: int) -> None:
    """Check that `needed` more bytes fit on the disk of `folder`, which need not exist yet.

    Raises:
        ResourceError: If they do not, with both figures.
    """
    free = shutil.disk_usage(_existing(folder)).free
    if free < needed:
        raise ResourceError(
            f"{folder}: disk full: about {needed / 1e6:.1f} MB are needed, "
            f"{free / 1e6:.1f} MB are free; free some space or choose another folder"
        )


def _existing(folder: Path) -> Path:
    """The folder itself, or the nearest above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
