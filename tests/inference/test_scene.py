"""Scene cuts, black frames and gaps begin anew; driving does not."""

from fractions import Fraction

import numpy as np
import pytest

from unienc_core.inference.frames import Frame
from unienc_core.inference.scene import BLACK_LEVEL, MAX_CUT_STEP, SceneWatch
from unienc_core.inference.span import Span
from unienc_core.inference.video import VideoReader


def frame(index: int, scene: int = 0, *, level: int | None = None, num_lost: int = 0) -> Frame:
    """A street of noise, another one for each scene, that moves a pixel per frame."""
    rng = np.random.default_rng(scene)
    street = rng.integers(0, 255, (8, 40, 3), dtype=np.uint8).repeat(12, 0).repeat(12, 1)
    image = np.ascontiguousarray(np.roll(street, index, 1)[:, :320])
    if level is not None:
        noise = np.random.default_rng(index).normal(0, 6, image.shape)
        image = np.clip(level + noise, 0, 255).astype(np.uint8)
    return Frame(image, index, index, index / 25, num_lost)


def test_driving_is_one_scene_and_a_cut_begins_another() -> None:
    watch = SceneWatch(0.04)
    seen = [watch.look(frame(i, scene=i >= 15)) for i in range(30)]
    assert [i for i, s in enumerate(seen) if s.is_cut] == [15]
    assert [i for i, s in enumerate(seen) if s.is_start] == [0, 15]


def test_a_gap_begins_anew_without_a_cut() -> None:
    watch = SceneWatch(0.04)
    seen = [watch.look(frame(i, num_lost=2 if i == 9 else 0)) for i in range(12)]
    assert [i for i, s in enumerate(seen) if s.is_start] == [0, 9]
    assert not any(s.is_cut for s in seen)


def test_black_frames_interrupt_and_are_no_cut() -> None:
    watch = SceneWatch(0.04)
    seen = [watch.look(frame(i, level=5 if 8 <= i < 11 else None)) for i in range(20)]
    assert [i for i, s in enumerate(seen) if s.is_black] == [8, 9, 10]
    assert [i for i, s in enumerate(seen) if s.is_start] == [0, 8, 9, 10, 11]
    assert not any(s.is_cut for s in seen)


def test_a_cut_behind_black_is_found() -> None:
    watch = SceneWatch(0.04)
    pictures = [frame(i, i >= 10, level=0 if i == 9 else None) for i in range(20)]
    assert [i for i, p in enumerate(pictures) if watch.look(p).is_cut] == [10]


def test_a_dark_road_with_lights_is_not_black() -> None:
    image = np.full((96, 320, 3), 3, np.uint8)
    assert SceneWatch(0.04).look(Frame(image, 0, 0, 0.0)).is_black
    image[60:70, 100:112] = 200  # a lamp
    assert not SceneWatch(0.04).look(Frame(image, 0, 0, 0.0)).is_black
    grey = np.full((96, 320, 3), BLACK_LEVEL + 4, np.uint8)
    assert not SceneWatch(0.04).look(Frame(grey, 0, 0, 0.0)).is_black


def test_frames_far_apart_are_not_searched_for_cuts() -> None:
    watch = SceneWatch(MAX_CUT_STEP + 0.01)
    assert not any(watch.look(frame(i, scene=i)).is_cut for i in range(12))


@pytest.mark.data
@pytest.mark.parametrize("name", ["mu_driving", "solidWhiteRight"])
@pytest.mark.parametrize("stride", [1, 4])
def test_real_drives_have_no_cut_and_two_have_one(real_data, name, stride) -> None:
    other = {"mu_driving": "solidWhiteRight"}.get(name, "mu_driving")
    watch, found = SceneWatch(stride / 25), []
    for clip in (name, other):
        with VideoReader(real_data / "video" / f"{clip}.mp4") as reader:
            span = Span(stop=Fraction(4) if clip == name else Fraction(1), stride=stride)
            found.append([watch.look(f).is_cut for f in reader.frames(span)])
    assert not any(found[0])
    assert found[1][0]
    assert not any(found[1][1:])
