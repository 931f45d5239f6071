"""Counter-based order and chance; single transforms against closed forms."""

import colorsys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unienc_core.data.sampler import epoch_order, item_index, uniforms
from unienc_core.data.transforms import (
    NUM_DRAWS,
    Jitter,
    colour_map,
    draw_augmentation,
    flip_value,
    jitter_images,
    resize_value,
)
from unienc_core.data.triplets import triplet_index
from unienc_core.presets import AugmentSpec

ORDER = (0, 1, 2, 3)


@given(size=st.integers(1, 60), batch=st.integers(1, 9), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=40, deadline=None)
def test_every_epoch_visits_every_item_once(size, batch, seed):
    steps = range(-(-2 * size // batch))
    seen = [
        item_index(seed, "s", step, slot, batch, size) for step in steps for slot in range(batch)
    ]
    for epoch in (0, 1):
        assert sorted(seen[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_epochs_seeds_and_streams_are_shuffled_differently():
    orders = [
        epoch_order(*key, 100) for key in ((0, "a", 0), (0, "a", 1), (1, "a", 0), (0, "b", 0))
    ]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            assert (one == other).mean() < 0.1


def test_draws_are_uniform_and_fixed_for_ever():
    draws = np.array([uniforms(7, "s", step, slot, 5) for step in range(200) for slot in range(4)])
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(draws.T) - np.eye(5)).max() < 0.15
    # Resuming an old run with a new version must see the same numbers.
    assert uniforms(1, "triplets", 2, 3, 2).tolist() == [0.1578426881712579, 0.8552098811322008]
    assert epoch_order(1, "triplets", 0, 6).tolist() == [4, 1, 3, 5, 0, 2]


LAST = float(np.nextafter(1, 0))


def test_draw_augmentation_reaches_its_bounds():
    spec = AugmentSpec(brightness=0.2, contrast=0.3, saturation=0.4, hue=0.1, zoom=1.5)
    low = draw_augmentation(spec, np.zeros(NUM_DRAWS))
    assert low.flip
    assert low.jitter == Jitter(0.8, 0.7, 0.6, -0.1, ORDER)
    high = draw_augmentation(spec, np.array([0.5, 0.49, 1, 1, 1, 1, LAST, 1, 0, LAST]))
    assert not high.flip
    assert high.jitter is not None
    assert high.jitter.order == (3, 2, 1, 0)
    assert high.jitter.contrast == pytest.approx(1.3)
    assert (low.zoom, high.zoom) == (1.0, 1.5)
    assert high.corner == (0.0, LAST)
    assert draw_augmentation(spec, np.full(NUM_DRAWS, 0.5)).jitter is None


def sequential(colours, jitter, mean):
    """Each change by its definition, one after the other, on colours and on their mean."""
    luma = np.array([0.299, 0.587, 0.114])
    values = np.vstack((colours, mean))
    for step in jitter.order:
        if step == 0:
            values = values * jitter.brightness
        elif step == 1:
            pivot = luma @ values[-1]
            values = pivot + (values - pivot) * jitter.contrast
        elif step == 2:
            grey = (values @ luma)[:, None]
            values = grey + (values - grey) * jitter.saturation
        else:
            yiq = np.array([colorsys.rgb_to_yiq(*v) for v in values])
            turn = np.exp(2j * np.pi * jitter.hue) * (yiq[:, 1] + 1j * yiq[:, 2])
            values = _from_yiq(np.stack((yiq[:, 0], turn.real, turn.imag), 1))
    return values[:-1]


def _from_yiq(yiq):
    basis = np.array([colorsys.rgb_to_yiq(*e) for e in np.eye(3)]).T
    return np.linalg.solve(basis, yiq.T).T


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_one_matrix_is_the_four_changes_in_order(order):
    rng = np.random.default_rng(0)
    colours, mean = rng.uniform(0, 255, (20, 3)), rng.uniform(60, 180, 3)
    jitter = Jitter(1.15, 0.8, 1.3, 0.07, order)
    matrix = colour_map(jitter, mean)
    found = colours @ matrix[:, :3].T + matrix[:, 3]
    # colorsys rounds the YIQ coefficients to two digits, hence the tolerance.
    np.testing.assert_allclose(found, sequential(colours, jitter, mean), atol=1.5)


def test_single_changes_in_numbers():
    mean = np.array([100.0, 100.0, 100.0])
    grey = np.array([50.0, 50.0, 50.0, 1.0])
    assert colour_map(Jitter(1.2, 1, 1, 0, ORDER), mean) @ grey == pytest.approx([60.0] * 3)
    assert colour_map(Jitter(1, 0.5, 1, 0, ORDER), mean) @ grey == pytest.approx([75.0] * 3)
    assert colour_map(Jitter(1, 1, 0, 0.3, ORDER), mean) @ grey == pytest.approx([50.0] * 3)
    red = np.array([255.0, 0, 0, 1])
    assert colour_map(Jitter(1, 1, 0, 0, ORDER), mean) @ red == pytest.approx([76.245] * 3)
    np.testing.assert_allclose(
        colour_map(Jitter(1, 1, 1, 0, ORDER), mean), np.eye(3, 4), atol=1e-12
    )


def test_jitter_is_cut_to_the_range_once():
    bright = np.full((4, 4, 3), 250, np.uint8)
    out = jitter_images([bright], Jitter(1.2, 1, 1, 0, ORDER))[0]
    assert out.dtype == np.uint8
    assert (out == 255).all()


@given(old=st.integers(1, 40), new=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_maps_take_the_nearest_pixel_centre(old, new):
    value = np.arange(old * 2).reshape(old, 2)
    out = resize_value(value, "map", (old, 2), (new, 2))
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    picked = out[:, 0] // 2
    assert (np.abs(picked - centres) <= 0.5 + 1e-9).all()
    assert (out[:, 1] - out[:, 0] == 1).all()


def test_images_are_antialiased_and_agree_with_K():
    """A blob keeps its place by c' = s (c + 0.5) - 0.5, up and down."""
    v, u = np.mgrid[:64, :96]
    image = np.exp(-((u - 40.3) ** 2 + (v - 21.7) ** 2) / 60) * 200
    image = np.repeat(image[..., None], 3, 2).round().astype(np.uint8)
    K = np.array([[50, 0, 40.3], [0, 50, 21.7], [0, 0, 1]])
    for size in ((32, 48), (48, 48), (128, 192)):
        small = resize_value(image, "image", (64, 96), size)[..., 0].astype(float)
        rows, columns = np.mgrid[: size[0], : size[1]]
        K_new = resize_value(K, "intrinsics", (64, 96), size)
        assert (small * columns).sum() / small.sum() == pytest.approx(K_new[0, 2], abs=0.1)
        assert (small * rows).sum() / small.sum() == pytest.approx(K_new[1, 2], abs=0.1)
    checker = np.repeat((((u + v) % 2) * 255)[..., None], 3, 2).astype(np.uint8)
    assert np.ptp(resize_value(checker, "image", (64, 96), (32, 48))) <= 1


def test_vector_maps_and_scalars_flip_by_their_role():
    flow = np.random.default_rng(0).normal(size=(3, 4, 5))
    out = flip_value(flow, "lateral_map", 5)
    np.testing.assert_array_equal(out[0], -flow[0, :, ::-1])
    np.testing.assert_array_equal(out[1:], flow[1:, :, ::-1])
    np.testing.assert_array_equal(flip_value(out, "lateral_map", 5), flow)
    assert flip_value(np.float32(2), "lateral", 5) == -2
    assert flip_value(np.float32(2), "scalar", 5) == 2


def test_triplet_index_by_hand():
    assert triplet_index(5, 2).tolist() == [[0, 2, 4]]
    assert triplet_index(4, 2).shape == (0, 3)
    positions = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 1.1], [0, 0, 2], [0, 0, 3]])
    assert triplet_index(5, 1, positions, 0.25)[:, 1].tolist() == [3]


def test_opencv_threads_change_no_bit():
    image = np.random.default_rng(0).integers(0, 256, (300, 500, 3), np.uint8)
    threads, results = cv2.getNumThreads(), []
    for count in (1, 4):
        cv2.setNumThreads(count)
        jittered = jitter_images([image], Jitter(1.1, 0.9, 1.2, 0.05, ORDER))
        results.append(resize_value(jittered[0], "image", (300, 500), (96, 320)))
    cv2.setNumThreads(threads)
    np.testing.assert_array_equal(*results)
