"""What is drawn of segmentations can be read back, and told apart."""

import itertools

import numpy as np
import pytest

from unienc_core.class_tables import cityscapes_table
from unienc_core.inference.overlays import BACKGROUND
from unienc_core.inference.seg_overlays import (
    draw_class_legend,
    draw_instances,
    draw_panoptic,
    draw_semantic,
    panoptic_to_colour,
    semantic_to_colour,
)
from unienc_core.segmentation import Instance, Segment

TABLE = cityscapes_table()
ROAD, SKY, PERSON, CAR = 7, 23, 24, 26
SIZES = [(360, 640), (1080, 1920)]


def grey(size: tuple[int, int], value: int = 90) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def box(size: tuple[int, int], top: float, bottom: float, left: float, right: float) -> np.ndarray:
    """A mask whose borders are shares of the size."""
    mask = np.zeros(size, bool)
    h, w = size
    mask[round(top * h) : round(bottom * h), round(left * w) : round(right * w)] = True
    return mask


def distance(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_classes_have_the_colours_of_the_benchmark() -> None:
    colours = semantic_to_colour(np.array([[ROAD, SKY, PERSON, CAR, 0]], np.uint8), TABLE.palette)
    assert colours.tolist() == [
        [[128, 64, 128], [70, 130, 180], [220, 20, 60], [0, 0, 142], [0, 0, 0]]
    ]


@pytest.mark.parametrize("label", [entry.id for entry in TABLE.things])
def test_the_objects_of_a_class_are_told_apart(label: int) -> None:
    segments = [Segment(label * 1000 + number, label) for number in range(8)]
    ids = np.array([[s.id for s in segments]], np.int32)
    shades = panoptic_to_colour(ids, segments, TABLE)[0]
    assert shades[0].tolist() == TABLE.palette[label].tolist()
    assert min(distance(a, b) for a, b in itertools.combinations(shades, 2)) >= 12
    assert min(distance(a, b) for a, b in itertools.pairwise(shades)) >= 30
    assert shades.any(axis=-1).all()


def test_segments_keep_their_shade_whatever_order_they_are_listed_in() -> None:
    segments = [Segment(n, CAR) for n in (5, 70000, 9)] + [Segment(3, ROAD)]
    ids = np.array([[3, 5, 9, 70000, 0, 4]], np.int32)
    colours = panoptic_to_colour(ids, segments, TABLE)
    assert (colours == panoptic_to_colour(ids, segments[::-1], TABLE)).all()
    assert colours[0, 0].tolist() == [128, 64, 128]
    assert (colours[0, 4:] == 0).all()  # void, and an id that nobody lists
    assert (panoptic_to_colour(ids, [], TABLE) == 0).all()


def test_a_picture_shows_through_and_void_leaves_it_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    labels = np.where(box((40, 60), 0, 1, 0, 0.5), SKY, 0).astype(np.uint8)
    drawn = draw_semantic(image, labels, TABLE)
    assert (drawn[:, 30:] == image[:, 30:]).all()
    mixed = 0.45 * image[:, :30] + 0.55 * np.array([70, 130, 180])
    assert np.abs(drawn[:, :30] - mixed).max() <= 1


def test_nothing_given_is_changed() -> None:
    size = (90, 160)
    image, mask = grey(size), box(size, 0.2, 0.8, 0.2, 0.8)
    ids = np.where(mask, 26000, ROAD).astype(np.int32)
    segments = [Segment(26000, CAR), Segment(ROAD, ROAD)]
    draw_panoptic(image, ids, segments, TABLE)
    draw_instances(image, [Instance(CAR, 0.5, mask)], TABLE)
    draw_semantic(image, ids.astype(np.uint8), TABLE)
    assert (image == 90).all()
    assert mask.sum() == (ids == 26000).sum()


def plate_text(picture: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Where a picture differs much from one without names."""
    return np.abs(picture.astype(int) - plain.astype(int)).max(axis=-1) > 60


@pytest.mark.parametrize("size", SIZES)
def test_names_are_large_enough_and_do_not_cover_each_other(size: tuple[int, int]) -> None:
    masks = [box(size, 0.5, 0.9, 0.1, 0.3), box(size, 0.5, 0.9, 0.13, 0.45)]
    alone = [draw_instances(grey(size), [Instance(CAR, 0.87, m)], TABLE) for m in masks]
    both = draw_instances(grey(size), [Instance(CAR, 0.87, m) for m in masks], TABLE)
    above = np.s_[: round(0.5 * size[0]) - 3 * max(1, size[1] // 800)]
    plates = [plate_text(picture, grey(size))[above] for picture in alone]
    heights = [np.ptp(np.flatnonzero(p.any(axis=1))) + 1 for p in plates]
    assert min(heights) >= max(12, size[0] / 45)  # of the plate; letters take half of it
    assert (plates[0] & plates[1]).any()  # alone, the two names would lie on each other
    drawn = plate_text(both, grey(size))[above]
    assert (both[above][plates[1]] == alone[1][above][plates[1]]).all()  # the larger is named first
    assert not drawn[plates[0] & ~plates[1]].any()


@pytest.mark.parametrize("size", SIZES)
def test_an_outline_runs_along_the_object_and_stands_out_on_dark_and_light(size) -> None:
    mask = box(size, 0.3, 0.8, 0.3, 0.7)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    for value in (10, 245):
        picture = draw_instances(grey(size, value), [Instance(CAR, 1.0, mask)], TABLE)
        line = picture[rows[-1], columns[0] : columns[-1]]
        beyond = picture[min(rows[-1] + 1 + size[1] // 400, size[0] - 1), columns[0] + 20]
        assert distance(line[len(line) // 2], np.array([value] * 3)) > 50
        assert (picture[-1] == value).all()
        assert beyond.tolist() in ([value] * 3, list(BACKGROUND)) or value > 200


def test_small_and_empty_objects_are_drawn_without_names() -> None:
    size = (360, 640)
    small = np.zeros(size, bool)
    small[100:104, 100:104] = True
    empty = np.zeros(size, bool)
    picture = draw_instances(
        grey(size), [Instance(CAR, 0.5, small), Instance(CAR, 0.5, empty)], TABLE
    )
    changed = (picture != 90).any(axis=-1)
    assert changed[100:104, 100:104].all()
    changed[96:108, 96:108] = False
    assert not changed.any()
    assert (draw_instances(grey(size), [], TABLE) == 90).all()


def test_edges_lie_between_segments_only() -> None:
    ids = np.full((60, 80), ROAD, np.int32)
    ids[:, 40:] = SKY
    segments = [Segment(ROAD, ROAD), Segment(SKY, SKY)]
    picture = draw_panoptic(grey((60, 80)), ids, segments, TABLE)
    white = (picture == 250).all(axis=-1)
    assert white[:, 39].all()
    assert white.sum() == 60


@pytest.mark.parametrize("width", [640, 1920, 60])
def test_the_legend_has_a_swatch_for_each_class_that_is_there(width: int) -> None:
    present = {entry.id for entry in TABLE.evaluated} - {CAR}
    legend = draw_class_legend(TABLE, present, width)
    assert legend.shape[1] == width
    for entry in TABLE.evaluated:
        swatch = (legend == entry.color).all(axis=-1).sum()
        assert (swatch > 60) == (entry.id != CAR), entry.name
    assert draw_class_legend(TABLE, [], width).shape[0] < 100
