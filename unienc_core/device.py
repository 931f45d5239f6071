"""Where tensors live, and what running out of room looks like to a user."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from unienc_core.errors import ResourceError, UniencError, UsageError

if TYPE_CHECKING:
    import torch

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UNWRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}
_NO_SPACE = re.compile(r"no space left on device|\(os error (28|122)\)", re.IGNORECASE)
_NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory", re.IGNORECASE)


def resolve_device(name: str = "auto") -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` into a device that exists.

    Raises:
        UsageError: If the name is none of these, or there is no such CUDA device.
    """
    import torch

    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    if name == "cpu":
        return torch.device("cpu")
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    if not match:
        raise UsageError(f"no device '{name}': expected auto, cpu, cuda or cuda:N")
    index, count = int(match[1] or 0), torch.cuda.device_count()
    if not torch.cuda.is_available() or index >= count:
        found = f"{count} CUDA devices" if torch.cuda.is_available() else "no CUDA device"
        raise UsageError(f"--device {name}: found {found}; use --device cpu or auto")
    return torch.device("cuda", index)


_LOST_WORKER = re.compile(r"DataLoader worker .* killed by signal")


@contextmanager
def resource_errors(what: str) -> Iterator[None]:
    """Turn the many faces of "memory or disk is full" into `ResourceError`.

    Args:
        what: What was being done, for the message ("training", "writing runs/a").

    Raises:
        ResourceError: In place of an out-of-memory, disk-full or not-writable error.
    """
    import torch

    try:
        yield
    except UniencError:
        raise
    except torch.OutOfMemoryError as error:
        raise ResourceError(
            f"{what}: out of GPU memory ({_line(error)}); lower the batch size or --device cpu"
        ) from error
    except MemoryError as error:
        raise ResourceError(f"{what}: out of memory; lower the batch size or workers") from error
    except OSError as error:
        path = f" at {error.filename}" if error.filename else ""
        if error.errno in _FULL:
            raise ResourceError(f"{what}: disk full{path}; free some space and repeat") from error
        if error.errno in _UNWRITABLE:
            raise ResourceError(f"{what}: not writable{path} ({error.strerror})") from error
        if error.errno == errno.ENOMEM:
            raise ResourceError(f"{what}: out of memory; lower the batch size") from error
        raise
    except Exception as error:  # libraries report both as plain errors of their own
        if _NO_SPACE.search(str(error)):
            raise ResourceError(f"{what}: disk full; free some space and repeat") from error
        if _LOST_WORKER.search(str(error)):
            raise ResourceError(
                f"{what}: a data loading process was killed, perhaps for want of memory; "
                "use fewer workers"
            ) from error
        if isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)):
            raise ResourceError(f"{what}: out of memory; lower the batch size") from error
        raise


def _line(error: BaseException) -> str:
    """The first sentence of a library's message."""
    return str(error).split("\n")[0].split(". ")[0]
