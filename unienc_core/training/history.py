"""``metrics.jsonl``: means over windows of steps, written so that a resumed file is the same."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unienc_core.errors import DataError

LONGEST_LINE = 1 << 18
"""More bytes than any line of the log has."""


class Window:
    """Running sums of logged values, kept on their device until a line is due."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add 0-d tensors to the sums."""
        for name, value in values.items():
            double = value.detach().double()
            self._sums[name] = self._sums[name] + double if name in self._sums else double
            self._counts[name] = self._counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Return the mean of each value since the last `clear`."""
        return {name: sums / self._counts[name] for name, sums in self._fetch().items()}

    def clear(self) -> None:
        """Start the next window."""
        self._sums.clear()
        self._counts.clear()

    def state(self) -> dict[str, Any]:
        """Return the sums as JSON-able numbers (exact: a double survives JSON)."""
        return {"sums": self._fetch(), "counts": dict(self._counts)}

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Continue from what `state` returned."""
        self._counts = dict(state["counts"])
        self._sums = {
            name: torch.tensor(value, dtype=torch.float64, device=device)
            for name, value in state["sums"].items()
        }

    def _fetch(self) -> dict[str, float]:
        if not self._sums:
            return {}
        numbers = torch.stack(list(self._sums.values())).tolist()
        return dict(zip(self._sums, numbers, strict=True))


class History:
    """Append-only ``metrics.jsonl``, one JSON object a line."""

    def __init__(self, path: Path, last_step: int) -> None:
        """Open `path` for appending after dropping every line beyond `last_step`."""
        _truncate_after(path, last_step)
        self._file = path.open("a", encoding="utf-8")

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line; a number that JSON cannot say becomes null."""
        self._file.write(json.dumps(plain(line)) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Force what was written onto the disk."""
        os.fsync(self._file.fileno())

    def __enter__(self) -> History:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file."""
        self._file.close()


def plain(value: Any) -> Any:
    """Return plain data in which each number that JSON cannot say has become None."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read a ``metrics.jsonl``; a last line that is still being written is left out.

    Raises:
        DataError: If there is no such file, or a line of it is not of a log.
    """
    try:
        return [_parse(line) for line in path.read_bytes().split(b"\n")[:-1]]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{path}: not a training log ({error})") from None


def last_line(path: Path) -> dict[str, Any]:
    """Return the last whole line of a ``metrics.jsonl``, empty where there is none yet.

    Raises:
        DataError: If it is not of a log.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LONGEST_LINE))
            lines = file.read().split(b"\n")[:-1]
        return _parse(lines[-1]) if lines else {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{path}: not a training log ({error})") from None


def _parse(raw: bytes) -> dict[str, Any]:
    line = plain(json.loads(raw))
    return {**line, "step": int(line["step"]), "stage": str(line["stage"])}


def _truncate_after(path: Path, last_step: int) -> None:
    """Cut the file before the first line that is beyond `last_step` or was cut short."""
    if not path.exists():
        return
    end = 0
    with path.open("rb") as file:
        for raw in file:
            try:
                if not raw.endswith(b"\n") or json.loads(raw)["step"] > last_step:
                    break
            except (ValueError, TypeError, KeyError):
                break
            end += len(raw)
    os.truncate(path, end)
