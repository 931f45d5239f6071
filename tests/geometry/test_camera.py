"""Cameras: closed forms, derivatives, conventions, and kornia as an oracle."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from unienc_core.errors import ShapeError, UsageError
from unienc_core.geometry import camera

SIZES = st.integers(2, 40)


def some_K(B=1, dtype=torch.float64, skew=0.0):
    K = torch.tensor([[80.0, skew, 13.7], [0.0, 95.0, 6.2], [0.0, 0.0, 1.0]], dtype=dtype)
    return K.expand(B, 3, 3).clone()


def some_depth(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    return 1.0 + 9.0 * torch.rand(*shape, generator=generator, dtype=dtype)


def test_pixel_grid_counts_centres_from_zero():
    grid = camera.pixel_grid(2, 3)
    assert grid.tolist() == [[[0, 1, 2], [0, 1, 2]], [[0, 0, 0], [1, 1, 1]], [[1, 1, 1], [1, 1, 1]]]


def test_backproject_by_hand():
    depth = torch.zeros(1, 1, 4, 5)
    depth[0, 0, 2, 3] = 10.0
    K = torch.tensor([[[5.0, 0.0, 2.0], [0.0, 4.0, 1.5], [0.0, 0.0, 1.0]]])
    point = camera.backproject(depth, K)[0, :, 2, 3]
    assert point.tolist() == pytest.approx([(3 - 2) / 5 * 10, (2 - 1.5) / 4 * 10, 10.0])


@pytest.mark.parametrize(("B", "H", "W"), [(1, 5, 7), (3, 8, 3)])
@pytest.mark.parametrize("skew", [0.0, 2.5])
def test_backproject_and_project_are_K_and_its_inverse(B, H, W, skew):
    depth, K = some_depth(B, 1, H, W), some_K(B, skew=skew)
    pixels = camera.pixel_grid(H, W, dtype=torch.float64)
    expected = depth * torch.einsum("bij,jhw->bihw", torch.linalg.inv(K), pixels)
    points = camera.backproject(depth, K)
    torch.testing.assert_close(points, expected, rtol=1e-12, atol=1e-12)

    moved = points + torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64).view(1, 3, 1, 1)
    homogeneous = torch.einsum("bij,bjhw->bihw", K, moved)
    found, z = camera.project(moved, K)
    torch.testing.assert_close(found, homogeneous[:, :2] / homogeneous[:, 2:], rtol=1e-12, atol=0)
    torch.testing.assert_close(z, moved[:, 2:], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip_keeps_dtype_and_pixels(dtype):
    depth, K = some_depth(2, 1, 96, 320, dtype=dtype), some_K(2, dtype)
    pixels, z = camera.project(camera.backproject(depth, K), K)
    assert pixels.dtype == z.dtype == dtype
    expected = camera.pixel_grid(96, 320, dtype=dtype)[:2].expand_as(pixels)
    atol = 1e-4 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(pixels, expected, rtol=0, atol=atol)


def test_a_sample_does_not_depend_on_its_batch():
    depth, K = some_depth(3, 1, 5, 7), some_K(3)
    K[1] *= torch.tensor([[1.1], [0.9], [1.0]])
    whole = camera.backproject(depth, K)
    for i in range(3):
        alone = camera.backproject(depth[i : i + 1], K[i : i + 1])
        torch.testing.assert_close(whole[i : i + 1], alone, rtol=0, atol=0)


def test_points_behind_the_camera_are_finite_outside_and_without_gradient():
    z = torch.tensor([2.0, camera.MIN_Z, 0.0, -0.0, -1e-9, -3.0, 1e-30])
    points = torch.stack((torch.zeros(7), torch.full((7,), 0.5), z)).view(1, 3, 1, 7)
    points.requires_grad_()
    K = some_K(dtype=torch.float32)
    pixels, found_z = camera.project(points, K)
    assert pixels.isfinite().all()
    seen = camera.in_view(pixels, found_z, (200, 200))
    assert seen.flatten().tolist() == [True] + [False] * 6
    image = torch.rand(1, 3, 200, 200)
    camera.sample(image, camera.to_grid(pixels, (200, 200))).square().sum().backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()
    assert points.grad[..., 0].abs().sum() > 0
    assert points.grad[..., 1:].abs().sum() == 0


def test_in_view_ends_at_the_edge_of_the_last_pixel():
    u = torch.tensor([-0.51, -0.5, 0.0, 6.5, 6.51])
    pixels = torch.stack((u, torch.ones(5))).view(1, 2, 1, 5)
    seen = camera.in_view(pixels, torch.ones(1, 1, 1, 5), (3, 7))
    assert seen.flatten().tolist() == [False, True, True, True, False]
    below = torch.stack((torch.ones(5), u)).view(1, 2, 1, 5)
    seen = camera.in_view(below, torch.ones(1, 1, 1, 5), (7, 3))
    assert seen.flatten().tolist() == [False, True, True, True, False]


def test_in_view_asks_for_depth_wherever_the_pixel_lies():
    z = torch.tensor([1.0, 2 * camera.MIN_Z, camera.MIN_Z, 0.0, -1.0]).view(1, 1, 1, 5)
    seen = camera.in_view(torch.ones(1, 2, 1, 5), z, (3, 3))
    assert seen.flatten().tolist() == [True, True, False, False, False]


@pytest.mark.parametrize(("H", "W"), [(1, 1), (1, 6), (5, 1), (5, 7)])
def test_sampling_at_pixel_centres_is_the_image(H, W):
    image = torch.rand(2, 4, H, W, dtype=torch.float64)
    pixels = camera.pixel_grid(H, W, dtype=torch.float64)[:2].expand(2, 2, H, W)
    torch.testing.assert_close(camera.sample(image, camera.to_grid(pixels)), image)


def test_the_sampling_convention_by_hand():
    image = torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]).view(1, 1, 2, 3)
    # Corner, between two pixels, between four, and beyond the border.
    pixels = torch.tensor([[2.0, 0.5, 1.5, -7.0, 9.0], [1.0, 0.0, 0.5, 0.0, 9.0]]).view(1, 2, 1, 5)
    grid = camera.to_grid(pixels, (2, 3))
    assert grid[0, 0, 0].tolist() == [1.0, 1.0]
    assert camera.sample(image, grid).flatten().tolist() == pytest.approx([5, 0.5, 3, 0, 5])


def test_gradients_match_finite_differences():
    depth = some_depth(2, 1, 3, 4).requires_grad_()
    K = some_K(2, skew=1.0).requires_grad_()
    assert gradcheck(camera.backproject, (depth, K))
    points = camera.backproject(depth, K).detach().requires_grad_()
    assert gradcheck(lambda p, k: camera.project(p, k)[0], (points, K))
    image = torch.rand(2, 2, 5, 6, dtype=torch.float64).requires_grad_()
    offset = torch.tensor(0.3, dtype=torch.float64)  # between centres, where sampling is smooth
    pixels = (camera.pixel_grid(3, 4, dtype=torch.float64)[:2] + offset).expand(2, 2, 3, 4)
    pixels = pixels.clone().requires_grad_()
    assert gradcheck(lambda i, p: camera.sample(i, camera.to_grid(p, (5, 6))), (image, pixels))


@given(h0=SIZES, w0=SIZES, h1=SIZES, w1=SIZES)
@settings(max_examples=40, deadline=None)
def test_resizing_K_then_projecting_is_projecting_then_resizing(h0, w0, h1, w1):
    points, K = camera.backproject(some_depth(1, 1, 4, 5), some_K()), some_K(skew=3.0)
    pixels, _ = camera.project(points, K)
    resized, _ = camera.project(points, camera.resize_K(K, (h0, w0), (h1, w1)))
    scale = torch.tensor([w1 / w0, h1 / h0], dtype=torch.float64).view(1, 2, 1, 1)
    torch.testing.assert_close(resized, scale * (pixels + 0.5) - 0.5)
    back = camera.resize_K(camera.resize_K(K, (h0, w0), (h1, w1)), (h1, w1), (h0, w0))
    torch.testing.assert_close(back, K)


@given(x0=st.floats(-50, 50), y0=st.floats(-50, 50), W=SIZES)
@settings(max_examples=40, deadline=None)
def test_crop_and_flip_move_pixels_as_they_say(x0, y0, W):
    points, K = camera.backproject(some_depth(1, 1, 4, 5), some_K()), some_K(skew=3.0)
    pixels, _ = camera.project(points, K)
    cropped, _ = camera.project(points, camera.crop_K(K, x0, y0))
    shift = torch.tensor([x0, y0], dtype=torch.float64).view(1, 2, 1, 1)
    torch.testing.assert_close(cropped, pixels - shift)

    flipped = camera.flip_K(K, W)
    mirror = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64).view(1, 3, 1, 1)
    mirrored, _ = camera.project(mirror * points, flipped)
    torch.testing.assert_close(mirrored[:, 0], W - 1 - pixels[:, 0])
    torch.testing.assert_close(mirrored[:, 1], pixels[:, 1])
    assert flipped[0, 0, 0] == K[0, 0, 0]
    torch.testing.assert_close(camera.flip_K(flipped, W), K)


def test_K_changes_accept_a_single_matrix_and_any_leading_axes():
    for shape in [(3, 3), (2, 3, 3), (2, 5, 3, 3)]:
        K = some_K()[0].expand(shape)
        assert camera.resize_K(K, (4, 4), (8, 8)).shape == shape
        assert camera.crop_K(K, 1, 2).shape == shape
        assert camera.flip_K(K, 9).shape == shape


def test_resize_K_agrees_with_how_images_are_resized():
    """A ramp whose value is its own column keeps telling the column after resizing."""
    W, half = 24, 12
    ramp = torch.arange(W, dtype=torch.float64).expand(1, 1, 4, W)
    small = F.interpolate(ramp, (2, half), mode="bilinear", align_corners=False, antialias=True)
    K = camera.resize_K(torch.eye(3, dtype=torch.float64), (4, W), (2, half))
    columns = K[0, 0] * small[0, 0, 0] + K[0, 2]
    inner = slice(2, -2)
    expected = torch.arange(half, dtype=torch.float64)
    torch.testing.assert_close(columns[inner], expected[inner])


def test_K_from_fov_spans_the_image_edges():
    K = camera.K_from_fov(60.0, 96, 320)
    for edge, sign in ((-0.5, -1), (319.5, 1)):
        angle = math.degrees(math.atan((edge - K[0, 2].item()) / K[0, 0].item()))
        assert angle == pytest.approx(sign * 30.0, abs=1e-4)
    assert K[1, 1] == K[0, 0]
    assert K[1, 2] == 47.5
    for wrong in (0.0, 180.0, -5.0, math.nan):
        with pytest.raises(UsageError, match="field of view"):
            camera.K_from_fov(wrong, 96, 320)


def test_the_two_depth_conventions_by_hand():
    d = torch.tensor([0.0, 0.01, 0.5, 1.0], dtype=torch.float64)
    scaled = camera.disparity_to_depth(d, 0.1, 100.0)
    assert scaled.tolist() == pytest.approx([100.0, 1 / 0.1099, 1 / 5.005, 0.1])
    inverse = camera.disparity_to_depth(d, 0.1, 100.0, "inverse")
    assert inverse.tolist() == pytest.approx([100.0, 100.0, 2.0, 1.0])
    near = camera.disparity_to_depth(d, 4.0, 100.0, "inverse")
    assert near.tolist() == pytest.approx([100.0, 100.0, 4.0, 4.0])


@given(
    depth=st.floats(0.2, 90.0),
    convention=st.sampled_from(["scaled", "inverse"]),
)
@settings(max_examples=40, deadline=None)
def test_depth_and_disparity_are_inverse(depth, convention):
    x = torch.tensor([depth], dtype=torch.float64)
    d = camera.depth_to_disparity(x, 0.1, 100.0, convention)
    torch.testing.assert_close(camera.disparity_to_depth(d, 0.1, 100.0, convention), x)


@pytest.mark.parametrize("convention", ["scaled", "inverse"])
def test_depth_falls_with_disparity_and_has_its_derivative(convention):
    d = torch.linspace(0.05, 0.95, 7, dtype=torch.float64, requires_grad=True)
    assert (camera.disparity_to_depth(d, 0.1, 100.0, convention).diff() < 0).all()
    assert gradcheck(lambda x: camera.disparity_to_depth(x, 0.1, 100.0, convention), (d,))


def test_an_impossible_depth_range_is_refused():
    for low, high in ((0.0, 1.0), (2.0, 1.0), (-1.0, 3.0)):
        with pytest.raises(UsageError, match="depth range"):
            camera.disparity_to_depth(torch.ones(1), low, high)


def test_wrong_shapes_are_named():
    depth, K = some_depth(2, 1, 3, 4), some_K(2)
    with pytest.raises(ShapeError, match="depth"):
        camera.backproject(depth[:, 0], K)
    with pytest.raises(ShapeError, match="K"):
        camera.backproject(depth, K[:1])
    with pytest.raises(ShapeError, match="points"):
        camera.project(depth, K)
    with pytest.raises(ShapeError, match="grid"):
        camera.sample(torch.rand(2, 3, 4, 4), torch.rand(1, 4, 4, 2))


def test_autocast_does_not_coarsen_geometry():
    depth, K = some_depth(2, 1, 24, 300, dtype=torch.float32), some_K(2, torch.float32)
    image = torch.rand(2, 3, 24, 300)

    def warp():
        points = camera.backproject(depth, K) + 0.1
        pixels, _ = camera.project(points, K)
        return pixels, camera.sample(image, camera.to_grid(pixels))

    plain = warp()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for found, expected in zip(warp(), plain, strict=True):
            assert found.dtype == torch.float32
            assert torch.equal(found, expected)


def test_half_precision_input_is_widened_first():
    d = torch.tensor([0.5, 0.25], dtype=torch.bfloat16)
    depth = camera.disparity_to_depth(d, 0.1, 100.0)
    assert depth.dtype == torch.float32
    assert depth.tolist() == pytest.approx([1 / 5.005, 1 / (0.01 + 9.99 * 0.25)])


@pytest.mark.parity
def test_parity_with_kornia():
    kornia_camera = pytest.importorskip("kornia.geometry.camera")
    kornia_depth = pytest.importorskip("kornia.geometry.depth")
    depth, K = some_depth(2, 1, 5, 7), some_K(2)
    points = camera.backproject(depth, K)
    theirs = kornia_depth.depth_to_3d_v2(depth[:, 0], K).permute(0, 3, 1, 2)
    torch.testing.assert_close(points, theirs)
    moved = points + 0.25
    found, _ = camera.project(moved, K)
    theirs = kornia_camera.project_points(moved.permute(0, 2, 3, 1), K[:, None, None])
    torch.testing.assert_close(found, theirs.permute(0, 3, 1, 2))
