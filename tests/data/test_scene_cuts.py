"""Scene cuts and the motion of pictures: what they find, and what they must not be fooled by."""

import numpy as np
import pytest
from moving_pictures import SIZE, noisy, slide

from unienc_core.data.picture_motion import STANDING, WIDTH, apparent_motion, small_picture
from unienc_core.data.scene_cuts import CutDetector


def cuts(pictures):
    detector = CutDetector()
    return [i for i, picture in enumerate(pictures) if detector.is_cut(picture)]


def motion(before, after):
    return apparent_motion(small_picture(before), small_picture(after))


@pytest.mark.parametrize("step", [0.0, 1.0, 3.0, 4.0])
def test_a_drive_has_no_cut_and_two_drives_have_one(step):
    first, second = slide(0, 20, step), slide(1, 20, step)
    assert cuts(first) == []
    assert cuts(first + second) == [20]


def test_a_camera_that_whips_round_makes_few_cuts():
    assert len(cuts(slide(0, 40, 8.0))) <= 4


def test_two_cuts_soon_after_each_other_are_both_found():
    assert cuts(slide(0, 12) + slide(1, 2) + slide(2, 12)) == [12, 14]


def test_a_leap_along_the_same_wall_is_a_cut():
    pictures = slide(3, 120)
    assert cuts(pictures[:20] + pictures[90:]) == [20]


def test_light_and_noise_are_no_cut():
    pictures = slide(0, 24)
    pictures[10] = np.clip(pictures[10] * 1.7 + 20, 0, 255).astype(np.uint8)
    assert cuts(pictures) == []
    assert cuts([noisy(p, 8, i) for i, p in enumerate(slide(1, 24))]) == []
    dark = [np.zeros((*SIZE, 3), np.uint8)] * 8
    assert cuts(dark) == []


def test_a_change_of_size_is_a_cut():
    assert cuts(slide(0, 6) + slide(0, 6, size=(64, 160))) == [6]


@pytest.mark.parametrize("shift", [0.25, 0.5, 1.0])
def test_motion_is_measured_in_widths_of_the_picture(shift):
    assert SIZE[1] == WIDTH
    before, after = slide(0, 2, shift)
    assert motion(before, after) == pytest.approx(shift / WIDTH, rel=0.25)


def test_large_motion_is_never_taken_for_none():
    pictures = slide(0, 40, 5.0)
    found = [motion(pictures[0], later) for later in pictures[1:]]
    assert min(found) > 2 * STANDING


def test_a_standing_camera_stands_whatever_noise_and_light_do():
    picture = slide(0, 1)[0]
    assert motion(picture, picture) == 0
    assert motion(noisy(picture, 3, 0), noisy(picture, 3, 1)) < STANDING
    brighter = np.clip(picture * 0.9 + 12, 0, 255).astype(np.uint8)
    assert motion(picture, brighter) < STANDING


def test_traffic_that_crosses_does_not_move_the_camera():
    before, after = (slide(0, 1)[0] for _ in range(2))
    car = slide(1, 2, 4.0)
    for image, moved in zip((before, after), car, strict=True):
        image[50:80, 20:70] = moved[50:80, 20:70]
    assert motion(before, after) < STANDING


def test_a_picture_without_edges_does_not_move():
    flat = np.full((*SIZE, 3), 90, np.uint8)
    assert motion(flat, noisy(flat, 3, 0)) == 0
