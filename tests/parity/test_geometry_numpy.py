"""Geometry against NumPy, SciPy, OpenCV and kornia: general motions, odd sizes, both precisions."""

import cv2
import numpy as np
import numpy_oracles as oracle
import pytest
import torch
import torch.nn.functional as F

from unienc_core.geometry import camera, flow, se3
from unienc_core.geometry.warp import warp_ego
from unienc_core.metrics.depth import resize_disparity, to_depth
from unienc_core.presets import DepthSpec
from unienc_core.view_synthesis import full_size_depths

F32, F64 = torch.float32, torch.float64
ODD, TALL = (97, 131), (33, 20)

# Pixels, points in m, and colours; in single precision a pixel of 131 is known to 1e-5, and the
# colour of noise changes by up to 1 from one pixel to the next.
ATOL = {F32: {"px": 2e-3, "m": 5e-5, "colour": 2e-3}, F64: {"px": 1e-9, "m": 1e-11, "colour": 1e-9}}

every_case = pytest.mark.parametrize(
    ("dtype", "size", "B"), [(F32, ODD, 1), (F64, ODD, 3), (F32, TALL, 3), (F64, TALL, 2)]
)


def scene(B: int, size: tuple[int, int], dtype: torch.dtype, S: int = 2) -> dict[str, torch.Tensor]:
    """Noise seen by cameras that all differ, with skew; some points end behind the sources."""
    H, W = size
    generator = torch.Generator().manual_seed(B)

    def rand(*shape):
        return torch.rand(*shape, generator=generator, dtype=F64)

    K = torch.eye(3, dtype=F64).repeat(B, 1, 1)
    K[:, 0, 0], K[:, 1, 1] = W * (0.6 + 0.4 * rand(B)), W * (0.6 + 0.4 * rand(B))
    K[:, 0, 2], K[:, 1, 2] = W * (0.4 + 0.2 * rand(B)), H * (0.4 + 0.2 * rand(B))
    K[:, 0, 1] = rand(B)
    motion = 2 * rand(B, S, 6) - 1
    motion[0, 0, 5] = -0.9
    T_st = se3.make_T(0.1 * motion[..., :3], motion[..., 3:])
    values = {
        "depth": 0.5 + 8 * rand(B, 1, H, W) ** 2,
        "K": K,
        "T_source_target": T_st,
        "sources": rand(B, S, 3, H, W),
        "step": rand(B, 3, H, W) - 0.7,
    }
    return {key: value.to(dtype) for key, value in values.items()}


def numpy_of(values: dict[str, torch.Tensor], b: int) -> dict[str, np.ndarray]:
    return {key: value[b].double().numpy() for key, value in values.items()}


def close(found: torch.Tensor, expected, unit: str, where=True) -> None:
    """Compare where `where` holds; `unit` says how exact this precision can be."""
    difference = np.abs(found.double().numpy() - expected)
    assert np.where(where, difference, 0).max() <= ATOL[found.dtype][unit]


def clearly_in_front(points: np.ndarray) -> np.ndarray:
    """Points whose projection is well conditioned in single precision, `H W`."""
    return points[2] > 0.3


@every_case
def test_points_motion_and_projection(dtype, size, B):
    values = scene(B, size, dtype)
    T_st = values["T_source_target"][:, 0]
    points = camera.backproject(values["depth"], values["K"])
    moved = se3.transform(T_st, points)
    pixels, z = camera.project(moved, values["K"])
    seen = camera.in_view(pixels, z, size)
    behind = 0
    for b in range(B):
        own = numpy_of(values, b)
        here = oracle.backproject(own["depth"], own["K"])
        close(points[b], here, "m")
        there = oracle.transform(own["T_source_target"][0], here)
        close(moved[b], there, "m")
        expected, z_expected = oracle.project(there, own["K"])
        sound = clearly_in_front(there)
        close(pixels[b], expected, "px", sound)
        close(z[b, 0], z_expected, "m")
        assert (pixels[b].numpy()[:, there[2] < 0] == oracle.BEHIND).all()
        border = np.abs(np.modf(np.abs(expected) + 0.5)[0]).min(0) < 1e-3
        agree = seen[b, 0].numpy() == oracle.in_view(expected, z_expected)
        assert agree[sound & ~border].all()
        behind += np.count_nonzero(there[2] < 0)
    assert behind > 0  # the case must occur


@every_case
def test_flows(dtype, size, B):
    values = scene(B, size, dtype)
    T_st = values["T_source_target"][:, 0]
    points = camera.backproject(values["depth"], values["K"])
    rigid = flow.rigid_flow(values["depth"], values["K"], T_st)
    image = flow.optical_flow(points + rigid, values["K"])
    own_motion = flow.project_flow(points, values["step"], values["K"])
    for b in range(B):
        own = numpy_of(values, b)
        here = oracle.backproject(own["depth"], own["K"])
        there = oracle.transform(own["T_source_target"][0], here)
        close(rigid[b], there - here, "m")
        close(image[b], oracle.optical_flow(here, there, own["K"]), "px", clearly_in_front(there))
        assert (image[b].numpy()[:, there[2] < 0] == 0).all()
        end = here + own["step"]
        expected = oracle.optical_flow(here, end, own["K"])
        close(own_motion[b], expected, "px", clearly_in_front(end) | (end[2] < 0))


@every_case
def test_sampling_anywhere_and_beyond_the_border(dtype, size, B):
    H, W = size
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(B, 2, H, W, generator=generator, dtype=dtype)
    spread = torch.tensor([W + 20.0, H + 20.0]).view(1, 2, 1, 1)
    pixels = spread * torch.rand(B, 2, 40, 50, generator=generator, dtype=dtype) - 10
    found = camera.sample(image, camera.to_grid(pixels.to(dtype), size))
    for b in range(B):
        expected = oracle.sample(image[b].double().numpy(), pixels[b].double().numpy())
        close(found[b], expected, "colour")


@every_case
def test_warped_views_and_what_they_show(dtype, size, B):
    values = scene(B, size, dtype)
    args = (values[key] for key in ("sources", "depth", "K", "T_source_target"))
    warped, seen = warp_ego(*args)
    for b in range(B):
        own = numpy_of(values, b)
        for s in range(2):
            T_st = own["T_source_target"][s]
            expected, shown = oracle.warp(own["sources"][s], own["depth"], own["K"], T_st)
            moved = oracle.transform(T_st, oracle.backproject(own["depth"], own["K"]))
            sound = clearly_in_front(moved) | (moved[2] < 0)
            close(warped[b, s], expected, "colour", sound)
            assert np.mean(seen[b, s, 0].numpy() == shown) > 0.999  # but for the very edge


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("small", [(97, 131), (49, 66), (25, 33), (13, 17)])
def test_full_size_depths_equal_opencvs(dtype, small):
    disparity = torch.rand(2, 1, *small, generator=torch.Generator().manual_seed(0), dtype=dtype)
    (found,) = full_size_depths([disparity], DepthSpec(min=0.1, max=100.0), ODD)
    for b in range(2):
        full = oracle.upsample(disparity[b].double().numpy(), ODD)
        expected = oracle.disparity_to_depth(full, 0.1, 100.0)
        rtol = 1e-10 if dtype == F64 else 2e-4  # OpenCV's weights are single precision's
        np.testing.assert_allclose(found[b].double().numpy(), expected, rtol=rtol)


@pytest.mark.parametrize("small", [(49, 66), (25, 33), (200, 300)])
def test_the_metrics_resize_as_training_does(small):
    """Disparity of the evaluator (OpenCV) against torch's bilinear rule, up and down."""
    disparity = 0.01 + np.random.default_rng(0).random(small)
    found = resize_disparity(disparity, ODD)
    expected = F.interpolate(torch.from_numpy(disparity)[None, None], ODD, mode="bilinear")[0, 0]
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-6)
    depth = to_depth(1 / disparity, "depth", ODD, "x")
    np.testing.assert_allclose(depth, 1 / expected.numpy(), rtol=1e-4)


def test_K_of_a_resized_image_still_hits_the_same_colours():
    """Project into an image and into its half: the colours of a smooth picture agree."""
    v, u = np.indices((96, 160), dtype=np.float64)
    picture = np.sin(u / 9) + np.cos(v / 11)
    half = cv2.resize(picture, (80, 48), interpolation=cv2.INTER_AREA)
    values = scene(1, (48, 80), F64)
    K = torch.tensor([[[120.0, 0.5, 77.0], [0, 110.0, 40.0], [0, 0, 1]]], dtype=F64)
    small_K = camera.resize_K(K, (96, 160), (48, 80))
    points = camera.backproject(1 + values["depth"], small_K) + 0.02
    for wrong in (False, True):
        colours = []
        for image, matrix in ((picture, K), (half, K / 2 if wrong else small_K)):
            pixels, _ = camera.project(points, matrix)
            grid = camera.to_grid(pixels, image.shape)
            colours.append(
                camera.sample(torch.from_numpy(image)[None, None], grid)[..., 4:-4, 4:-4]
            )
        error = (colours[0] - colours[1]).abs().mean()
        # Halving K forgets that centres lie at integers: a quarter of a pixel.
        assert (error > 0.02) if wrong else (error < 0.01)


@pytest.mark.parity
@every_case
def test_parity_of_warping_with_kornia(dtype, size, B):
    depth_module = pytest.importorskip("kornia.geometry.depth")
    values = scene(B, size, dtype)
    values["K"][:, 0, 1] = 0  # theirs has no skew
    source, T_st = values["sources"][:, 0], values["T_source_target"][:, 0]
    found, seen = warp_ego(source[:, None], values["depth"], values["K"], T_st[:, None])
    theirs = depth_module.warp_frame_depth(source, values["depth"], T_st, values["K"])
    points = se3.transform(T_st, camera.backproject(values["depth"], values["K"]))
    pixels, _ = camera.project(points, values["K"])
    limit = torch.tensor([size[1] - 1.0, size[0] - 1.0]).view(1, 2, 1, 1)
    # Outside they fade to black where ours repeats the border.
    inside = ((pixels >= 0) & (pixels <= limit)).all(1, keepdim=True) & (points[:, 2:] > 0.3)
    assert inside.double().mean() > 0.1
    difference = torch.where(inside, found[:, 0] - theirs, 0.0).abs().max().item()
    assert difference <= ATOL[dtype]["colour"]
    assert bool(seen[:, 0][inside].all())


@pytest.mark.parity
@pytest.mark.parametrize("dtype", [F32, F64])
def test_parity_of_composed_motions_with_kornia(dtype):
    linalg = pytest.importorskip("kornia.geometry.linalg")
    values = scene(3, TALL, dtype)
    T_ab, T_bc = values["T_source_target"].unbind(1)
    rtol = {"rtol": 0, "atol": 1e-6 if dtype == F32 else 1e-12}
    found = se3.compose(T_ab, T_bc)
    torch.testing.assert_close(found, linalg.compose_transformations(T_ab, T_bc), **rtol)
    points = values["step"]
    flat = points.flatten(2).mT.contiguous()
    theirs = linalg.transform_points(T_ab, flat).mT.reshape(points.shape)
    torch.testing.assert_close(se3.transform(T_ab, points), theirs, **rtol)
