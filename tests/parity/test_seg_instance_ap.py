"""AP and AP50 equal to those of cityscapesscripts, per class and over all."""

import copy
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from instance_cases import (
    NASTY,
    THINGS,
    Found,
    Picture,
    as_one_class,
    count_nasty,
    random_case,
    write_case,
)

from unienc_core.class_tables import cityscapes_table
from unienc_core.data.seg_files.instance_files import read_instances
from unienc_core.data.sets.pictures import read_codes
from unienc_core.metrics.instance_ap import average_precision, match_image

pytestmark = pytest.mark.parity

CASES, TOLERANCE = 300, 1e-6
TABLE = cityscapes_table()


@pytest.fixture
def official(monkeypatch):
    """Give a function from a folder of `write_case` to the official scores by name.

    The script needs NumPy's `in1d`, which is gone, and writes its intermediate results into the
    working directory as JSON of NumPy's numbers, which `json` refuses: it writes nothing here.
    """
    script = pytest.importorskip("cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling")
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    monkeypatch.setattr(script, "writeDict2JSON", lambda *_: None)

    def run(root: Path) -> dict:
        args = copy.copy(script.args)
        args.quiet, args.JSONOutput = True, False
        args.gtInstancesFile = str(root / "none.json")
        args.predictionPath, args.predictionWalk = str(root / "pred"), None
        truths = sorted(str(path) for path in (root / "gt").iterdir())
        predictions = [script.getPrediction(path, args) for path in truths]
        with np.errstate(invalid="ignore"):
            return script.evaluateImgLists(predictions, truths, args)["averages"]

    return run


def ours(root: Path):
    matches = []
    for path in sorted((root / "gt").iterdir()):
        ids = read_codes(path, np.uint16)
        key = path.name.removesuffix("_gtFine_instanceIds.png")
        (prediction,) = (root / "pred").glob(f"{key}*.txt")
        instances = read_instances(prediction, root / "pred", ids.shape, TABLE)
        matches.append(match_image(instances, ids, TABLE))
    return average_precision(matches, TABLE)


def assert_equal(found, expected: dict, agnostic: dict) -> None:
    def number(value):
        return np.nan if value is None else value

    pairs = {
        "ap": (found.metrics["ap"], expected["allAp"]),
        "ap50": (found.metrics["ap50"], expected["allAp50%"]),
        "ap_agnostic": (found.metrics["ap_agnostic"], agnostic["classes"]["car"]["ap"]),
        "ap50_agnostic": (found.metrics["ap50_agnostic"], agnostic["classes"]["car"]["ap50%"]),
    }
    for name, theirs in expected["classes"].items():
        mine = found.per_class[name]
        pairs |= {f"{name} {k}": (mine[k], theirs[o]) for k, o in (("ap", "ap"), ("ap50", "ap50%"))}
    assert len(pairs) == 4 + 2 * len(THINGS)
    for name, (mine, theirs) in pairs.items():
        np.testing.assert_allclose(number(mine), theirs, rtol=0, atol=TOLERANCE, err_msg=name)


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_random_cases(official, tmp_path):
    rng = np.random.default_rng(0)
    seen: Counter[str] = Counter()
    equal = unanswered = 0
    while equal < CASES:
        pictures = random_case(rng)
        root = tmp_path / f"{equal + unanswered}"
        write_case(root / "apart", pictures, rng)
        write_case(root / "one", [as_one_class(p) for p in pictures], rng)
        try:
            expected, agnostic = official(root / "apart"), official(root / "one")
        except IndexError:  # it fails where no prediction of a class is left to be sorted
            unanswered += 1
            continue
        assert_equal(ours(root / "apart"), expected, agnostic)
        seen.update(count_nasty(pictures))
        equal += 1
    assert [kind for kind in NASTY if seen[kind] < 10] == []
    assert unanswered < CASES / 3


def perturbed(ids: np.ndarray, rng: np.random.Generator) -> list[Found]:
    """Move, thin or thicken each object and group; some twice, some of another class."""
    found = []
    for value in np.unique(ids).tolist():
        label = value // 1000 or value
        if label not in (*THINGS, 29, 30):
            continue
        for _ in range(rng.choice([0, 1, 1, 1, 2])):
            mask = np.roll((ids == value).astype(np.uint8), rng.integers(-3, 4, 2), (0, 1))
            change = (cv2.erode, cv2.dilate)[rng.integers(2)]
            mask = change(mask, np.ones(rng.integers(1, 6, 2), np.uint8)) > 0
            other = int(rng.choice(THINGS)) if rng.random() < 0.2 else label
            found.append(Found(other, round(float(rng.random()), 1), mask))
    return found


@pytest.mark.data
def test_real_images(official, real_data, tmp_path):
    rng = np.random.default_rng(1)
    paths = sorted((real_data / "cityscapes" / "gtFine").rglob("*_gtFine_instanceIds.png"))
    pictures = []
    for path in paths:
        ids = read_codes(path, np.uint16)
        pictures.append(Picture(ids, perturbed(ids, rng)))
    assert len(pictures) == 4
    assert sum(len(picture.found) for picture in pictures) > 80
    write_case(tmp_path / "apart", pictures, rng)
    write_case(tmp_path / "one", [as_one_class(p) for p in pictures], rng)
    found = ours(tmp_path / "apart")
    assert_equal(found, official(tmp_path / "apart"), official(tmp_path / "one"))
    assert 0.1 < found.metrics["ap"] < found.metrics["ap50"] < 0.9
