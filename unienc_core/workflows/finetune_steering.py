"""`finetune-steering`: cross-tested steering heads on one encoder, in the shape of Table IV."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unienc_core.contracts import Reporter
from unienc_core.data.folds import Fold, block_folds, recording_folds, takes_of
from unienc_core.data.grid_cache import GridCache
from unienc_core.data.labels import measured
from unienc_core.data.steering import CURVATURE, kind_of, steering_keys
from unienc_core.data.store import Store
from unienc_core.device import resolve_device, resource_errors
from unienc_core.errors import UsageError, nearest
from unienc_core.files import check_writable, write_atomic
from unienc_core.losses.steering import suggested_curve_factor
from unienc_core.models.network import Network
from unienc_core.presets import Preset
from unienc_core.training.logbook import STEPS_PER_LINE
from unienc_core.training.stages import moving_names
from unienc_core.workflows.fold_jobs import run_folds
from unienc_core.workflows.grid_cache import build_cache, grid_key
from unienc_core.workflows.steering_fold import RESULT, FoldRequest, frames_of, open_stores
from unienc_core.workflows.steering_report import make_report, protocol_of
from unienc_core.workflows.steering_scoring import (
    TERM,
    label_of,
    sequence_stream,
    steering_head,
    truth_of,
)
from unienc_core.workflows.steering_versus import Pairing, compare, open_other
from unienc_core.workflows.train import train
from unienc_core.workflows.training_module import first_network
from unienc_core.workflows.training_request import TrainingRequest, open_request
from unienc_core.workflows.training_verbs import FINETUNE_STEERING

Division = Literal["recordings", "blocks"]

VALIDATIONS = 10
"""In a run, as in the protocol: every 5 of 50 epochs."""


@dataclass(frozen=True)
class Folding:
    """How frames are divided, and which folds to do.

    Attributes:
        count: Folds.
        by: Whole recordings, or blocks of them; None for recordings where there are enough.
        only: The fold to do now, from 0; None for all.
    """

    count: int = 10
    by: Division | None = None
    only: int | None = None


def division(name: str | None) -> Division | None:
    """Return what people name a division by.

    Raises:
        UsageError: If there is none such.
    """
    if name is None or name == "recordings" or name == "blocks":
        return name
    raise UsageError(f"--by {name}: expected recordings or blocks")


def finetune_steering(
    preset: str | None,
    stores: Sequence[Path],
    *,
    folding: Folding = Folding(),  # noqa: B008 - it is frozen
    label: str | None = None,
    init: Path | None = None,
    weights: Path | None = None,
    grids: Path | None = None,
    validate_every: int | None = None,
    stride: int | None = None,
    versus: Path | None = None,
    jobs: int = 1,
    out: Path | None = None,
    overrides: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    dry_run: bool = False,
    reporter: Reporter | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train and test a steering preset fold by fold; the same call again goes on where it stopped.

    Each fold is a run folder ``out/fold-K``, the weights chosen by validation in its ``best``.

    Args:
        preset: A shipped preset's name or a YAML file; None for that of `init` if it steers, else
            for the small one with the encoder and image size of `init`.
        stores: Stores, or folders of ``prepare-data`` (their split `train` is used).
        folding: How frames are divided, and which folds to do.
        label: Steering label of the stores to learn; default: that of the preset.
        init: Checkpoint or run folder whose encoder is used.
        weights: Safetensors file that a pretrained encoder starts from.
        grids: Folder of caches, which runs with the same encoder may share; default: in `out`.
        validate_every: Steps between validations; default: a tenth of the run.
        stride: Frames from one tested window to the next; default: its length, as in the protocol.
        versus: Folder of another run over the same folds, whose test errors these are held
            against.
        jobs: Processes that folds are spread over; cores are divided among them.
        out: Folder of the folds; default: ``runs/<preset>-<seed>``, with `init` ``-tuned-``.
        overrides: ``path.to.key=value`` changes of the preset.
        seed: Decides weights, order and all other chance; the same in all folds.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dry_run: Divide, build everything and try one batch; write nothing.
        reporter: Told of progress and of what people should know.
        **options: Further arguments of `train`.

    Returns:
        See `make_report`; with `versus` see `compare`. A dry run returns that of `train`, with
        ``folds`` and ``cache_bytes``.

    Raises:
        UsageError: If the request makes no sense, a run folder holds another run, or the folds of
            `versus` are others.
        DataError: If a store is missing or holds no such label, or a fold has nothing to learn.
    """
    reporter = reporter or Reporter()
    asked = open_request(FINETUNE_STEERING, preset, overrides, init=init, weights=weights)
    opened = open_stores(stores)
    changes = [*_with_label(asked.preset, label, opened, reporter), *overrides]
    asked = open_request(FINETUNE_STEERING, preset, changes, init=init, weights=weights)
    truth = truth_of(opened, label_of(asked.preset))
    folds, by = _divide(opened, folding, reporter)
    chosen = range(len(folds)) if folding.only is None else [_checked(folding)]
    path = out or Path("runs") / f"{asked.folder_name}-{seed}"
    common = {"overrides": changes, "seed": seed, "device": device, **options}
    common |= {"init": init, "weights": weights}
    every = validate_every or _usual_interval(asked.preset)
    apart = stride or sequence_stream(asked.preset).frames
    request = FoldRequest(preset, tuple(stores), path, tuple(folds), every, (), apart, common)
    pairs = Pairing(
        label_of(asked.preset), tuple(s.digest for s in opened), len(folds), protocol_of(by)
    )
    frames = {number: frames_of(folds[number]) for number in chosen}
    other = versus and open_other(versus, pairs, apart, frames, path)
    place = resolve_device(device)
    with resource_errors("preparing the folds"):
        network = first_network(asked.preset, seed, weights, asked.started).to(place)
        frozen = _may_cache(asked.preset, network, reporter)
        if dry_run:
            return _try(request, chosen[0], asked, network if frozen else None, opened, reporter)
        check_writable(path)
        _say_random(asked, reporter)
        if frozen:
            root = grids or path / "grids"
            caches = [_cache(s, network, asked.preset, root, reporter) for s in opened]
            request = FoldRequest(**{**vars(request), "caches": tuple(caches)})
    del network
    results = run_folds(request, chosen, jobs, reporter)
    report = make_report(asked.preset, truth, results, opened, seed, len(folds), by)
    report |= {"run": str(path), "grids": bool(request.caches)}
    _write(path, report)
    if other:
        report["versus"] = compare(results, other)
        _write(path, report)
    return report


def _write(out: Path, report: Mapping[str, Any]) -> None:
    write_atomic(out / RESULT, json.dumps(report, indent=1).encode() + b"\n")


def _with_label(
    preset: Preset, label: str | None, stores: Sequence[Store], reporter: Reporter
) -> list[str]:
    """Return the changes under which a preset learns a label, with a lambda in its unit."""
    head, _ = steering_head(preset)
    if label is None or label == label_of(preset):
        return []
    kind = kind_of(label)
    if kind is None:
        known = sorted({key for store in stores for key in steering_keys(store.keys)})
        hint = nearest(label, known)
        raise UsageError(f"--label {label}: no steering label{hint}; the stores hold {known}")
    changes = [f"network.heads.{head}.options.predicts={label}"]
    for name, stream in preset.streams.items():
        if stream.kind == "sequences":
            changes.append(f"streams.{name}.labels=[{measured(label)}]")
    for name, term in preset.terms.items():
        if (term.type or name) == TERM:
            changes.append(f"terms.{name}.options.predicts={label}")
            if kind.name != CURVATURE:
                labels = np.concatenate(truth_of(stores, label).labels)
                factor = float(f"{suggested_curve_factor(labels):.3g}")
                changes.append(f"terms.{name}.options.curve_factor={factor}")
                reporter.say(
                    f"lambda of Eq. 5: {factor:g} per {kind.unit} (1.5 over the 99% quantile of "
                    f"all labels); --set terms.{name}.options.curve_factor=... is another"
                )
    return changes


def _divide(
    stores: Sequence[Store], folding: Folding, reporter: Reporter
) -> tuple[list[Fold], Division]:
    takes = takes_of(stores)
    recordings = len({take.recording for take in takes})
    by: Division = folding.by or ("recordings" if recordings >= folding.count else "blocks")
    if folding.by is None and by == "blocks":
        reporter.say(
            f"{recordings} recordings are fewer than {folding.count} folds: folds are blocks of "
            "them, with frames left out at their borders"
        )
    make = recording_folds if by == "recordings" else block_folds
    return make(takes, folding.count), by


def _checked(folding: Folding) -> int:
    number = folding.only or 0
    if not 0 <= number < folding.count:
        raise UsageError(f"--fold {number}: folds are 0 to {folding.count - 1}")
    return number


def _usual_interval(preset: Preset) -> int:
    """Return a tenth of a run in whole lines of its log."""
    return STEPS_PER_LINE * max(1, -(-preset.total_steps // (VALIDATIONS * STEPS_PER_LINE)))


def _may_cache(preset: Preset, network: Network, reporter: Reporter) -> bool:
    """Return whether all before the heads rests, and frames are taken as they are or mirrored."""
    moving = {name for stage in preset.stages for name in moving_names(network, stage)}
    if not all(name.startswith("heads.") for name in moving):
        return False
    augmented = [name for name, s in preset.streams.items() if not s.augment.flips_only]
    if augmented:
        reporter.say(
            f"streams.{augmented[0]} is augmented, so the encoder runs in every step although it "
            "rests; without jitter and shadow its grids would be made once"
        )
    return not augmented


def _say_random(asked: TrainingRequest, reporter: Reporter) -> None:
    for name, encoder in asked.preset.network.encoders.items():
        if asked.started is None and not encoder.options.get("pretrained"):
            reporter.say(
                f"encoders.{name} starts from random weights; --init RUN gives trained ones"
            )


def _cache(
    store: Store, network: Network, preset: Preset, root: Path, reporter: Reporter
) -> GridCache:
    pyramid = steering_head(preset)[1].reads[0]
    return build_cache(
        *(store, network, preset, root),
        pyramid=pyramid,
        flipped=_flips(preset),
        reporter=reporter,
    )


def _flips(preset: Preset) -> bool:
    streams = preset.streams.values()
    return any(s.augment.flip > 0 for s in streams if s.kind == "sequences")


def _try(
    request: FoldRequest,
    number: int,
    asked: TrainingRequest,
    frozen: Network | None,
    stores: Sequence[Store],
    reporter: Reporter,
) -> dict[str, Any]:
    """Try a fold live; a cache is not made, but measured."""
    size = 0
    if frozen is not None:
        pyramid = steering_head(asked.preset)[1].reads[0]
        keys = [(s, grid_key(frozen, asked.preset, s, pyramid)) for s in stores]
        size = sum(k.frame_bytes * sum(d.num_frames for d in s.drives) for s, k in keys)
        size *= 1 + _flips(asked.preset)
        reporter.say(
            f"the encoder rests: its grids would take {size / 1e6:.1f} MB, steps less time than "
            "now, where it runs"
        )
    tried = train(
        request.preset,
        request.stores,
        verb=FINETUNE_STEERING,
        out=request.folder(number),
        holdout=request.holdout(number),
        reporter=reporter,
        dry_run=True,
        **request.options,
    )
    return {**tried, "folds": len(request.folds), "cache_bytes": size}
