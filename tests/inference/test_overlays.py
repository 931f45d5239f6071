"""What is drawn says what the numbers say."""

from collections.abc import Iterator

import numpy as np
import pytest
from clip_toys import facts, make_result, motion_ahead

from unienc_core.inference import overlays
from unienc_core.inference.annotate import NUM_RANGE_FRAMES, Annotator, picture_size
from unienc_core.inference.overlays import DepthRange, choose_range, depth_to_colour
from unienc_core.inference.results import FrameResult
from unienc_core.inference.scene import Scene

RANGE = DepthRange(2.0, 50.0)


def brightness(colour: np.ndarray) -> np.ndarray:
    return colour.astype(float) @ [0.299, 0.587, 0.114]


def test_nearer_is_brighter_and_equal_ratios_are_equal_steps() -> None:
    depth = np.geomspace(2, 50, 64)[None]
    light = brightness(depth_to_colour(depth, RANGE))[0]
    assert (np.diff(light) < 0).all()
    middle = depth_to_colour(np.array([[10.0]]), RANGE)  # the geometric mean of 2 and 50
    ends = depth_to_colour(np.array([[2.0, 50.0]]), RANGE)
    half = overlays._COLOURS[[127, 128], 0]
    assert (middle[0, 0] == half).all(-1).any()
    assert (ends[0, 0] == overlays._COLOURS[255, 0]).all()
    assert (ends[0, 1] == overlays._COLOURS[0, 0]).all()


def test_beyond_the_range_is_clipped_and_invalid_is_black() -> None:
    depth = np.array([[0.1, 2.0, 50.0, 1e9, 0.0, -1.0, np.nan, np.inf]], np.float32)
    colour = depth_to_colour(depth, RANGE)[0]
    assert (colour[0] == colour[1]).all()
    assert (colour[2] == colour[3]).all()
    assert (colour[4:] == 0).all()
    assert colour[:4].any(-1).all()


def test_the_range_leaves_out_outliers_and_survives_flat_maps() -> None:
    depth = np.linspace(1, 101, 160_000).reshape(400, 400)
    depth[::40, ::40] = np.nan
    found = choose_range([depth, depth])
    assert found.near == pytest.approx(3, rel=0.05)
    assert found.far == pytest.approx(99, rel=0.05)
    flat = choose_range([np.full((8, 8), 6.0)])
    assert flat.far / flat.near == pytest.approx(1.5)
    assert flat.near < 6 < flat.far
    assert choose_range([np.zeros((8, 8))]).near > 0
    depth_to_colour(np.full((8, 8), 6.0), flat)


@pytest.mark.parametrize(
    ("near", "far", "ticks"),
    [(2, 50, [2, 5, 10, 20, 50]), (0.15, 1.2, [0.2, 0.5, 1]), (3.1, 3.9, [3.1, 3.9])],
)
def test_ticks_are_round(near, far, ticks) -> None:
    assert overlays.legend_ticks(DepthRange(near, far)) == pytest.approx(ticks)


def test_many_decades_get_few_ticks() -> None:
    ticks = overlays.legend_ticks(DepthRange(0.01, 1000), most=6)
    assert ticks == pytest.approx([0.01, 0.1, 1, 10, 100, 1000])


@pytest.mark.parametrize(("span", "step"), [(1, 1), (4.9, 2), (5, 5), (0.3, 0.2), (99, 50)])
def test_nice_steps(span, step) -> None:
    assert overlays.nice_step(span) == pytest.approx(step)


def test_the_legend_shows_the_scale_of_the_map() -> None:
    legend = overlays.draw_legend(640, RANGE, "depth")
    row = legend[round(0.7 * overlays.text_size(640))]
    near, far = depth_to_colour(np.array([[2.0, 50.0]]), RANGE)[0]
    bright, dark = np.where((row == near).all(-1))[0], np.where((row == far).all(-1))[0]
    assert bright.max() < dark.min()  # near on the left
    assert dark.max() < 640


@pytest.mark.parametrize(("height", "width"), [(96, 320), (360, 640), (1080, 1920), (640, 360)])
def test_text_fits_and_is_readable(height, width) -> None:
    rows, columns = picture_size(height, width)
    whole = columns * (2 if rows > columns else 1)
    line = overlays.text_size(whole)
    strip = overlays.draw_header(whole, "", "frame 123456   99:59.99")
    ink = np.where((strip != overlays.BACKGROUND).any(-1))
    tall, wide = np.ptp(ink[0]) + 1, np.ptp(ink[1]) + 1
    assert tall >= max(8, 0.01 * whole)
    assert wide < 0.6 * whole
    assert ink[1].max() < whole - 0.2 * line


def test_the_path_is_drawn_from_above_with_forward_up() -> None:
    picture = np.zeros((360, 640, 3), np.uint8)
    path = np.array([[0, 0, 0], [0, -5, 10], [10, 5, 10.0]])  # ahead, then to the right
    pose = np.eye(4)
    pose[:3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]  # facing right
    overlays.draw_path(picture, path, pose, "m")
    drawn = (np.abs(picture.astype(int) - overlays.ACCENT).sum(-1) < 30) & (picture[..., 0] > 0)
    rows, columns = np.where(drawn)
    assert columns.min() > 320  # in the right half
    assert rows.max() < 240
    left, right = columns < columns.min() + 3, columns > columns.max() - 3
    assert np.ptp(rows[left]) > 20  # the first leg is vertical, on the left
    assert rows[right].max() < rows[left].max() - 20  # the second leg lies at its upper end
    assert not picture[:, :300].any()


def test_a_standing_camera_has_a_path_too() -> None:
    picture = np.zeros((192, 640, 3), np.uint8)
    overlays.draw_path(picture, np.zeros((2, 3)), np.eye(4), "m")
    assert picture.any()


def test_layout_stacks_wide_pictures_and_sets_tall_ones_side_by_side() -> None:
    def build(height: int, width: int, whole: int) -> tuple[int, ...]:
        strip = np.zeros((10, whole, 3), np.uint8)
        image, depth = (np.full((height, width, 3), v, np.uint8) for v in (1, 2))
        return overlays.compose(strip, [image, depth], [strip]).shape

    assert build(30, 80, 80) == (80, 80, 3)
    assert build(80, 30, 60) == (100, 60, 3)


def test_a_grid_goes_row_by_row_and_may_end_in_a_gap() -> None:
    strip = np.zeros((4, 40, 3), np.uint8)
    panels = [np.full((10, 20, 3), 100 + i, np.uint8) for i in range(3)]
    whole = overlays.compose(strip, panels, [strip, strip])
    assert whole.shape == (4 + 20 + 8, 40, 3)
    rows = whole[4:24].reshape(2, 10, 2, 20, 3).swapaxes(1, 2)
    np.testing.assert_array_equal(rows[0, 0], panels[0])
    np.testing.assert_array_equal(rows[0, 1], panels[1])
    np.testing.assert_array_equal(rows[1, 0], panels[2])
    assert (rows[1, 1] == overlays.BACKGROUND).all()


def test_a_strip_fills_a_picture_where_it_fits() -> None:
    strip = np.full((4, 20, 3), 200, np.uint8)
    filled = overlays.fill(strip, (10, 20))
    assert filled.shape == (10, 20, 3)
    assert (filled[3:7] == 200).all()
    assert (filled[:3] == overlays.BACKGROUND).all()
    assert overlays.fill(strip, (3, 20)) is None


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((96, 320), (192, 640)),
        ((100, 250), (300, 750)),
        ((360, 640), (360, 640)),
        ((1080, 1920), (1080, 1920)),
        ((2160, 3840), (1080, 1920)),
        ((640, 360), (640, 360)),
        ((320, 180), (640, 360)),
    ],
)
def test_pictures_are_shown_at_a_readable_size(size, shown) -> None:
    assert picture_size(*size) == shown


@pytest.mark.parametrize("size", [(3000, 40), (40, 4000), (1, 1), (2000, 700), (9, 640)])
def test_strange_shapes_are_drawn_too(size) -> None:
    result = make_result(0, np.full((4, 8), 0.1, np.float32), size=size, motion=np.eye(4))
    (drawn,) = Annotator(facts(size)).draw([result])
    assert drawn.picture is not None
    assert max(drawn.picture.shape) < 4096


def test_the_colour_scale_is_fixed_over_the_clip() -> None:
    """The same depth has the same colour in the first and last frame, whatever else changes."""
    size = (96, 320)

    def results() -> Iterator[FrameResult]:
        for i in range(NUM_RANGE_FRAMES + 4):
            disparity = np.linspace(0.01, 0.2 + 0.02 * i, 48 * 160, dtype=np.float32)
            disparity = disparity.reshape(48, 160)
            disparity[20:28, :] = 0.1
            yield make_result(i, disparity, size=size)

    drawn = [result.picture for result in Annotator(facts(size)).draw(results())]
    assert len(drawn) == NUM_RANGE_FRAMES + 4
    legend = overlays.draw_legend(640, DepthRange(1, 2), "").shape[0]
    middle = drawn[0].shape[0] - legend - 192 // 2  # of the depth, which stands above it
    band = [picture[middle - 2 : middle + 2, 320] for picture in drawn]
    assert all((b == band[0]).all() for b in band)
    assert (drawn[0] != drawn[-1]).any()


def test_an_unknown_scale_is_drawn_as_unknown() -> None:
    """No colour stands for a depth that nobody knows; the scale comes with the first that is."""
    size = (192, 640)
    annotator = Annotator(facts(size, "m"))
    results = [make_result(i, size=size, scale=None if i < 20 else 2.0) for i in range(22)]
    drawn = [result.picture for result in annotator.draw(results)]
    assert {picture.shape for picture in drawn} == {drawn[0].shape}
    colourful = [np.ptp(picture[-150:].astype(int), axis=-1).mean() > 5 for picture in drawn]
    assert colourful == [False] * 20 + [True] * 2
    shown = choose_range([results[-1].depth_at(size)])
    assert (annotator.depth_range.near, annotator.depth_range.far) == (shown.near, shown.far)


def test_the_path_begins_anew_with_a_scene() -> None:
    scene = Scene(is_cut=True, is_black=False, is_start=True)
    annotator = Annotator(facts((24, 32)))
    results = [make_result(i, motion=motion_ahead(2)) for i in range(4)]
    results += [make_result(4, scene=scene), make_result(5, motion=motion_ahead(2), scale=3.0)]
    list(annotator.draw(results))
    np.testing.assert_allclose(annotator.path.points[:, 2], [0, 6, 6])
