"""Panels of motion: a colour is a direction, strength is speed, and the legend says so."""

from dataclasses import replace

import numpy as np
import pytest
from clip_toys import facts, make_result

from unienc_core.inference.annotate import NO_NEIGHBOUR, Annotator
from unienc_core.inference.motion_overlays import (
    choose_full_speed,
    draw_mask,
    draw_own_flow,
    velocity_to_colour,
)
from unienc_core.inference.moving import Moving
from unienc_core.inference.overlays import FAINT, text_size
from unienc_core.inference.results import ClipFacts, FrameResult

DARK = np.full((1, 1, 3), 20, np.uint8)
BOTH = ("depth", "motion", "flow", "mask")


def colour(right: float, ahead: float, full: float = 1.0) -> np.ndarray:
    return velocity_to_colour(DARK, np.array([[[right]], [[ahead]]]), full)[0, 0].astype(int)


def test_a_direction_has_a_colour_and_oncoming_is_red() -> None:
    red, green, blue = colour(0, -1)
    assert red > green + 60
    assert red > blue + 60
    directions = [colour(np.sin(a), np.cos(a)) for a in np.arange(8) * np.pi / 4]
    for i, one in enumerate(directions):
        for other in directions[:i]:
            assert np.abs(one - other).max() > 40
    light = [c @ [0.299, 0.587, 0.114] for c in directions]
    assert max(light) < 1.3 * min(light)  # no direction outshines another


def test_faster_is_stronger_up_to_the_full_speed() -> None:
    speeds = [0, 0.25, 0.5, 0.75, 1.0]
    away = np.array([colour(0, 4 * s, full=4.0) for s in speeds])
    share = (away - away[0]) @ (away[-1] - away[0]) / np.square(away[-1] - away[0]).sum()
    np.testing.assert_allclose(share, speeds, atol=0.02)
    np.testing.assert_array_equal(away[0], DARK[0, 0])
    np.testing.assert_array_equal(colour(0, 9, full=4.0), away[-1])
    np.testing.assert_array_equal(colour(np.nan, np.inf), DARK[0, 0])


@pytest.mark.parametrize("size", [(192, 640), (360, 640), (720, 1280)])
def test_the_legend_s_wheel_has_the_colours_of_the_map(size) -> None:
    black, still = np.zeros((*size, 3), np.uint8), np.zeros((2, *size), np.float32)
    drawn = draw_own_flow(black, still, 20.0, "m/s").astype(int)
    rows, columns = np.where(drawn.max(-1) - drawn.min(-1) > 60)  # what is colourful is the wheel
    top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
    assert left > size[1] / 2
    assert 0.8 < (bottom - top) / (right - left) < 1.25
    middle, centre = (top + bottom) // 2, (left + right) // 2
    for (y, x), direction in {
        (top, centre): (0, 1), (bottom, centre): (0, -1),
        (middle, right): (1, 0), (middle, left): (-1, 0),
    }.items():  # fmt: skip
        assert np.abs(drawn[y, x] - colour(*direction)).max() < 60
        assert np.abs(drawn[y, x] - colour(*(-v for v in direction))).max() > 80
    assert not drawn[:, : size[1] // 2].any()


def test_the_mask_tints_and_outlines_one_half() -> None:
    picture = np.full((360, 640, 3), 90, np.uint8)
    mask = np.tile(np.linspace(0, 1, 640, dtype=np.float32), (360, 1))
    mask[:200] = 0  # below the legend
    drawn = draw_mask(picture, mask)[300].astype(int)
    np.testing.assert_array_equal(drawn[0], picture[0, 0])
    tint = drawn[[100, 200, 500, 620], 0] - drawn[[100, 200, 500, 620], 1]
    assert (np.diff(tint) > 15).all()
    light = drawn.min(-1)
    edge = np.where(light[:630] > 180)[0]
    assert 316 <= edge.min() <= edge.max() <= 324
    np.testing.assert_array_equal(draw_mask(picture, 0 * mask)[230:], picture[230:])


@pytest.mark.parametrize(
    ("fastest", "least", "full"),
    [(0.0, 5.0, 5.0), (3.0, 5.0, 5.0), (14.0, 5.0, 20.0), (9.9, 5.0, 10.0), (0.013, 0.0, 0.02)],
)
def test_the_full_speed_is_round_and_above_what_is_seen(fastest, least, full) -> None:
    speed = np.zeros((100, 100))
    speed[:2] = fastest
    speed[0, :20] = 1e6  # a few that are wrong do not count
    found = choose_full_speed([speed, np.full((3, 3), np.nan)], least)
    assert found == pytest.approx(full)


def test_a_street_without_any_motion_has_a_scale_too() -> None:
    assert choose_full_speed([np.zeros((4, 4))], 0.0) > 0


def result(index: int, flow: float | None, size=(192, 640), **more: object) -> FrameResult:
    plain = make_result(index, size=size, **more)
    if flow is None:
        return plain
    own, mask = np.zeros((3, 48, 160), np.float32), np.full((48, 160), 0.1, np.float32)
    own[2, 20:40, 20:60], mask[20:40, 20:60] = flow, 0.9
    return replace(plain, moving=Moving(own, mask, 0.04, 0.1, flow))


def draw(given: ClipFacts, *results: FrameResult) -> tuple[Annotator, list[np.ndarray]]:
    annotator = Annotator(given)
    return annotator, [r.picture for r in annotator.draw(iter(results)) if r.picture is not None]


@pytest.mark.parametrize(
    ("unit", "is_timed", "scale", "full", "expected"),
    [
        ("m", True, 2.0, 20.0, "m/s"),  # 2 x 0.4 m in 0.04 s
        ("m", False, 2.0, 1.0, "m/frame"),
        ("up to scale", True, 1.0, 10.0, "/s, up to scale"),
        ("up to scale", False, 1.0, 0.5, "/frame, up to scale"),
    ],
)
def test_the_unit_of_speed_is_what_is_known(unit, is_timed, scale, full, expected) -> None:
    given = replace(facts((192, 640), unit), outputs=BOTH)
    given = replace(given, info=replace(given.info, is_timed=is_timed))
    annotator, _ = draw(given, *(result(i, 0.4, scale=scale) for i in range(3)))
    assert (annotator.full_speed, annotator.speed_unit) == (pytest.approx(full), expected)


def test_panels_of_mask_and_flow_stand_below_picture_and_depth() -> None:
    given = replace(facts((192, 640), "m"), outputs=BOTH)
    annotator, (first, second) = draw(given, result(0, None), result(1, 0.4))
    assert first.shape == second.shape
    cells = second[60 : 60 + 2 * 192].reshape(2, 192, 2, 640, 3).swapaxes(1, 2)
    image = result(1, 0.4).frame.image
    velocity = np.zeros((2, 192, 640), np.float32)
    velocity[1] = 0.4 / 0.04
    expected = draw_own_flow(image, velocity, annotator.full_speed, "m/s")
    np.testing.assert_array_equal(cells[1, 1][90:150, 100:230], expected[90:150, 100:230])
    assert (cells[1, 1][100, 400] < image[0, 0]).all()  # dimmed where nothing moves
    tinted = cells[1, 0][:, 100:230].astype(int)
    assert (tinted[110:130, :, 0] > tinted[110:130, :, 1] + 60).all()
    assert NO_NEIGHBOUR  # and says so, in writing, where a frame has none
    unknown = first[60 + 192 : 60 + 2 * 192]
    assert np.ptp(unknown.astype(int), axis=-1).max() == 0 or unknown.max() < 200


def test_the_scale_of_speed_is_fixed_over_the_clip() -> None:
    given = replace(facts((192, 640), "m"), outputs=("flow",))
    annotator, pictures = draw(given, *(result(i, None if i < 20 else 0.4) for i in range(25)))
    assert annotator.full_speed == 10.0
    again, _ = draw(given, *(result(i, 0.4 + i) for i in range(25)))
    assert again.full_speed == 500.0  # of the first 16
    assert len({picture.shape for picture in pictures}) == 1


def test_metres_that_are_not_known_are_not_drawn() -> None:
    given = replace(facts((192, 640), "m"), outputs=("flow", "mask"))
    annotator, (picture,) = draw(given, result(1, 0.4, scale=None))
    assert annotator.full_speed is None
    assert picture.shape == draw(given, result(1, 0.4))[1][0].shape


@pytest.mark.parametrize("size", [(3000, 40), (40, 4000), (1, 1), (9, 640), (48, 64), (640, 192)])
def test_strange_shapes_are_drawn_too(size) -> None:
    given = replace(facts(size), outputs=BOTH)
    annotator, (picture,) = draw(given, result(0, 0.4, size=size))
    assert max(picture.shape) < 4096
    assert annotator.full_speed is not None


@pytest.mark.parametrize("width", [320, 640, 1280])
def test_letters_fit_into_the_legend(width) -> None:
    """Even the longest unit leaves the frame of its box whole."""
    drawn = draw_own_flow(
        np.zeros((width, width, 3), np.uint8),
        np.zeros((2, width, width)),
        0.02,
        "/frame, up to scale",
    )
    margin = round(0.4 * text_size(width))
    left = width - margin - round(7.4 * text_size(width))
    for column in (left, width - margin - 1):
        assert (drawn[margin : margin + round(6.8 * text_size(width)), column] == FAINT).all()
    assert not drawn[:, :left].any()
