"""Predictions that `eval_seg` exports, read and scored by the benchmark's own scripts."""

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
from panoptic_oracle import official_scores

from unienc_core.class_tables import cityscapes_table
from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.store_writer import StoreWriter
from unienc_core.segmentation import Instance, Segment, Segmentation
from unienc_core.workflows.eval_seg import eval_seg
from unienc_core.workflows.export_panoptic import export_panoptic

pytestmark = pytest.mark.parity

SIZE, PICTURES = (60, 80), 3
TABLE = cityscapes_table()
VALUES = (7, 7, 8, 11, 23, 24000, 24001, 25000, 26000, 26001, 26002, 26, 33000, 0, 29000)


def truth_of(number: int) -> np.ndarray:
    """Instance ids of blocks of 10 px."""
    rng = np.random.default_rng(number)
    coarse = rng.choice(VALUES, (SIZE[0] // 10, SIZE[1] // 10))
    return np.kron(coarse, np.ones((10, 10), np.int64)).astype(np.int32)


def labels_of(ids: np.ndarray) -> np.ndarray:
    return np.where(ids < 1000, ids, ids // 1000).astype(np.uint8)


class Slipped:
    """Says of each picture, told by its grey, the truth moved by a few pixels."""

    classes = TABLE

    def segment(self, image: np.ndarray) -> Segmentation:
        number = int(image[0, 0, 0])
        ids = np.roll(truth_of(number), (1 + number, 2), (0, 1))
        ids[labels_of(ids) == 29] = 0
        ids[ids == 26] = 26500
        segments = tuple(
            Segment(int(v), int(v) if v < 1000 else int(v) // 1000) for v in np.unique(ids) if v
        )
        return Segmentation(
            panoptic_ids=ids,
            segments=segments,
            label_ids=labels_of(ids),
            instances=tuple(
                Instance(s.category_id, 1 / (2 + place), ids == s.id)
                for place, s in enumerate(segments)
                if s.id >= 1000
            ),
        )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of a picture a drive; its ground truth lies in ``gtFine/val/toy``."""
    spec = StoreSpec(
        source="toy", image_size=SIZE, keys=standard_keys("image", "semantic", "instance")
    )
    folder = tmp_path / "gtFine" / "val" / "toy"
    folder.mkdir(parents=True)
    with StoreWriter(tmp_path / "store", spec) as writer:
        for number in range(PICTURES):
            ids = truth_of(number)
            image = np.full((*SIZE, 3), number, np.uint8)
            frame = {"image": image, "semantic": labels_of(ids), "instance": ids}
            writer.add_drive(f"drive-{number}", [frame])
            stem = str(folder / f"toy_{number:06d}_000000_gtFine")
            assert cv2.imwrite(f"{stem}_instanceIds.png", ids.astype(np.uint16))
            assert cv2.imwrite(f"{stem}_labelIds.png", labels_of(ids))
    return tmp_path / "store"


def test_panoptic(store: Path, tmp_path: Path) -> None:
    files = sorted((tmp_path / "gtFine").rglob("*_instanceIds.png"))
    export_panoptic(files, tmp_path, "val")
    ours = eval_seg(store, predictor=Slipped(), export=tmp_path / "out")
    theirs = official_scores(
        tmp_path / "cityscapes_panoptic_val.json", tmp_path / "out" / "panoptic.json"
    )
    assert 0 < ours["metrics"]["pq"] < 1
    for name, value in ours["metrics"].items():
        assert value == pytest.approx(theirs[name], abs=1e-9), name


def official(task: str, monkeypatch: pytest.MonkeyPatch):
    """Return an official script with settings under which it writes nothing."""
    script = pytest.importorskip(f"cityscapesscripts.evaluation.eval{task}LevelSemanticLabeling")
    monkeypatch.setattr(
        np, "in1d", lambda a, b, invert=False: np.isin(np.ravel(a), b, invert=invert), raising=False
    )
    monkeypatch.setattr(script, "writeDict2JSON", lambda *_: None, raising=False)
    args = copy.copy(script.args)
    args.quiet, args.JSONOutput, args.predictionWalk = True, False, None
    return script, args


def test_instances(store: Path, tmp_path: Path, monkeypatch) -> None:
    ours = eval_seg(store, predictor=Slipped(), task="instance", export=tmp_path / "out")
    script, args = official("Instance", monkeypatch)
    args.gtInstancesFile = str(tmp_path / "none.json")
    args.predictionPath = str(tmp_path / "out")
    truths = sorted(str(p) for p in (tmp_path / "gtFine").rglob("*_instanceIds.png"))
    found = [script.getPrediction(path, args) for path in truths]
    with np.errstate(invalid="ignore"):
        theirs = script.evaluateImgLists(found, truths, args)["averages"]
    assert 0 < ours["metrics"]["ap"] < 1
    assert ours["metrics"]["ap"] == pytest.approx(theirs["allAp"], abs=1e-6)
    assert ours["metrics"]["ap50"] == pytest.approx(theirs["allAp50%"], abs=1e-6)


def test_classes(store: Path, tmp_path: Path, monkeypatch) -> None:
    ours = eval_seg(store, predictor=Slipped(), task="semantic", export=tmp_path / "out")
    script, args = official("Pixel", monkeypatch)
    args.predictionPath = str(tmp_path / "out")
    truths = sorted(str(p) for p in (tmp_path / "gtFine").rglob("*_labelIds.png"))
    found = [script.getPrediction(args, path) for path in truths]
    theirs = script.evaluateImgLists(found, truths, args)
    assert 0 < ours["metrics"]["miou"] < 1
    assert ours["metrics"]["miou"] == pytest.approx(theirs["averageScoreClasses"], abs=1e-9)
    assert ours["metrics"]["iiou"] == pytest.approx(theirs["averageScoreInstClasses"], abs=1e-9)
