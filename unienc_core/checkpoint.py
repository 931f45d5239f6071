"""Checkpoints: a directory written aside, forced to disk and renamed once.

``step-0001200/`` holds ``model.safetensors`` (all that inference needs), ``optimizer.safetensors``
(what else training needs), ``preset.yaml`` and ``state.json`` with the size and SHA-256 of the
other three. `torch.load` is never called.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from unienc_core.contracts import Say, say_nothing
from unienc_core.device import resource_errors
from unienc_core.errors import CheckpointError, DataError, UsageError
from unienc_core.files import fsync_path, require_space, write_synced
from unienc_core.presets import Preset, dump_preset, preset_from_dict
from unienc_core.safe_yaml import parse_yaml
from unienc_core.sealing import check_file, fingerprint, seal, unseal
from unienc_core.tensors import read_tensors, write_tensors

FORMAT = 1
MODEL, OPTIMIZER = "model.safetensors", "optimizer.safetensors"
PRESET, STATE = "preset.yaml", "state.json"
ENVIRONMENT_VARIABLE = "UNIENC_CHECKPOINT"

_STEP_NAME = re.compile(r"step-(\d+)")
_TEMPORARY = ".tmp-"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose ``state.json`` was read and found whole; tensors are read when asked.

    Attributes:
        path: Its directory.
        preset: The resolved preset it was trained with.
        state: What ``state.json`` says: ``step``, counters, hashes.
    """

    path: Path
    preset: Preset
    state: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Finished training steps."""
        return int(self.state["step"])

    def model_tensors(self) -> dict[str, Tensor]:
        """Read the network's tensors (CPU), after checking size and hash."""
        return self._read(MODEL)

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """Read what only training needs (CPU), after checking size and hash."""
        return self._read(OPTIMIZER)

    def _read(self, name: str) -> dict[str, Tensor]:
        check_file(self.path / name, self.state["files"])
        return read_tensors(self.path / name)


def save_checkpoint(
    folder: Path,
    *,
    preset: Preset,
    model: Mapping[str, Tensor],
    optimizer: Mapping[str, Tensor],
    state: Mapping[str, Any],
) -> Path:
    """Write ``folder/step-<state['step']>`` and return it; on failure nothing is left behind.

    Args:
        folder: The run's ``checkpoints`` folder; made if absent.
        preset: Resolved preset.
        model: The network's state.
        optimizer: What else training goes on from: optimiser and objective state, live weights.
        state: JSON-able; must hold ``step``.

    Raises:
        ResourceError: If the disk is full or not writable.
    """
    require_space(folder, sum(tensor.nbytes for tensor in (*model.values(), *optimizer.values())))
    final = folder / f"step-{state['step']:07d}"
    aside = folder / f"{_TEMPORARY}{final.name}-{os.getpid()}"
    with resource_errors(f"saving {final}"):
        try:
            aside.mkdir(parents=True)
            write_tensors(aside / MODEL, model)
            write_tensors(aside / OPTIMIZER, optimizer)
            write_synced(aside / PRESET, dump_preset(preset).encode())
            files = {name: fingerprint(aside / name) for name in (MODEL, OPTIMIZER, PRESET)}
            write_synced(aside / STATE, seal({"format": FORMAT, **state, "files": files}))
            fsync_path(aside)
            aside.rename(final)
            fsync_path(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return final


def load_checkpoint(path: Path, say: Say = say_nothing) -> Checkpoint:
    """Open a checkpoint directory, its ``model.safetensors``, or a run folder (the newest one).

    Args:
        path: Any of the three.
        say: Told of every damaged one that is passed over in a run folder.

    Raises:
        DataError: If nothing is there.
        CheckpointError: If it is no checkpoint, of another format, or damaged.
    """
    if not path.exists():
        raise DataError(f"{path}: no such checkpoint")
    if path.is_file():
        if path.name != MODEL:
            raise CheckpointError(
                f"{path}: expected a checkpoint folder, its {MODEL}, or a run folder"
            )
        path = path.parent
    if not (path / STATE).exists() and (path / "checkpoints").is_dir():
        return newest_checkpoint(path / "checkpoints", (MODEL,), say)
    if not (path / STATE).exists() and not (path / MODEL).exists():
        folds = sorted(path.glob("fold-*/best"))
        raise DataError(
            f"{path}: no checkpoint lies here; expected "
            + (
                f"that of one fold, such as {folds[0]}"
                if folds
                else f"a checkpoint folder, its {MODEL}, or a run folder"
            )
        )
    return _open(path)


def newest_checkpoint(
    folder: Path, files: Sequence[str] = (MODEL, OPTIMIZER), say: Say = say_nothing
) -> Checkpoint:
    """Return the newest checkpoint in `folder` whose `files` are intact.

    Args:
        folder: A run's ``checkpoints`` folder.
        files: The files that will be read.
        say: Told of every damaged one that is passed over.

    Raises:
        CheckpointError: If there is none.
    """
    for path in reversed(list_checkpoints(folder)):
        try:
            checkpoint = _open(path)
            for name in files:
                check_file(path / name, checkpoint.state["files"])
            return checkpoint
        except CheckpointError as error:
            say(f"skipping a damaged checkpoint: {error}")
    raise CheckpointError(f"{folder}: no intact checkpoint; train first, or give another one")


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoint directories in `folder`, oldest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _STEP_NAME.fullmatch(path.name)]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the finished steps of a checkpoint directory, which its name tells."""
    return int(checkpoint.name.removeprefix("step-"))


def remove_unfinished(folder: Path) -> list[str]:
    """Delete what a killed writer left aside in `folder` and return the names."""
    if not folder.is_dir():
        return []
    stale = sorted(path for path in folder.iterdir() if path.name.startswith(_TEMPORARY))
    for path in stale:
        shutil.rmtree(path, ignore_errors=True)
    return [path.name for path in stale]


def set_aside(folder: Path, after: int) -> list[str]:
    """Rename the (damaged) checkpoints beyond step `after`, so that their places are free.

    Returns:
        Their new names; nothing is deleted but an earlier ``damaged-`` of the same step.
    """
    renamed: list[str] = []
    for path in list_checkpoints(folder):
        if step_of(path) > after:
            damaged = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(damaged, ignore_errors=True)
            path.rename(damaged)
            renamed.append(damaged.name)
    return renamed


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints."""
    remove_checkpoints(list_checkpoints(folder)[:-keep])


def remove_checkpoints(paths: Sequence[Path]) -> None:
    """Delete checkpoints, each at once for who reads beside."""
    for path in paths:
        # Renamed first: a checkpoint that is half deleted must not look like one.
        doomed = path.with_name(f"{_TEMPORARY}{path.name}")
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def find_checkpoint(
    explicit: Path | None = None, runs: Path = Path("runs"), say: Say = say_nothing
) -> Checkpoint:
    """Find the checkpoint to use: `explicit`, ``UNIENC_CHECKPOINT``, the newest finished run.

    Args:
        explicit: What the user named: a checkpoint folder, its model file, or a run folder.
        runs: Where runs lie.
        say: Told of every damaged checkpoint that is passed over.

    Raises:
        UsageError: If there is none to be found.
    """
    named = explicit or (Path(value) if (value := os.environ.get(ENVIRONMENT_VARIABLE)) else None)
    if named is not None:
        return load_checkpoint(named, say)
    finished = [path.parent for path in runs.glob("*/run.json") if _finished_at(path) is not None]
    if not finished:
        raise UsageError(
            f"no checkpoint: give --checkpoint, set {ENVIRONMENT_VARIABLE}, or train one "
            f"(no finished run in {runs}/)"
        )
    newest = max(finished, key=lambda path: _finished_at(path / "run.json") or 0.0)
    return load_checkpoint(newest, say)


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy `tensors` into `module`; every name and shape must fit.

    Raises:
        CheckpointError: Naming the first keys that do not fit, with both shapes.
    """
    own = module.state_dict()
    faults = [f"{key} is missing" for key in own if key not in tensors]
    faults += [f"{key} is not in the network" for key in tensors if key not in own]
    faults = [
        f"{key} is {list(tensors[key].shape)}, the network has {list(own[key].shape)}"
        for key in own
        if key in tensors and tensors[key].shape != own[key].shape
    ] + faults
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise CheckpointError(
            f"{where} does not fit the network: {'; '.join(faults[:3])}{more}; "
            "use the preset it was trained with"
        )
    module.load_state_dict(dict(tensors))


def _open(path: Path) -> Checkpoint:
    state = unseal(path / STATE)
    if state.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: checkpoint format {state.get('format')}, this version reads {FORMAT}"
        )
    check_file(path / PRESET, state["files"])
    raw = parse_yaml((path / PRESET).read_text(encoding="utf-8"), str(path / PRESET))
    return Checkpoint(path, preset_from_dict(raw, str(path / PRESET)), state)


def _finished_at(run_json: Path) -> float | None:
    try:
        record = json.loads(run_json.read_text(encoding="utf-8"))
        return None if record["finished_at"] is None else float(record["finished_at"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
