"""What the city is for: its images follow from its depth and flow, on any machine."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from unienc_core.data.synthcity import City, CityConfig

SHADOW_CHANGE = 127
"""Change of the shadow mask, 0..255, from which a pixel counts as changed: half of it."""


def sample(image, u, v):
    """Read `h w C` bilinearly at float positions inside it."""
    height, width = image.shape[:2]
    i, j = (
        np.clip(np.floor(v).astype(int), 0, height - 2),
        np.clip(np.floor(u).astype(int), 0, width - 2),
    )
    a, b = (u - j)[..., None], (v - i)[..., None]
    top = image[i, j] * (1 - a) + image[i, j + 1] * a
    return top * (1 - b) + (image[i + 1, j] * (1 - a) + image[i + 1, j + 1] * a) * b


def near_depth_edge(depth, radius=2, jump=1.1):
    """Return where depth changes by more than a factor within `radius` pixels."""
    filled = np.where(depth > 0, depth, 1e4).astype(np.float32)
    window = np.ones((2 * radius + 1,) * 2, np.uint8)
    return cv2.dilate(filled, window) > jump * cv2.erode(filled, window)


def warp(city, target, source):
    """Rebuild the target from the source by ground-truth depth and complete flow.

    Returns:
        Mean absolute error `H W` over the channels, 0..1; co-visible mask (projects into the
        source, whose depth there is that of the point within 5%); mask of pixels with depth;
        mask of depth edges; mask of movers; mask of changed shadow.
    """
    here, there = city.render(target), city.render(source)
    K, depth = city.K, here["depth"].astype(float)
    height, width = depth.shape
    v, u = np.mgrid[:height, :width].astype(float)
    point = np.stack([(u - K[0, 2]) / K[0, 0] * depth, (v - K[1, 2]) / K[1, 1] * depth, depth], -1)
    point += city.complete_flow(target, source)
    z = np.where(point[..., 2] > 0.1, point[..., 2], 1.0)
    x, y = point[..., 0] / z * K[0, 0] + K[0, 2], point[..., 1] / z * K[1, 1] + K[1, 2]
    solid = depth > 0
    inside = (
        solid & (point[..., 2] > 0.1) & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    )
    x, y = np.where(inside, x, 0), np.where(inside, y, 0)
    nearest = there["depth"][np.rint(y).astype(int), np.rint(x).astype(int)]
    visible = inside & (nearest > 0) & (np.abs(nearest - z) < 0.05 * z)
    error = np.abs(sample(there["image"] / 255.0, x, y) - here["image"] / 255.0).mean(axis=-1)
    edge = near_depth_edge(here["depth"])
    edge |= near_depth_edge(there["depth"])[np.rint(y).astype(int), np.rint(x).astype(int)]
    changed = np.zeros_like(solid)
    if "shadow" in here:
        cast = sample(there["shadow"][..., None].astype(float), x, y)[..., 0]
        changed = np.abs(cast - here["shadow"]) > SHADOW_CHANGE
    return error, visible, solid, edge, here["motion_mask"] > 0, changed


def warp_figures(size, seeds, shadows=False):
    """Return mean error, its 99th percentile off edges, co-visible, movers' error, changed."""
    errors, smooth, share, movers, changed = [], [], [], [], []
    for seed in seeds:
        city = City(CityConfig(seed, size, noise=0.0, num_frames=22, shadows=shadows))
        for target, source in ((5, 6), (20, 19)):
            error, visible, solid, edge, moving, shade = warp(city, target, source)
            share.append(visible.sum() / solid.sum())
            changed.append((visible & shade).sum() / visible.sum())
            visible &= ~shade
            errors.append(error[visible])
            smooth.append(error[visible & ~edge])
            movers.append(error[visible & moving])
    return (
        np.concatenate(errors).mean(),
        np.quantile(np.concatenate(smooth), 0.99),
        np.array(share),
        np.concatenate(movers).mean(),
        np.array(changed),
    )


@pytest.mark.parametrize(("size", "seeds"), [((96, 320), range(10)), ((192, 512), range(20, 24))])
def test_warping_by_ground_truth_rebuilds_the_image(size, seeds):
    mean, tail, share, movers, _ = warp_figures(size, seeds)
    assert mean <= 0.015
    assert tail <= 0.09
    assert movers <= 0.03
    assert share.min() >= 0.6


def test_warping_holds_under_cast_shadows_that_stand_still():
    mean, tail, share, _, changed = warp_figures((96, 320), range(6), shadows=True)
    assert mean <= 0.015
    assert tail <= 0.09
    assert share.min() >= 0.6
    assert 0.0 < changed.mean() < 0.02


def test_the_warp_test_can_fail():
    """Ten percent of wrong depth must be seen."""
    city = City(CityConfig(0, noise=0.0, num_frames=7))
    error, visible, *_ = warp(city, 5, 6)
    flow = city.complete_flow
    city.complete_flow = lambda target, source: flow(target, source) * 0.5
    wrong, also_visible, *_ = warp(city, 5, 6)
    both = visible & also_visible
    assert wrong[both].mean() > 2 * error[both].mean()


SCRIPT = """
import sys
import cv2
import numpy as np
from unienc_core.data.synthcity import City, CityConfig
cv2.setNumThreads(1)
out = {}
for seed in (3, 8):
    city = City(CityConfig(seed, (96, 320), shadows=seed == 8))
    for index in (17, 4):
        for key, value in city.render(index, (1,)).items():
            out[f"{seed}/{index}/{key}"] = value
np.savez(sys.argv[1], **out)
"""


def render_elsewhere(path, **environment):
    subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(path)],
        check=True,
        env={**os.environ, **environment},
    )
    return dict(np.load(path))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return render_elsewhere(tmp_path_factory.mktemp("city") / "a.npz")


def test_bytes_do_not_depend_on_the_process(reference):
    """A worker that renders some frames in another order writes what this process writes."""
    for seed in (3, 8):
        city = City(CityConfig(seed, (96, 320), shadows=seed == 8))
        for index in (4, 17):
            for key, value in city.render(index, (1,)).items():
                name = f"{seed}/{index}/{key}"
                np.testing.assert_array_equal(reference[name], value, err_msg=name)


def test_vector_instructions_do_not_matter(reference, tmp_path):
    from numpy._core import _multiarray_umath as numpy_core  # noqa: PLC2701 - names the features

    features = [f for f in numpy_core.__cpu_dispatch__ if numpy_core.__cpu_features__.get(f)]
    if not features:
        pytest.skip("numpy dispatches on no feature of this machine: nothing to switch off")
    plain = render_elsewhere(tmp_path / "b.npz", NPY_DISABLE_CPU_FEATURES=" ".join(features))
    assert plain.keys() == reference.keys()
    for name, value in reference.items():
        key = name.rsplit("/", 1)[1]
        if key in ("semantic", "instance_ids", "motion_mask", "shadow"):
            np.testing.assert_array_equal(plain[name], value, err_msg=name)
        elif key == "image":
            assert np.abs(plain[name].astype(int) - value).max() <= 1, name
        else:
            np.testing.assert_allclose(plain[name], value, rtol=1e-6, atol=1e-6, err_msg=name)
