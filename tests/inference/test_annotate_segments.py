"""Panels of segmentations beside the others: which there are, where, and how large."""

from dataclasses import replace

import numpy as np
import pytest
from clip_toys import facts, make_result

from unienc_core.class_tables import cityscapes_table
from unienc_core.inference.annotate import Annotator, draw_seen, num_columns, picture_size
from unienc_core.inference.results import FrameResult
from unienc_core.inference.seen import Seen
from unienc_core.segmentation import Instance, Segment, Segmentation

TABLE = cityscapes_table()
TASKS = ("semantic", "instance", "panoptic")
ROAD, SKY, CAR = 7, 23, 26


def result_of(size: tuple[int, int], outputs: tuple[str, ...]) -> FrameResult:
    height, width = size
    ids = np.full(size, ROAD, np.int32)
    ids[: height // 3] = SKY
    mask = np.zeros(size, bool)
    mask[height // 2 : -height // 4, width // 4 : width // 2] = True
    labels = ids.astype(np.uint8)
    ids[mask] = CAR * 1000 + 4
    found = Segmentation(
        ids if "panoptic" in outputs else None,
        tuple(map(Segment, (ROAD, SKY, CAR * 1000 + 4), (ROAD, SKY, CAR)))
        if "panoptic" in outputs
        else None,
        labels if "semantic" in outputs else None,
        (Instance(CAR, 0.9, mask, CAR * 1000),) if "instance" in outputs else None,
    )
    plain = make_result(size=size)
    disparity = plain.output.disparity if "depth" in outputs else None
    seen = Seen.of(found, size) if set(outputs) & set(TASKS) else None
    return replace(plain, output=replace(plain.output, disparity=disparity), seen=seen)


def draw(size: tuple[int, int], outputs: tuple[str, ...]) -> tuple[Annotator, np.ndarray]:
    annotator = Annotator(replace(facts(size), outputs=outputs))
    (drawn,) = annotator.draw([result_of(size, outputs)])
    assert drawn.picture is not None
    return annotator, drawn.picture


@pytest.mark.parametrize("size", [(192, 640), (640, 192), (1080, 1920), (48, 64), (300, 300)])
@pytest.mark.parametrize(
    "outputs",
    [
        (),
        ("motion",),
        ("semantic",),
        ("panoptic", "instance"),
        ("depth", "panoptic"),
        ("depth", "motion", *TASKS),
    ],
)
def test_every_choice_of_panels_makes_a_picture_of_whole_cells(size, outputs) -> None:
    annotator, picture = draw(size, outputs)
    panels = 1 + len(set(outputs) - {"motion"})
    shown = picture_size(*size, panels)
    columns = num_columns(shown, panels)
    assert picture.shape[1] == columns * shown[1]
    assert picture.shape[0] > -(-panels // columns) * shown[0]
    assert max(shown) <= (1280 if panels > 2 else 1920)
    assert (annotator.depth_range is not None) == ("depth" in outputs)


def test_the_panels_come_in_order_and_the_legend_takes_the_free_cell() -> None:
    size = (192, 640)
    _, picture = draw(size, ("depth", "motion", *TASKS))
    result = result_of(size, TASKS)
    top = 60  # the header's height at this width
    cells = picture[top : top + 3 * 192].reshape(3, 192, 2, 640, 3).swapaxes(1, 2)
    panoptic, instance, semantic = draw_seen(result.frame.image, result.seen, TABLE)
    np.testing.assert_array_equal(cells[0, 1], panoptic)
    np.testing.assert_array_equal(cells[1, 0], instance)
    np.testing.assert_array_equal(cells[1, 1], semantic)
    for entry in TABLE.evaluated:
        assert (cells[2, 1] == entry.color).all(-1).sum() > 60, entry.name
    np.testing.assert_array_equal(cells[0, 0][:, :300], result.frame.image[:, :300])


def test_an_object_keeps_its_colour_when_others_come_and_go() -> None:
    size = (192, 640)
    image = np.full((*size, 3), 90, np.uint8)

    def colours(numbers: tuple[int, ...], make) -> dict[int, tuple[int, ...]]:
        found, masks = {}, {}
        for number in numbers:
            masks[number] = np.zeros(size, bool)
            masks[number][40:120, 30 + 100 * number : 100 + 100 * number] = True
        picture = make(masks)
        for number in numbers:
            found[number] = tuple(picture[90, 60 + 100 * number])
        return found

    def panoptic(masks) -> np.ndarray:
        ids = np.full(size, ROAD, np.int32)
        for number, mask in masks.items():
            ids[mask] = 26000 + number
        segments = (Segment(ROAD, ROAD), *(Segment(26000 + n, CAR) for n in masks))
        return draw_seen(image, Seen(size, ids, segments), TABLE)[0]

    def instances(masks) -> np.ndarray:
        objects = tuple(Instance(CAR, 0.9, mask, 26000 + n) for n, mask in masks.items())
        return draw_seen(image, Seen.of(Segmentation(instances=objects), size), TABLE)[0]

    for make in (panoptic, instances):
        both, all_four = colours((1, 4), make), colours((4, 0, 1, 2), make)
        assert both[1] == all_four[1] != both[4] == all_four[4]
        assert len(set(all_four.values())) == 4
