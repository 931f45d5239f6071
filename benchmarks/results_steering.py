"""The table of steering from frozen encoders (Table IV, Nguyen et al.)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results_rows import STEERING, Column, Row, Table
from results_shared import MASKS, SEGMENTS, published

_EVERY_FRAME = ("--stride", "1")
"""Steering is tested at every frame that has fifteen before it."""

_DONKEY = ("stages.0.steps=300", "optimizer.lr=2e-3", "streams.drives.augment.flip=0")
"""An eighth of the city's frames; labels of 0.5 in place of 13; a track whose mirror image is none
that it ever drives."""

_UNFROZEN = (
    "stages.0.trains=[heads.steering.*, encoders.main.*]",
    "optimizer.backbone_lr_factor=0.1",
    "streams.drives.batch_size=4",
    "stages.0.steps=100",
)
"""A step of it takes thirty times as long: all frames pass the encoder, and back."""


def _steering(label: str, start: Row | None = None, sets: tuple[str, ...] = (), **rest: Any) -> Row:
    """Return a row of steering from an encoder that other rows trained, or a random one."""
    return Row(label, "steering-tiny", sets, verb=STEERING, start=start, **rest)


_OTHERS = {"segmentation only": SEGMENTS, "random": None}
"""The encoders that the unified one is held against."""


def _frozen(
    place: str,
    world: str,
    label: str,
    sets: tuple[str, ...] = (),
    others: Mapping[str, Row | None] = _OTHERS,
) -> list[Row]:
    """Return the rows of one road and label: frozen encoders, ten folds."""
    words = ("--label", label, *_EVERY_FRAME)
    common: dict[str, Any] = {"sets": sets, "world": world, "options": words}
    unified = _steering(f"{place}: depth, pose, segmentation", MASKS, **common)
    return [
        unified,
        *(
            _steering(f"{place}: {name}", start, **common, against=unified)
            for name, start in others.items()
        ),
    ]


def _halves(place: str, world: str, label: str, sets: tuple[str, ...] = ()) -> list[Row]:
    """Return the rows of one road and label: the encoder frozen and not, two folds."""
    words = ("--label", label, "--folds", "2")
    common: dict[str, Any] = {"world": world, "options": words}
    frozen = _steering(f"{place}, 2 folds: frozen", MASKS, sets, **common)
    common["options"] = (*words, "--validate-every", "50")
    free = (*sets, *_UNFROZEN)
    unfrozen = _steering(f"{place}, 2 folds: unfrozen", MASKS, free, **common, against=frozen)
    return [frozen, unfrozen]


_BASELINES = (
    *("zero", "train_mean", "persistence_1_frame"),
    *("persistence_500_ms", "persistence_1000_ms", "persistence_2000_ms"),
)

STEERING_TABLE = Table(
    title="Steering",
    caption=(
        "Steering from sixteen frames by an attentive head on a small encoder that stays as it "
        "is: the one that learnt depth, pose and segmentation of 40 synthetic cities, the one "
        "that learnt segmentation only (both of the table of segmentation), and a random one. "
        "Ten folds, of whole drives on 1,000 short drives through other synthetic cities, and of "
        "blocks with gaps on the real recording of a Donkey car on its indoor track. Curvature "
        "in 1/km, 5 m ahead and at the car; the Donkey car's command in -1..1. Mean squared "
        "errors over the frames that have fifteen before them (with two folds over windows that "
        "do not overlap), weights chosen by validation; "
        "sd over folds (ddof=0). Persistence knows a label of that age; no network sees one. "
        "The unfrozen encoder and the frozen one beside it are tested in two folds, each "
        "trained on half of the frames; the unfrozen one for 100 steps of 4 windows, the frozen "
        "for 800 (city) or 300 (Donkey car) of 10."
    ),
    world="city",
    rows=(
        *_frozen("city, 5 m ahead", "drives", "curvature_5m"),
        *_frozen("city, at the car", "drives", "curvature", others={"random": None}),
        *_frozen("Donkey car", "donkey", "steering_unit", _DONKEY),
        *_halves("city, 5 m ahead", "drives", "curvature_5m"),
        *_halves("Donkey car", "donkey", "steering_unit", _DONKEY),
    ),
    columns=(
        Column("train MSE", "metrics.train_mse.mean"),
        Column("test MSE", "metrics.test_mse.mean"),
        Column("sd", "metrics.test_mse.std"),
        Column("median", "metrics.test_mse.median"),
        Column(
            "of the mean's",
            "metrics.test_mse.mean",
            over="baselines.train_mean.test_mse.mean",
        ),
        Column("folds below the mean", "baselines.train_mean.against.lower"),
        Column("zero", "baselines.zero.test_mse.mean"),
        Column("mean", "baselines.train_mean.test_mse.mean"),
        Column("persistence, 1 frame", "baselines.persistence_1_frame.test_mse.mean"),
        *(
            Column(f"{ms / 1000:g} s", f"baselines.persistence_{ms}_ms.test_mse.mean")
            for ms in (500, 1000, 2000)
        ),
    ),
    scored_by=STEERING,
    own_baselines=_BASELINES,
    published={
        f"{label}, MIT drives, (1/km)^2": published(("train MSE", "test MSE", "sd"), figures)
        for label, figures in (
            ("Nguyen et al., ImageNet, frozen", "2.91 11.03 10.03"),
            ("Nguyen et al., unfrozen", "9.62 16.46 11.13"),
            ("Nguyen et al., frozen", "1.64 5.41 6.06"),
            ("LSTM (Lechner et al.)", "0.19 3.17 3.85"),
        )
    },
)
