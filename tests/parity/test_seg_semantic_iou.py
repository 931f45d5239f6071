"""Intersection over union against the benchmark's own script, from the same files."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from unienc_core.class_tables import cityscapes_table
from unienc_core.data.seg_files.label_files import read_instance_ids, read_label_ids
from unienc_core.data.seg_files.names import match_semantic
from unienc_core.errors import DataError
from unienc_core.metrics.semantic_iou import SemanticCounts, count_semantic, semantic_iou

pytestmark = pytest.mark.parity
official = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")

TABLE = cityscapes_table()
STUFF = [entry.id for entry in TABLE.evaluated if not entry.is_thing]
THINGS = [entry.id for entry in TABLE.things]
IGNORED = [entry.id for entry in TABLE.classes if entry.ignored]
SIZE = (16, 24)
NUM_CASES, PER_SET = 300, 2
MEANS = {
    "miou": "averageScoreClasses",
    "iiou": "averageScoreInstClasses",
    "category_iou": "averageScoreCategories",
    "category_iiou": "averageScoreInstCategories",
}


@pytest.fixture
def official_args(monkeypatch):
    """Settings of the official script under which it prints and writes nothing.

    It asks for a function that NumPy no longer has.
    """

    def in1d(values, wanted, invert=False):
        return np.isin(np.ravel(values), wanted, invert=invert)

    monkeypatch.setattr(np, "in1d", in1d, raising=False)
    monkeypatch.setattr(official.args, "quiet", True)
    monkeypatch.setattr(official.args, "JSONOutput", False)
    return official.args


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return predicted label ids and true instance ids."""
    rng = np.random.default_rng(seed)
    ids = np.full(SIZE, rng.choice(STUFF), np.uint16)
    for number in range(int(rng.integers(3, 10))):
        value = rng.choice([*STUFF, *IGNORED, *THINGS])
        if value in THINGS or value in (29, 30):
            value = value if rng.random() < 0.3 else value * 1000 + number
        ids[rectangle(rng, tiny=number == 5)] = value
    predicted = labels_of(np.roll(ids, rng.integers(-2, 3, 2), (0, 1)))
    for _ in range(int(rng.integers(0, 5))):
        predicted[rectangle(rng)] = rng.choice([*STUFF, *IGNORED, *THINGS])
    if seed % 5 == 0:
        predicted[predicted == 26] = rng.choice([27, 29, 33])
    if seed % 31 == 0:
        predicted[:] = 0
    if seed % 37 == 0:  # nothing that is scored, and so no object either
        ids[:] = rng.choice(IGNORED)
    return predicted, ids


def rectangle(rng: np.random.Generator, tiny: bool = False) -> tuple[slice, slice]:
    height, width = (1, 1) if tiny else rng.integers(2, 12, 2).tolist()
    top, left = (int(rng.integers(0, side)) for side in SIZE)
    return slice(top, top + height), slice(left, left + width)


def labels_of(ids: np.ndarray) -> np.ndarray:
    return np.where(ids >= 1000, ids // 1000, ids).astype(np.uint8)


def write_case(folder: Path, key: str, predicted: np.ndarray, ids: np.ndarray) -> None:
    for name, values in {
        f"true/{key}_gtFine_labelIds.png": labels_of(ids),
        f"true/{key}_gtFine_instanceIds.png": ids,
        f"predicted/{key}_leftImg8bit_labelIds.png": predicted,
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), values)


def compare(folder: Path, args) -> SemanticCounts:
    """Check that both score a folder alike, and return our counts."""
    matches = match_semantic(folder / "true", folder / "predicted")
    assert (matches.missing, matches.extra) == ((), ())
    counts = SemanticCounts.zero(TABLE)
    for pair in matches.pairs:
        assert pair.true_instances is not None
        counts += count_semantic(
            read_label_ids(pair.prediction),
            read_label_ids(pair.true_labels),
            read_instance_ids(pair.true_instances),
            TABLE,
        )
    theirs = official.evaluateImgLists(
        [str(pair.prediction) for pair in matches.pairs],
        [str(pair.true_labels) for pair in matches.pairs],
        args,
    )
    assert counts.confusion.tolist() == theirs["confMatrix"]
    ours = semantic_iou(counts, TABLE)
    for name, key in MEANS.items():
        assert as_number(ours.metrics[name]) == approx(theirs[key]), name
    for entry in TABLE.evaluated:
        scores = ours.per_class[entry.name]
        assert as_number(scores["iou"]) == approx(theirs["classScores"][entry.name])
        assert as_number(scores["iiou"]) == approx(theirs["classInstScores"][entry.name])
    return counts


def as_number(score: float | None) -> float:
    return np.nan if score is None else score


def approx(value: float):
    return pytest.approx(value, abs=1e-9, nan_ok=True)


def occurrences(predicted: np.ndarray, ids: np.ndarray) -> Counter:
    """Count which of the awkward situations a case holds."""
    true = labels_of(ids)
    scored = ~np.isin(true, IGNORED)
    sizes = Counter(ids[ids >= 1000].tolist())
    present, found = set(true[scored].tolist()), set(predicted[scored].tolist()) - set(IGNORED)
    return Counter(
        {
            "ignored class predicted": bool(np.isin(predicted[scored], IGNORED).any()),
            "scored class predicted on void": bool(not np.isin(predicted[~scored], IGNORED).all()),
            "class with only false positives": bool(found - present),
            "class with only misses": bool(present - found),
            "tiny object": 1 in sizes.values(),
            "crowd": bool(np.isin(ids, THINGS).any()),
            "object of an ignored class": any(i // 1000 in IGNORED for i in sizes),
            "object of another class of its category": bool(
                np.isin(predicted[(ids // 1000 == 26)], [27, 28, 29, 30, 31, 32, 33]).any()
            ),
            "no object": not sizes,
            "nothing scored": not scored.any(),
            "nothing predicted": not predicted.any(),
        }
    )


def test_random_pictures(tmp_path: Path, official_args):
    seen, differing = Counter(), 0
    for first in range(0, NUM_CASES, PER_SET):
        folder = tmp_path / str(first)
        for number in range(first, first + PER_SET):
            predicted, ids = random_case(number)
            seen += occurrences(predicted, ids)
            write_case(folder, f"city_{number:06d}_000019", predicted, ids)
        counts = compare(folder, official_args)
        differing += semantic_iou(counts, TABLE).metrics["iiou"] not in (0, 1, None)
    assert differing > 100
    kinds = occurrences(*random_case(0))
    assert [kind for kind in kinds if seen[kind] < 5] == []


@pytest.mark.parametrize("wrong", [34, 255])
def test_a_label_that_the_script_stops_at_is_refused(tmp_path: Path, official_args, wrong: int):
    predicted, ids = random_case(1)
    predicted[3, 4] = wrong
    write_case(tmp_path, "city_000000_000019", predicted, ids)
    with pytest.raises(DataError, match=f"prediction: holds the label id {wrong}"):
        count_semantic(predicted, labels_of(ids), ids, TABLE)
    (pair,) = match_semantic(tmp_path / "true", tmp_path / "predicted").pairs
    with pytest.raises(IndexError):
        official.evaluateImgLists([str(pair.prediction)], [str(pair.true_labels)], official_args)


@pytest.mark.data
def test_real_pictures(real_data: Path, tmp_path: Path, official_args):
    rng = np.random.default_rng(2)
    for path in sorted((real_data / "cityscapes" / "gtFine").rglob("*_gtFine_instanceIds.png")):
        ids = read_instance_ids(path)
        predicted = labels_of(np.where(rng.random(ids.shape) < 0.9, np.roll(ids, 4, 1), ids))
        swapped = rng.permutation(34).astype(np.uint8)
        predicted[:, 1500:] = swapped[predicted[:, 1500:]]
        write_case(tmp_path, path.name.removesuffix("_gtFine_instanceIds.png"), predicted, ids)
    counts = compare(tmp_path, official_args)
    assert 0.1 < as_number(semantic_iou(counts, TABLE).metrics["iiou"]) < 0.95
