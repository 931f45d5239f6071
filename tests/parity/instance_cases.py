"""Random labelled pictures with predicted instances, in the official formats, and what is odd."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from unienc_core.metrics.instance_ap import MIN_AREA, OVERLAPS

SIZE = (48, 64)
THINGS = (24, 25, 26, 27, 28, 31, 32, 33)
IGNORED = (0, 3, 29, 30)
NASTY = (
    "void predictions", "crowds of two classes", "IoU exactly at a threshold", "IoU exactly 0.5",
    "duplicate detections", "confidence ties", "tiny regions", "tiny groups",
    "predictions on groups", "a class with only false positives", "a class that is never predicted",
    "predicted ignore labels", "predicted stuff", "empty files", "empty masks",
    "instances of ignored classes", "overlapping predictions",
)  # fmt: skip


@dataclass
class Found:
    label: int
    score: float
    mask: np.ndarray


@dataclass
class Picture:
    ids: np.ndarray
    found: list[Found]


def random_case(rng: np.random.Generator) -> list[Picture]:
    """Draw one to three pictures with few classes, so that each has several objects."""
    labels = rng.choice(THINGS, rng.integers(1, 4), replace=False).tolist()
    return [_picture(rng, labels) for _ in range(rng.integers(1, 4))]


def _picture(rng: np.random.Generator, labels: list[int]) -> Picture:
    ids = np.full(SIZE, rng.choice([7, 8, 23]), np.uint16)
    for number in range(rng.integers(0, 9)):
        label = int(rng.choice(labels))
        kind = rng.choice(["one", "one", "one", "group", "void", "ignored instance"])
        value = {
            "one": label * 1000 + number,
            "group": label,
            "void": int(rng.choice(IGNORED)),
            "ignored instance": 29000 + number,
        }[kind]
        ids[_box(rng)] = value
    if rng.random() < 0.15:
        return Picture(ids, [])
    found = [_found(rng, ids, labels) for _ in range(rng.integers(1, 9))]
    if rng.random() < 0.4:
        again = found[rng.integers(len(found))]
        found.append(Found(again.label, _score(rng), again.mask))
    return Picture(ids, found)


def _box(rng: np.random.Generator) -> tuple[slice, slice]:
    """Draw a box, of 200 px often, of which each threshold is a whole number of pixels."""
    height, width = rng.choice([4, 10, 20], 2).tolist() if rng.random() < 0.5 else (10, 20)
    top, left = int(rng.integers(0, SIZE[0] - height)), int(rng.integers(0, SIZE[1] - width))
    return np.s_[top : top + height, left : left + width]


def _found(rng: np.random.Generator, ids: np.ndarray, labels: list[int]) -> Found:
    mask = np.zeros(ids.shape, bool)
    value = int(rng.choice(np.unique(ids)))
    label = value // 1000 or value
    kind = rng.choice(["exact", "part", "shifted", "box", "empty"], p=[0.25, 0.35, 0.2, 0.15, 0.05])
    if kind in ("exact", "shifted"):
        mask = ids == value
        if kind == "shifted":
            mask = np.roll(mask, rng.integers(-3, 4, 2), (0, 1))
    elif kind == "part":  # a share of it that is a threshold, where its size allows
        pixels, twentieths = np.flatnonzero(ids == value), rng.choice([10, 10, *range(10, 20)])
        mask.reshape(-1)[pixels[: round(len(pixels) * twentieths / 20)]] = True
    elif kind == "box":
        mask[_box(rng)] = True
    if label not in THINGS:
        label = int(rng.choice(labels))
    if rng.random() < 0.2:
        label = int(rng.choice([*THINGS, 0, 7, 29, 30]))
    return Found(label, _score(rng), mask)


def _score(rng: np.random.Generator) -> float:
    return float(rng.choice([0.25, 0.5, 0.75]) if rng.random() < 0.5 else rng.random())


def as_one_class(picture: Picture) -> Picture:
    """Call all things cars: each object keeps pixels of its own, groups become one."""
    ids = picture.ids.copy()
    things = [v for v in np.unique(ids).tolist() if (v // 1000 or v) in THINGS]
    for number, value in enumerate(things):
        ids[picture.ids == value] = 26000 + number if value >= 1000 else 26
    found = [Found(26 if f.label in THINGS else f.label, f.score, f.mask) for f in picture.found]
    return Picture(ids, found)


def write_case(root: Path, pictures: list[Picture], rng: np.random.Generator) -> None:
    """Write pictures as ``gt/*_gtFine_instanceIds.png`` and ``pred/*.txt`` with masks."""
    for folder in ("gt", "pred/masks"):
        (root / folder).mkdir(parents=True)
    for number, picture in enumerate(pictures):
        key = f"ulm_000000_{number:06d}"
        assert cv2.imwrite(str(root / "gt" / f"{key}_gtFine_instanceIds.png"), picture.ids)
        lines = []
        for place, found in enumerate(picture.found):
            name = f"masks/{key}_{place}.png"
            _save_mask(root / "pred" / name, found.mask, int(rng.integers(5)))
            lines.append(f"{name} {found.label} {found.score!r}\n")
        (root / "pred" / f"{key}_pred.txt").write_text("".join(lines))


def _save_mask(path: Path, mask: np.ndarray, kind: int) -> None:
    picture = Image.fromarray(mask.astype(np.uint8) * (255 if kind else 1))
    if kind > 1:
        picture = picture.convert({2: "1", 3: "P", 4: "RGB"}[kind])
    picture.save(path, compress_level=1)


def count_nasty(pictures: list[Picture]) -> Counter[str]:
    """Count what is odd about a case, told by its pixels alone."""
    counts: Counter[str] = Counter()
    for picture in pictures:
        counts.update(_nasty_in(picture))
    true = {v // 1000 for p in pictures for v in np.unique(p.ids).tolist() if v >= 1000}
    predicted = {f.label for p in pictures for f in p.found if f.mask.any()}
    counts["a class with only false positives"] += len((predicted & {*THINGS}) - true)
    counts["a class that is never predicted"] += len((true & {*THINGS}) - predicted)
    scores = [(f.label, f.score) for p in pictures for f in p.found]
    counts["confidence ties"] += len(scores) - len(set(scores))
    return counts


def _nasty_in(picture: Picture) -> Counter[str]:
    areas = dict(
        zip(*(a.tolist() for a in np.unique(picture.ids, return_counts=True)), strict=True)
    )
    groups = [value for value in areas if value in THINGS]
    counts = Counter({
        "crowds of two classes": len(groups) > 1,
        "empty files": not picture.found,
        "tiny regions": sum(a < MIN_AREA and v // 1000 in THINGS for v, a in areas.items()),
        "tiny groups": sum(areas[value] < MIN_AREA for value in groups),
        "instances of ignored classes": sum(v // 1000 == 29 for v in areas),
        "overlapping predictions": int(np.any(sum(f.mask.astype(int) for f in picture.found) > 1)),
    })  # fmt: skip
    hits: Counter[int] = Counter()
    for found in picture.found:
        area = int(found.mask.sum())
        counts["empty masks"] += not area
        counts["predicted ignore labels"] += found.label in IGNORED
        counts["predicted stuff"] += found.label == 7
        if not area or found.label not in THINGS:
            continue
        on_void = int((found.mask & np.isin(picture.ids, IGNORED)).sum())
        counts["void predictions"] += on_void > area / 2
        for value, whole in areas.items():
            shared = int((found.mask & (picture.ids == value)).sum())
            if not shared or (value // 1000 or value) != found.label:
                continue
            iou = shared / (area + whole - shared)
            counts["predictions on groups"] += value < 1000
            if value >= 1000 and whole >= MIN_AREA:
                counts["IoU exactly at a threshold"] += bool((iou == OVERLAPS).any())
                counts["IoU exactly 0.5"] += iou == 0.5
                hits[value] += iou > 0.5
    counts["duplicate detections"] += sum(times > 1 for times in hits.values())
    return counts
