"""Two cross-tested runs over the same folds, held against each other fold by fold."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unienc_core.errors import DataError, UsageError
from unienc_core.metrics.steering import fold_statistics, sign_test
from unienc_core.training.history import plain
from unienc_core.workflows.steering_fold import RESULT, fold_folder


@dataclass(frozen=True)
class Pairing:
    """What two runs must have in common for their folds to be pairs.

    Attributes:
        label: Steering label.
        stores: Digests of the stores, in order.
        folds: How many there are.
        protocol: What they are made of.
    """

    label: str
    stores: tuple[str, ...]
    folds: int
    protocol: str


@dataclass(frozen=True)
class OtherRun:
    """What another run found.

    Attributes:
        path: Its folder.
        preset: Name of what it trained.
        seed: Of its folds.
        folds: Number to result, as `run_fold` writes it.
    """

    path: Path
    preset: str
    seed: int
    folds: Mapping[int, Mapping[str, Any]]


def open_other(
    path: Path,
    pairing: Pairing,
    stride: int,
    frames: Mapping[int, Mapping[str, int]],
    out: Path,
) -> OtherRun:
    """Open another run of ``finetune-steering`` to be compared with.

    Args:
        path: Its folder.
        pairing: What it must have in common with this run.
        stride: Frames between tested windows, likewise.
        frames: Folds to compare, which it must have finished, each with how many frames it learns
            from, chooses by and is tested on here.
        out: Folder of this run.

    Raises:
        DataError: If there is no such run, it is damaged, or a fold is not finished.
        UsageError: If it is this run, or its folds are no pairs of these.
    """
    if os.path.realpath(path) == os.path.realpath(out):
        raise UsageError(f"--versus {path}: is this run itself; give the folder of another one")
    report = _read(path / RESULT, "no finished run of finetune-steering")
    try:
        found = Pairing(
            report["label"],
            tuple(store["digest"] for store in report["data"]),
            report["num_folds"],
            report["protocol"],
        )
        preset, seed = str(report["preset"]), int(report["seed"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path / RESULT}: no report of finetune-steering ({error})") from None
    for name, ours in asdict(pairing).items():
        theirs = getattr(found, name)
        if theirs != ours:
            what = "" if name == "stores" else f" ({theirs}, here {ours})"
            raise UsageError(f"--versus {path}: is about other {name}{what}; folds are no pairs")
    folds = {n: _fold(path, n, stride, counts) for n, counts in frames.items()}
    return OtherRun(path, preset, seed, folds)


def compare(results: Sequence[Mapping[str, Any]], other: OtherRun) -> dict[str, Any]:
    """Return how the test errors of folds differ from those of another run.

    Args:
        results: Of this run, see `run_fold`.
        other: Has these folds.

    Returns:
        ``{run, preset, seed, difference, against, folds}``: ``difference`` as `fold_statistics`,
        this run's error less the other's; ``against`` as `sign_test`, of which `lower` counts the
        folds in which this run has the lower error; ``folds`` the ``fold``, ``test_mse`` of the
        other run and ``difference`` of each.

    Raises:
        UsageError: If the two tested other frames.
    """
    rows: list[dict[str, Any]] = []
    for result in results:
        theirs = other.folds[result["fold"]]
        if _tested(theirs) != _tested(result):
            raise UsageError(
                f"{other.path}: fold {result['fold']} tested other frames ({theirs['num_images']}, "
                f"here {result['num_images']}); sequences must have one length and one target"
            )
        error = theirs["test"]["steering_mse"]
        difference = result["test"]["steering_mse"] - error
        rows.append({"fold": result["fold"], "test_mse": error, "difference": difference})
    differences = [row["difference"] for row in rows]
    return {
        "run": str(other.path),
        "preset": other.preset,
        "seed": other.seed,
        "difference": fold_statistics(differences),
        "against": sign_test(differences),
        "folds": rows,
    }


def format_versus(found: Mapping[str, Any]) -> str:
    """Return a comparison as a line of text."""
    difference, against = found["difference"], found["against"]
    return (
        f"test error less that of {found['run']} ({found['preset']}, seed {found['seed']}), by "
        f"fold: mean {difference['mean']:.4g}, median {difference['median']:.4g}, lower in "
        f"{against['lower']}/{against['lower'] + against['higher']}, sign test "
        f"p={against['p']:.2g}"
    )


def _fold(path: Path, number: int, stride: int, frames: Mapping[str, int]) -> dict[str, Any]:
    file = fold_folder(path, number) / RESULT
    result = _read(file, f"fold {number} of it is not finished")
    try:
        known = result["stride"]
        float(result["test"]["steering_mse"])
        _tested(result)
        counts = dict(result["frames"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: no result of a fold ({error})") from None
    if known != stride:
        raise UsageError(f"--versus {path}: tested every {known} frames, here every {stride}")
    if counts != frames:
        theirs, ours = (" + ".join(str(n) for n in part.values()) for part in (counts, frames))
        raise UsageError(
            f"--versus {path}: fold {number} learnt from, chose by and tested {theirs} frames, "
            f"here {ours}"
        )
    return result


def _tested(result: Mapping[str, Any]) -> tuple[int, float]:
    """Return what tells apart which frames were tested: their number, and their labels squared."""
    return result["num_images"], result["baselines"]["zero"]["steering_mse"]


def _read(path: Path, otherwise: str) -> dict[str, Any]:
    try:
        return plain(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: is missing: {otherwise}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
