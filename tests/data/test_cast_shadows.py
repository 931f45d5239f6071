"""Shadows in training: darker inside a band by a gamma, untouched outside, the same for a place."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sequence_toys import FRAMES, NETWORK_SIZE, write_drives

from unienc_core.data.cast_shadows import (
    SHADOW_DRAWS,
    Shadow,
    cast_shadow,
    draw_shadow,
    shadow_mask,
)
from unienc_core.data.sequence_dataset import SequenceDataset
from unienc_core.errors import PresetError
from unienc_core.presets import StreamSpec, load_preset

NOISE = np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8)
UNIT = st.floats(0, 1, exclude_max=True)


def test_a_band_is_darkened_by_its_gamma_and_nothing_else():
    """An upright band: half the height wide to each side of x = 50 px, edges of 6 px."""
    shadow = Shadow(across=0.0, point=(0.5, 0.1), half_width=0.3, edge=0.05, gamma=2.0)
    shaded = cast_shadow(NOISE, shadow)
    far = np.abs(np.arange(100) - 50)
    inside, outside = far <= 15, far >= 21
    assert (shaded[:, outside] == NOISE[:, outside]).all()
    expected = 255 * (NOISE[:, inside] / 255) ** 2
    assert np.abs(shaded[:, inside] - expected).max() <= 0.51
    mask = shadow_mask(shadow, (60, 100))[0]
    assert mask[[67, 68, 69]] == pytest.approx([4 / 6, 3 / 6, 2 / 6], abs=1e-5)


@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 2, 2.5])
def test_the_edge_is_a_line_blurred_across(angle):
    """Against the line itself, drawn finely and averaged by numpy."""
    shadow = Shadow(angle, (0.4, 0.6), 0.2, 0.1, 2.0)
    mask = shadow_mask(shadow, (40, 80))
    y, x = np.mgrid[:40, :80].astype(float)
    offsets = np.linspace(-0.1, 0.1, 2001)
    distance = ((x - 0.4 * 80) * np.cos(angle) + (y - 0.6 * 40) * np.sin(angle)) / 40
    line = np.zeros((40, 80))
    for offset in offsets:
        line += np.abs(distance + offset) < 0.2
    assert mask == pytest.approx(line / len(offsets), abs=2e-3)


@given(st.lists(UNIT, min_size=SHADOW_DRAWS, max_size=SHADOW_DRAWS))
def test_any_draw_only_darkens(u):
    shadow = draw_shadow(1.0, np.array(u))
    assert shadow is not None
    assert 0 < shadow.edge <= shadow.half_width
    assert shadow.gamma >= 1
    shaded = cast_shadow(NOISE, shadow)
    assert shaded.dtype == np.uint8
    assert (shaded <= NOISE).all()
    mask = shadow_mask(shadow, NOISE.shape[:2])
    assert (shaded[mask == 0] == NOISE[mask == 0]).all()
    assert mask.min() >= 0 and mask.max() <= 1


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_drives(tmp_path_factory.mktemp("shadows") / "s", (30, 30))


def dataset(store, shadow, *, train=True, seed=0, jitter=0.0, flip=0.0):
    stream = StreamSpec.model_validate(
        {
            "kind": "sequences",
            "batch_size": 3,
            "frames": FRAMES,
            "labels": ["curvature_gt"],
            "augment": {"flip": flip, "jitter": jitter, "shadow": shadow},
        },
        strict=False,
    )
    return SequenceDataset(store, stream, NETWORK_SIZE, seed=seed, train=train, name="drives")


def images(data, step=2, slot=1, key="sequence_images"):
    return data.item(step, slot)[key].numpy()


def test_each_frame_has_a_shadow_of_its_own(store):
    plain, shaded = images(dataset(store, 0.0)), images(dataset(store, 1.0))
    darker = plain - shaded
    assert darker.min() >= 0
    bands = [frame.max(0) > 0 for frame in darker]
    assert all(band.any() for band in bands)
    assert not any((bands[0] == band).all() for band in bands[1:])
    again = images(dataset(store, 1.0))
    assert again.tobytes() == shaded.tobytes()
    for other in (dataset(store, 1.0, seed=1), dataset(store, 1.0, seed=0)):
        assert images(other, step=3).tobytes() != shaded.tobytes()


def test_off_and_outside_of_training_not_a_byte_changes(store):
    plain = dataset(store, 0.0, flip=0.5, jitter=0.5)
    shaded = dataset(store, 1.0, flip=0.5, jitter=0.5)
    # Flips, colours and order are drawn as they were; only the shadow comes on top.
    for step in range(6):
        before, after = images(plain, step), images(shaded, step)
        assert (after <= before).all()
        labels = [d.item(step, 1)["curvature_gt"].tolist() for d in (plain, shaded)]
        assert labels[0] == labels[1]
    stored = [images(dataset(store, share, train=False)) for share in (0.0, 1.0)]
    assert stored[0].tobytes() == stored[1].tobytes()


def test_a_share_of_the_frames_is_shaded(store):
    plain, some = dataset(store, 0.0), dataset(store, 0.25)
    pairs = [
        (images(plain, step, slot), images(some, step, slot))
        for step in range(60)
        for slot in range(3)
    ]
    shaded = [(a != b).any() for before, after in pairs for a, b in zip(before, after, strict=True)]
    assert np.mean(shaded) == pytest.approx(0.25, abs=0.06)


def test_shadows_are_for_sequences():
    with pytest.raises(PresetError, match=r"augment\.shadow is for streams of kind sequences"):
        load_preset("unified-tiny", ["streams.triplets.augment.shadow=0.5"])
    changed = load_preset("steering-unfrozen", ["streams.drives.augment.shadow=1.0"])
    assert changed.streams["drives"].augment.shadow == 1
    for name in ("frozen", "unfrozen", "imagenet", "tiny"):
        assert load_preset(f"steering-{name}").streams["drives"].augment.shadow == 0
