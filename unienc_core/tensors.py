"""Tensors on disk: safetensors, with limits checked before anything is parsed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from unienc_core.errors import CheckpointError

MAX_HEADER_BYTES = 16 * 2**20
MAX_TENSORS = 100_000


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors of any device; those that share memory are written out each."""
    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        start = value.untyped_storage().data_ptr()
        plain[name] = value.clone() if start in seen else value
        seen.add(start)
    path.touch()
    mode = path.stat().st_mode
    safetensors.torch.save_file(plain, path)
    path.chmod(mode)  # the library makes files that only their owner may read


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a file (CPU).

    Raises:
        CheckpointError: If the file is no safetensors file, or beyond the limits.
    """
    try:
        _check_header(path)
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: not readable as safetensors ({error})") from None


def _check_header(path: Path) -> None:
    """Refuse a header so large that merely parsing it would hurt."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        limit = min(MAX_HEADER_BYTES, path.stat().st_size - 8)
        if length > limit:
            raise CheckpointError(f"{path}: claims a header of {length} bytes, at most {limit}")
        count = file.read(length).count(b'"data_offsets"')
    if count > MAX_TENSORS:
        raise CheckpointError(f"{path}: {count} tensors, at most {MAX_TENSORS}")
