"""Panoptic ground truth: by hand, and equal to what the official converter writes."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from unienc_core.classes import IGNORE_TRAIN_ID, LABELS
from unienc_core.data.sets.panoptic import (
    INSTANCE_SUFFIX,
    panoptic_categories,
    panoptic_picture,
    panoptic_segments,
)
from unienc_core.errors import DataError, UsageError
from unienc_core.workflows.export_panoptic import export_panoptic


def write_ids(root: Path, split: str, city: str, ids: np.ndarray, frame: int = 19) -> Path:
    folder = root / "gtFine" / split / city
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{city}_000000_{frame:06d}{INSTANCE_SUFFIX}"
    assert cv2.imwrite(str(path), ids)
    return path


def street() -> np.ndarray:
    """Road, an unlabelled patch, two cars, a group of cars, a caravan, sky; 40 x 60."""
    ids = np.full((40, 60), 7, np.uint16)
    ids[:10] = 23
    ids[12:20, 5:15] = 26000
    ids[14:24, 30:50] = 26001
    ids[30:34, 2:12] = 26
    ids[30:34, 20:30] = 29000
    ids[36:38, 40:44] = 0
    return ids


def read_ids(path: Path) -> np.ndarray:
    bgr = cv2.imread(str(path)).astype(np.int64)
    return bgr[..., 2] + 256 * bgr[..., 1] + 65536 * bgr[..., 0]


def equals_the_official_tool(root: Path, split: str, tmp_path: Path) -> int:
    official = pytest.importorskip("cityscapesscripts.preparation.createPanopticImgs")
    (tmp_path / "theirs").mkdir()
    official.convert2panoptic(str(root / "gtFine"), str(tmp_path / "theirs"), False, [split])
    files = list((root / "gtFine" / split).rglob("*" + INSTANCE_SUFFIX))
    report = export_panoptic(files, tmp_path / "ours", split)
    name = f"cityscapes_panoptic_{split}"
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    assert (ours / f"{name}.json").read_bytes() == (theirs / f"{name}.json").read_bytes()
    pictures = sorted(path.name for path in (theirs / name).iterdir())
    assert pictures == sorted(path.name for path in (ours / name).iterdir())
    for picture in pictures:
        np.testing.assert_array_equal(
            read_ids(ours / name / picture), read_ids(theirs / name / picture)
        )
    return report["segments"]


def test_segments_by_hand():
    segments = panoptic_segments(street())
    by_id = {segment["id"]: segment for segment in segments}
    assert [segment["id"] for segment in segments] == [7, 23, 26, 26000, 26001]
    assert by_id[26000] == {
        "id": 26000, "category_id": 26, "area": 80, "bbox": [5, 12, 10, 8], "iscrowd": 0
    }  # fmt: skip
    assert (by_id[26]["iscrowd"], by_id[26]["area"], by_id[26]["bbox"]) == (1, 40, [2, 30, 10, 4])
    assert (by_id[23]["iscrowd"], by_id[23]["area"]) == (0, 600)
    assert by_id[7]["area"] == 2400 - 600 - 80 - 200 - 40 - 40 - 8


def test_colours_are_ids_and_what_is_not_evaluated_is_black():
    ids = street()
    picture = panoptic_picture(ids, panoptic_segments(ids)).astype(int)
    assert tuple(picture[13, 6]) == (26000 % 256, 26000 // 256, 0)
    painted = picture[..., 0] + 256 * picture[..., 1]
    np.testing.assert_array_equal(painted, np.where(np.isin(ids, (0, 29000)), 0, ids))


def test_an_id_of_no_label_is_refused():
    ids = street()
    ids[0, 0] = 34
    with pytest.raises(DataError, match="holds the id 34"):
        panoptic_segments(ids, "a.png")
    ids[0, 0] = 34_001
    with pytest.raises(DataError, match="34001"):
        panoptic_segments(ids, "a.png")


def test_a_repeated_export_does_nothing_and_another_one_is_refused(tmp_path: Path):
    one = write_ids(tmp_path, "val", "bonn", street())
    two = write_ids(tmp_path, "val", "ulm", street())
    out = tmp_path / "out"
    assert export_panoptic([two, one], out, "val")["made"] == 2
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    again = export_panoptic([one, two], out, "val")
    assert (again["made"], again["images"], again["segments"]) == (0, 2, 10)
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before
    with pytest.raises(UsageError, match="holds 2 images, not the 1 asked for"):
        export_panoptic([one], out, "val")
    assert export_panoptic([one], out, "val", force=True)["made"] == 1
    assert len(list(out.rglob("*.png"))) == 1


def test_an_interrupted_export_is_finished_by_the_next(tmp_path: Path):
    path = write_ids(tmp_path, "val", "bonn", street())
    out = tmp_path / "out"
    export_panoptic([path], out, "val")
    (picture,) = out.rglob("*.png")
    content = picture.read_bytes()
    picture.unlink()
    assert export_panoptic([path], out, "val")["made"] == 1
    assert picture.read_bytes() == content


def test_an_8_bit_image_is_refused_and_nothing_looks_whole(tmp_path: Path):
    good = write_ids(tmp_path, "val", "bonn", street())
    bad = write_ids(tmp_path, "val", "ulm", (street() % 256).astype(np.uint8))
    with pytest.raises(DataError, match="16 bits"):
        export_panoptic([good, bad], tmp_path / "out", "val")
    assert not list((tmp_path / "out").glob("*.json"))


@pytest.mark.parity
def test_the_label_table_is_the_official_one():
    official = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    theirs = [
        (x.id, x.name, x.category, x.hasInstances, x.ignoreInEval, x.color)
        for x in sorted(official, key=lambda x: x.id)
    ]
    ours = [
        (x.id, x.name, x.category, x.has_instances, x.train_id == IGNORE_TRAIN_ID, x.color)
        for x in LABELS
    ]
    assert ours == theirs
    train_ids = {x.id: x.trainId for x in official if not x.ignoreInEval}
    assert {x.id: x.train_id for x in LABELS if x.train_id != IGNORE_TRAIN_ID} == train_ids


@pytest.mark.parity
def test_equals_the_official_tool_on_a_street(tmp_path: Path):
    write_ids(tmp_path, "val", "bonn", street())
    write_ids(tmp_path, "val", "bonn", np.full((8, 9), 3, np.uint16), frame=20)
    noise = np.random.default_rng(0).choice([0, 8, 24, 25, 24002, 25017, 33999, 31000], (30, 20))
    write_ids(tmp_path, "val", "aachen", noise.astype(np.uint16))
    assert equals_the_official_tool(tmp_path, "val", tmp_path) == 5 + 0 + 7
    assert len(panoptic_categories()) == 19


@pytest.mark.data
@pytest.mark.parity
@pytest.mark.parametrize(("split", "images"), [("train", 3), ("val", 1)])
def test_equals_the_official_tool_on_real_images(
    real_data: Path, tmp_path: Path, split: str, images: int
):
    assert equals_the_official_tool(real_data / "cityscapes", split, tmp_path) > 20 * images
    name = f"cityscapes_panoptic_{split}"
    document = json.loads((tmp_path / "ours" / f"{name}.json").read_text())
    assert len(document["images"]) == images
