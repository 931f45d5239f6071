"""A small gtFine with predictions in the official formats, whose scores are known beforehand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from unienc_core.class_tables import ClassTable, cityscapes_table
from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.seg_files.instance_files import write_instances
from unienc_core.data.seg_files.label_files import write_label_ids
from unienc_core.data.seg_files.panoptic_files import write_document, write_picture
from unienc_core.data.store_writer import StoreWriter
from unienc_core.segmentation import Instance, Segment, Segmentation

SIZE = (200, 300)
ROAD, SIDEWALK, PERSON, CAR, VOID = 7, 8, 24, 26, 0
TABLE = cityscapes_table()

# What the official scripts make of `scene` and its predictions.
AP, AP50 = 0.375, 0.5
IOUS = {"road": 0.93471, "sidewalk": 0.0, "person": 1.0, "car": 1.0}


def box(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


def scene() -> np.ndarray:
    """Instance ids: a road, two cars, a group, a tiny car, void and a person who stands in it."""
    ids = np.full(SIZE, ROAD, np.uint16)
    for value, place in (
        (26000, box(20, 60, 20, 80)),
        (26001, box(20, 60, 100, 180)),
        (CAR, box(100, 140, 20, 120)),
        (26002, box(100, 105, 200, 210)),
        (VOID, box(150, 190, 200, 280)),
        (24000, box(150, 180, 20, 60)),
    ):
        ids[place] = value
    return ids


def label_ids_of(ids: np.ndarray) -> np.ndarray:
    return np.where(ids < 1000, ids, ids // 1000).astype(np.uint8)


def found_labels() -> np.ndarray:
    labels = label_ids_of(scene())
    labels[:10] = SIDEWALK
    labels[box(150, 190, 200, 280)] = CAR
    return labels


def found_instances() -> list[Instance]:
    places = (
        (0.9, box(20, 60, 20, 80)),
        (0.8, box(20, 60, 100, 160)),
        (0.7, box(20, 60, 22, 60)),
        (0.6, box(100, 140, 20, 120)),
        (0.95, box(150, 190, 200, 280)),
        (0.85, box(100, 105, 200, 210)),
        (0.5, box(0, 15, 0, 40)),
    )
    return [Instance(CAR, score, mask) for score, mask in places]


def found_segments() -> tuple[np.ndarray, tuple[Segment, ...]]:
    """The road whole, one car exactly, one by 3/4, one that is not there; no person, no tiny."""
    ids = np.full(SIZE, 1, np.int32)
    for value, place in (
        (70000, box(20, 60, 20, 80)),
        (3, box(20, 60, 100, 160)),
        (4, box(0, 15, 0, 40)),
        (5, box(150, 190, 200, 280)),
    ):
        ids[place] = value
    classes = {1: ROAD, 70000: CAR, 3: CAR, 4: CAR, 5: CAR}
    return ids, tuple(Segment(i, c) for i, c in classes.items())


def expected_panoptic() -> dict[str, dict[str, float]]:
    """PQ of `found_segments`: void is free, the group counts for nothing, two cars are missed."""
    ids, segments = found_segments()
    truth = scene()
    void = truth == VOID
    road, found = truth == ROAD, ids == 1
    iou = (road & found).sum() / ((road | found) & ~(void & found)).sum()
    # Cars: matches with IoU 1 and 3/4; 4 is a false one, 5 lies on void; the tiny one is missed.
    whole = 2 + 0.5 * 1 + 0.5 * 1
    car = {"pq": 1.75 / whole, "sq": 1.75 / 2, "rq": 2 / whole}
    nobody = {"pq": 0.0, "sq": 0.0, "rq": 0.0}
    return {"road": {"pq": iou, "sq": iou, "rq": 1.0}, "car": car, "person": nobody}


def write_png(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values)
    return path


def key_of(number: int) -> str:
    return f"ulm_{number:06d}_000019"


def write_truth(root: Path, count: int = 1, with_images: bool = False) -> Path:
    """Write `count` pictures of the same scene and return the folder to give."""
    for number in range(count):
        stem, ids = key_of(number), scene()
        folder = root / "gtFine" / "val" / "ulm"
        write_png(folder / f"{stem}_gtFine_instanceIds.png", ids)
        write_png(folder / f"{stem}_gtFine_labelIds.png", label_ids_of(ids))
        if with_images:
            image = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), np.uint8)
            write_png(root / "leftImg8bit" / "val" / "ulm" / f"{stem}_leftImg8bit.png", image)
    return root / "gtFine" / "val"


def write_predictions(folder: Path, task: str, count: int = 1, table: ClassTable = TABLE) -> Path:
    """Write the predictions of `count` pictures for a task and return their folder."""
    folder.mkdir(parents=True)
    if task == "panoptic":
        (folder / "panoptic").mkdir()
        ids, segments = found_segments()
        entries = [
            write_picture(folder / "panoptic", key_of(n), ids, segments) for n in range(count)
        ]
        write_document(folder / "panoptic.json", entries, table)
    for number in range(count):
        if task == "instance":
            write_instances(folder, key_of(number), found_instances())
        elif task == "semantic":
            write_label_ids(folder, key_of(number), found_labels())
    return folder


class Stub:
    """A predictor that says of every picture what `found_*` say."""

    classes = TABLE

    def __init__(self, tasks: tuple[str, ...] = ("panoptic", "instance", "semantic")) -> None:
        self.tasks = tasks
        self.calls = 0

    def segment(self, image: np.ndarray) -> Segmentation:
        assert image.shape == (*SIZE, 3)
        self.calls += 1
        ids, segments = found_segments()
        has = {task: task in self.tasks for task in ("panoptic", "instance", "semantic")}
        return Segmentation(
            panoptic_ids=ids if has["panoptic"] else None,
            segments=segments if has["panoptic"] else None,
            instances=tuple(found_instances()) if has["instance"] else None,
            label_ids=found_labels() if has["semantic"] else None,
        )


def write_seg_store(
    path: Path,
    drives: int = 2,
    keys: tuple[str, ...] = ("image", "semantic", "instance"),
    attrs: dict[str, str | int] | None = None,
) -> Path:
    """Write a store of drives of one frame, all of the same scene."""
    ids = scene()
    frame = {
        "image": np.full((*SIZE, 3), 90, np.uint8),
        "semantic": label_ids_of(ids),
        "instance": ids.astype(np.int32),
    }
    spec = StoreSpec(source="ulm-toy", image_size=SIZE, keys=standard_keys(*keys))
    with StoreWriter(path, spec) as writer:
        for drive in range(drives):
            frames = [{key: frame[key] for key in keys}]
            writer.add_drive(f"drive-{drive}", frames, attrs=dict(attrs or {}))
    return path
