"""One picture of what stores hold: a row per frame, a column per key."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from unienc_core.classes import id_palette
from unienc_core.data.codecs import encode_image
from unienc_core.data.resample import resize_image
from unienc_core.data.store import Store
from unienc_core.errors import ResourceError
from unienc_core.files import write_atomic
from unienc_core.inference.overlays import choose_range, depth_to_colour
from unienc_core.metrics.motion import motion_labels

_MAPS = ("depth", "semantic", "instance", "motion_mask")
_MOST_MAPS = 3
_GAP = 4
_WIDEST = 512
_SPARSE = 0.3
"""Below this share of known depths the points of a laser are drawn larger than a pixel."""


def write_contact_sheet(path: Path, stores: Sequence[Path], rows_per_store: int = 3) -> None:
    """Draw some frames of each store with their labels.

    A row shows the middle frame of a drive with its depth, classes, instances and motion, as far
    as the store has them; without any, the frame between its neighbours.

    Args:
        path: PNG to write.
        stores: Stores of images.
        rows_per_store: Drives shown of each, evenly spread.

    Raises:
        ResourceError: If the picture cannot be written.
    """
    rows: list[np.ndarray] = []
    for folder in stores:
        with closing(Store(folder)) as store:
            count = min(rows_per_store, len(store.drives))
            for drive in np.linspace(0, len(store.drives) - 1, count).round().astype(int):
                rows.append(_beside([_shrunk(p) for p in _pictures(store, int(drive))]))
    widest = max(row.shape[1] for row in rows)
    gap = np.full((_GAP, widest, 3), 255, np.uint8)
    stacked = [part for row in rows for part in (_padded(row, widest), gap)][:-1]
    try:
        write_atomic(path, encode_image(np.concatenate(stacked), "png").tobytes())
    except OSError as error:
        raise ResourceError(f"{path}: cannot be written ({error.strerror})") from error


def _pictures(store: Store, drive: int) -> list[np.ndarray]:
    """Return what a row shows, `H W 3` each."""
    count = store.drives[drive].num_frames
    middle = count // 2
    # What moves says more than which object is which, where a store has both.
    maps = [key for key in _MAPS if key in store.keys and key != "instance"]
    if "instance" in store.keys and len(maps) < _MOST_MAPS:
        maps.insert(2 if "semantic" in maps else len(maps), "instance")
    if not maps:
        near = [i for i in (middle - 1, middle, middle + 1) if 0 <= i < count]
        return [store.frame(drive, i, ["image"])["image"] for i in near]
    frame = store.frame(drive, middle, ["image", *maps])
    if "motion_mask" in maps:
        invalid = store.keys["motion_mask"].invalid
        frame["motion_mask"] = motion_labels(frame["motion_mask"], invalid)["moving"]
    return [frame["image"], *(_drawn(key, frame[key], frame["image"]) for key in maps)]


def _drawn(key: str, values: np.ndarray, image: np.ndarray) -> np.ndarray:
    if key == "depth":
        return _depth_picture(values)
    if key == "semantic":
        return id_palette()[values]
    if key == "instance":
        return _instance_colours(values)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    red = (0.4 * grey + 0.6 * np.array([255, 40, 0])).astype(np.uint8)
    return np.where(values[..., None] > 0, red, grey)


def _depth_picture(depth: np.ndarray) -> np.ndarray:
    known = depth > 0
    if not known.any():
        return np.zeros((*depth.shape, 3), np.uint8)
    if known.mean() < _SPARSE:
        nearness = np.divide(1.0, depth, out=np.zeros_like(depth), where=known)
        nearness = cv2.dilate(nearness, np.ones((5, 5), np.uint8))
        depth = np.divide(1.0, nearness, out=np.zeros_like(depth), where=nearness > 0)
    return depth_to_colour(depth, choose_range([depth]))


def _instance_colours(instance: np.ndarray) -> np.ndarray:
    """Objects in colours of their own on grey: stuff and groups have no number."""
    spread = instance.astype(np.uint64) * np.uint64(2654435761)
    colours = np.stack([(spread >> np.uint64(s)) % 200 + 55 for s in (3, 11, 19)], -1)
    return np.where(instance[..., None] >= 1000, colours, 40).astype(np.uint8)


def _shrunk(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    if width <= _WIDEST:
        return picture
    return resize_image(picture, (max(1, round(height * _WIDEST / width)), _WIDEST))


def _beside(pictures: Sequence[np.ndarray]) -> np.ndarray:
    gap = np.full((pictures[0].shape[0], _GAP, 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, gap)][:-1], axis=1)


def _padded(row: np.ndarray, width: int) -> np.ndarray:
    return np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255)
