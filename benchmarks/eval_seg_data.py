"""Frames of cities with predictions for the three segmentation tasks, in the official formats.

Predictions are the truth with its borders moved smoothly, objects lost, found twice and taken for
another class, and patches of a wrong class: coherent regions, as networks predict them. All PNGs
are written by Pillow as it sees fit, and the panoptic truth by the official tool, so that no side
reads files made for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from unienc_core.class_tables import cityscapes_table
from unienc_core.data.synthcity import City, CityConfig

FRAMES_A_CITY = 5
MIN_SINGLE = 30
"""Objects of fewer pixels are part of a group, as where annotators cannot tell them apart."""

MASKS = 40
"""Predicted objects of a frame."""

_SPLIT = "cityscapes_panoptic_val"


@dataclass(frozen=True)
class Files:
    """Where the files of a benchmark lie, below one folder."""

    root: Path

    @property
    def labels(self) -> Path:
        """Folder of the true label ids and instance ids."""
        return self.root / "gtFine" / "val" / "bench"

    @property
    def panoptic(self) -> Path:
        """Folder of the panoptic truth."""
        return self.root / "panoptic"

    def document(self, side: Path) -> Path:
        """Return the panoptic document in a folder; its PNGs are in that of its name."""
        return side / f"{_SPLIT}.json"

    def truth(self, task: str) -> Path:
        """Return the folder of the ground truth of a task."""
        return self.panoptic if task == "panoptic" else self.root / "gtFine"

    def predictions(self, task: str) -> Path:
        """Return the folder of the predictions of a task."""
        return self.root / "predictions" / task

    def true_ids(self, kind: str) -> list[Path]:
        """Return the truth of all frames: `labelIds` or `instanceIds`."""
        return sorted(self.labels.glob(f"*_gtFine_{kind}.png"))


def prepare(root: Path, frames: int, size: tuple[int, int]) -> Files:
    """Write frames with predictions below `root`, unless they are there already."""
    files, wanted = Files(root), {"frames": frames, "size": list(size)}
    done = root / "done.json"
    if done.is_file() and json.loads(done.read_text()) == wanted:
        return files
    done.unlink(missing_ok=True)
    for folder in (files.labels, *map(files.predictions, ("semantic", "instance/masks"))):
        folder.mkdir(parents=True, exist_ok=True)
    pictures = files.document(files.predictions("panoptic")).with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    annotations = []
    for number, (labels, ids) in enumerate(_frames(frames, size)):
        key, rng = f"bench_000000_{number:06d}", np.random.default_rng(number)
        _save(files.labels / f"{key}_gtFine_labelIds.png", labels)
        _save(files.labels / f"{key}_gtFine_instanceIds.png", ids)
        moved = _moved(ids, rng)
        semantic = _with_patches(np.where(moved >= 1000, moved // 1000, moved), rng)
        _save(files.predictions("semantic") / f"{key}_pred_labelIds.png", semantic.astype(np.uint8))
        _write_instances(files.predictions("instance"), key, moved, rng)
        annotations.append(_write_panoptic(pictures, key, moved))
        print(f"frame {number + 1} of {frames}", flush=True)
    _write_documents(files, annotations)
    done.write_text(json.dumps(wanted))
    return files


def repeat(files: Files, root: Path, count: int) -> Files:
    """Write a set of `count` frames that are those of `files`, again and again."""
    many = Files(root)
    if (root / "done.json").is_file():
        return many
    keys = [p.name.removesuffix("_gtFine_labelIds.png") for p in files.true_ids("labelIds")]
    again = {f"again_{number:06d}_000000": keys[number % len(keys)] for number in range(count)}
    for source in (files.labels, files.predictions("semantic"), files.predictions("instance")):
        target = root / source.relative_to(files.root)
        target.mkdir(parents=True)
        for new, old in again.items():
            for path in source.glob(f"{old}_*"):
                (target / path.name.replace(old, new)).hardlink_to(path)
    masks = many.predictions("instance") / "masks"
    masks.mkdir()
    for path in (files.predictions("instance") / "masks").iterdir():
        (masks / path.name).hardlink_to(path)
    for side in (files.panoptic, files.predictions("panoptic")):
        document = json.loads(files.document(side).read_text())
        by_key = {entry["image_id"]: entry for entry in document["annotations"]}
        document["annotations"] = [{**by_key[old], "image_id": new} for new, old in again.items()]
        target = many.document(root / side.relative_to(files.root))
        target.parent.mkdir(parents=True)
        target.write_text(json.dumps(document))
        target.with_suffix("").symlink_to(files.document(side).with_suffix("").absolute())
    (root / "done.json").write_text("{}")
    return many


def _frames(count: int, size: tuple[int, int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Render label ids and instance ids, `H W` each."""
    for number in range(count):
        seed, index = divmod(number, FRAMES_A_CITY)
        if index == 0:
            city = City(CityConfig(seed, size, num_frames=20 * FRAMES_A_CITY, supersample=1))
        frame = city.render(20 * index)
        labels, ids = frame["semantic"], frame["instance_ids"].astype(np.uint16)
        areas = np.bincount(ids.reshape(-1), minlength=1 << 16)
        yield labels, np.where((areas < MIN_SINGLE)[ids], labels, ids).astype(np.uint16)


def _moved(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move borders by a few pixels, alike for neighbours."""
    height, width = ids.shape
    coarse = rng.normal(0, 3, (2, height // 32 + 2, width // 32 + 2)).astype(np.float32)
    shift = [cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC) for part in coarse]
    x, y = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in (width, height)))
    return cv2.remap(ids, x + shift[0], y + shift[1], cv2.INTER_NEAREST, None, cv2.BORDER_REPLICATE)


def _with_patches(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Paint patches of a wrong class."""
    labels = labels.astype(np.int32)
    height, width = labels.shape
    for entry in rng.choice(np.array([e.id for e in cityscapes_table().evaluated]), 12):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = tuple(int(a) for a in rng.integers(4, height // 12 + 5, 2))
        cv2.ellipse(labels, centre, axes, float(rng.uniform(0, 180)), 0, 360, int(entry), -1)
    return labels


def _write_instances(folder: Path, key: str, ids: np.ndarray, rng: np.random.Generator) -> None:
    """Write `MASKS` objects: the true ones in turn, thinner or thicker, some of another class."""
    things = [entry.id for entry in cityscapes_table().things]
    values = [v for v in np.unique(ids).tolist() if v >= 1000 and v // 1000 in things]
    lines = []
    for place in range(MASKS if values else 0):
        value = values[place % len(values)]
        change = (cv2.erode, cv2.dilate)[rng.integers(2)]
        mask = change((ids == value).astype(np.uint8), np.ones(rng.integers(1, 8, 2), np.uint8))
        mask = np.roll(mask, rng.integers(-2, 3, 2) * (place // len(values)), (0, 1))
        label = int(rng.choice(things)) if rng.random() < 0.15 else value // 1000
        name = f"masks/{key}_{place:02d}.png"
        _save(folder / name, mask * 255)
        lines.append(f"{name} {label} {rng.random():.4f}\n")
    (folder / f"{key}_pred.txt").write_text("".join(lines))


def _write_panoptic(folder: Path, key: str, ids: np.ndarray) -> dict:
    """Write the segments of evaluated classes, numbered anew, and return their entry."""
    evaluated = {entry.id for entry in cityscapes_table().evaluated}
    segments, numbers = [], np.zeros(1 << 16, np.uint32)
    for value in np.unique(ids).tolist():
        label = value // 1000 if value >= 1000 else value
        if label in evaluated:
            numbers[value] = 70_001 + 257 * len(segments)
            segments.append({"id": int(numbers[value]), "category_id": label})
    renamed = numbers[ids]
    colours = np.stack([renamed >> shift & 255 for shift in (0, 8, 16)], axis=2)
    _save(folder / f"{key}.png", colours.astype(np.uint8))
    return {"image_id": key, "file_name": f"{key}.png", "segments_info": segments}


def _write_documents(files: Files, annotations: list[dict]) -> None:
    from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic

    target = files.document(files.predictions("panoptic"))
    target.write_text(json.dumps({"annotations": annotations}))
    files.panoptic.mkdir(exist_ok=True)
    convert2panoptic(str(files.root / "gtFine"), str(files.panoptic), False, ["val"])


def _save(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(path)
