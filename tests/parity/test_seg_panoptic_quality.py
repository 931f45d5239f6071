"""Panoptic quality against the benchmark's own scripts, from the same files."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from panoptic_cases import Picture, random_case
from panoptic_oracle import TABLE, official_scores, our_counts, write_set

from unienc_core.data.seg_files.label_files import read_instance_ids
from unienc_core.data.seg_files.panoptic_files import write_document, write_picture
from unienc_core.data.sets.panoptic import INSTANCE_SUFFIX
from unienc_core.errors import DataError
from unienc_core.metrics.panoptic_quality import (
    PanopticCounts,
    instance_segments,
    panoptic_quality,
)
from unienc_core.workflows.export_panoptic import export_panoptic

pytestmark = pytest.mark.parity

NUM_CASES, PER_SET = 300, 2


def assert_equal(counts: PanopticCounts, expected: dict) -> None:
    ours = panoptic_quality(counts, TABLE)
    for name, value in ours.metrics.items():
        assert value == pytest.approx(expected[name], abs=1e-9), name
    counted = {name: s for name, s in ours.per_class.items() if s["pq"] is not None}
    assert counted.keys() == expected["per_class"].keys()
    for name, scores in counted.items():
        assert scores == pytest.approx(expected["per_class"][name], abs=1e-9), name


def occurrences(predicted: Picture, true: Picture) -> Counter:
    """Count which of the awkward situations a case holds."""
    seen = Counter()
    crowds = [c for c, crowd in true.classes.values() if crowd]
    seen["crowd"] = bool(crowds)
    seen["crowds of two classes"] = len(set(crowds)) > 1
    seen["two crowds of a class"] = len(crowds) > len(set(crowds))
    seen["void predicted"] = bool((predicted.ids == 0).any())
    seen["nothing predicted"] = not predicted.classes
    seen["true id over 65535"] = max(true.classes, default=0) > 65535
    seen["predicted id over 65535"] = max(predicted.classes, default=0) > 65535
    found, present = ({c for c, _ in p.classes.values()} for p in (predicted, true))
    seen["class with only false positives"] = bool(found - present)
    for name, (category, _) in predicted.classes.items():
        mask = predicted.ids == name
        seen["tiny"] += int(mask.sum()) == 1
        seen["more than half void"] += (true.ids[mask] == 0).mean() > 0.5
        seen["exactly half void"] += (true.ids[mask] == 0).mean() == 0.5
        for value, (true_category, crowd) in true.classes.items():
            other = true.ids == value
            union = ((mask | other) & ~(mask & (true.ids == 0))).sum()
            same = category == true_category
            seen["IoU of exactly 0.5"] += same and not crowd and 2 * (mask & other).sum() == union
            seen["mostly on a crowd of its class"] += same and crowd and other[mask].mean() > 0.5
    return seen


def test_random_pictures(tmp_path: Path):
    seen, total, differing = Counter(), PanopticCounts.zero(TABLE), 0
    for first in range(0, NUM_CASES, PER_SET):
        cases = {f"city_{n:06d}_000019": random_case(n) for n in range(first, first + PER_SET)}
        for predicted, true in cases.values():
            seen += occurrences(predicted, true)
        folder = tmp_path / str(first)
        predicted = write_set(folder / "predicted", {k: case[0] for k, case in cases.items()})
        true = write_set(folder / "true", {k: case[1] for k, case in cases.items()})
        counts = our_counts(true, predicted)
        assert_equal(counts, official_scores(true, predicted))
        total += counts
        differing += panoptic_quality(counts, TABLE).metrics["pq"] not in (0, 1, None)
    assert differing > 100
    for kind in (
        "crowd", "crowds of two classes", "two crowds of a class", "void predicted",
        "nothing predicted", "true id over 65535", "predicted id over 65535",
        "class with only false positives", "tiny", "more than half void", "exactly half void",
        "IoU of exactly 0.5", "mostly on a crowd of its class",
    ):  # fmt: skip
        assert seen[kind] >= 5, kind
    assert min(total.tp.sum(), total.fp.sum(), total.fn.sum()) > 300


@pytest.mark.parametrize("seed", range(5))
def test_what_the_scripts_stop_at_is_refused(tmp_path: Path, seed: int):
    """An ignored class predicted, an id without segment, a segment without pixels."""
    faults = Counter()
    for number, fault in enumerate(("ignored", "unlisted", "unpainted")):
        predicted, true = random_case(31 + seed)
        value = next(iter(predicted.classes))
        if fault == "ignored":
            predicted.classes[value] = (int(np.random.default_rng(seed).choice([0, 3, 29])), False)
        elif fault == "unlisted":
            del predicted.classes[value]
        else:
            predicted.classes[12_345_678] = (26, False)
        folder = tmp_path / str(number)
        files = [
            write_set(folder / name, {"a": picture})
            for name, picture in (("true", true), ("predicted", predicted))
        ]
        with pytest.raises(KeyError):
            official_scores(*files)
        with pytest.raises(DataError) as caught:
            our_counts(*files)
        assert "\n" not in str(caught.value)
        faults[fault] += 1
    assert len(faults) == 3


def spoil(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the instance ids of a prediction: moved, torn at borders, some wrong or lost."""
    moved = np.roll(ids, (3, 5), (0, 1))
    rows = np.arange(len(ids))[:, None] % 7 < 3
    predicted = np.where(rows, moved, ids)
    ignored = [entry.id for entry in TABLE.classes if entry.ignored]
    predicted[np.isin(predicted, ignored) | np.isin(predicted // 1000, ignored)] = 0
    stripes = np.arange(ids.shape[1]) % 40 < 20
    for value in np.unique(predicted).tolist():
        mask, luck = predicted == value, rng.random()
        if luck < 0.1:
            predicted[mask] = 0
        elif luck < 0.3:
            predicted[mask if luck < 0.2 else mask & stripes] = 33_100 + value % 100
    return predicted


@pytest.mark.data
def test_real_pictures(real_data: Path, tmp_path: Path):
    files = sorted((real_data / "cityscapes" / "gtFine").rglob("*" + INSTANCE_SUFFIX))
    true = Path(export_panoptic(files, tmp_path / "true", "val")["path"])
    (tmp_path / "predicted" / "ours").mkdir(parents=True)
    annotations, rng = [], np.random.default_rng(1)
    for path in files:
        ids = spoil(read_instance_ids(path), rng)
        segments = [segment for segment in instance_segments(ids, TABLE) if segment.id]
        key = path.name.removesuffix(INSTANCE_SUFFIX)
        annotations.append(write_picture(tmp_path / "predicted" / "ours", key, ids, segments))
    predicted = tmp_path / "predicted" / "ours.json"
    write_document(predicted, annotations, TABLE)
    counts = our_counts(true, predicted)
    assert_equal(counts, official_scores(true, predicted))
    assert min(counts.tp.sum(), counts.fp.sum(), counts.fn.sum()) > 10

    labels = tmp_path / "labels"
    labels.mkdir()
    for path in files:
        (labels / path.name).symlink_to(path)
    alike = our_counts(labels, predicted)
    for name in ("iou_sum", "tp", "fp", "fn"):
        np.testing.assert_array_equal(getattr(alike, name), getattr(counts, name))
