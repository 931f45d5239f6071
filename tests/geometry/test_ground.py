"""The ground plane: exact planes, outliers, batches, scales, damping, and what is no ground."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unienc_core.errors import ShapeError, UsageError
from unienc_core.geometry.camera import backproject, pixel_grid, resize_K
from unienc_core.geometry.ground import fit_ground_plane

F64 = torch.float64
H, W = 97, 131
K = torch.tensor([[105.0, 0.0, 61.0], [0.0, 98.0, 41.0], [0.0, 0.0, 1.0]], dtype=F64)


def up(pitch: float = 0.0, roll: float = 0.0) -> torch.Tensor:
    """The plane's normal in the frame of a camera pitched and rolled by angles in degrees."""
    p, r = math.radians(pitch), math.radians(roll)
    return torch.tensor(
        [math.cos(p) * math.sin(r), -math.cos(p) * math.cos(r), math.sin(p)], dtype=F64
    )


def plane_depth(normal, height, intrinsics=K, size=(H, W), far=60.0) -> torch.Tensor:
    """Depth `1 1 H W` of a plane: z with n . (z r) = -h on each ray r, at most `far` heights."""
    rays = torch.einsum(
        "ij,jhw->ihw", torch.linalg.inv(intrinsics), pixel_grid(*size, dtype=intrinsics.dtype)
    )
    fall = -torch.einsum("i,ihw->hw", normal, rays)
    return (height / fall.clamp(min=1 / far))[None, None]


def plane_points(normal, height) -> torch.Tensor:
    return backproject(plane_depth(normal, height), K[None])


def spoil(points: torch.Tensor, share: float, seed: int) -> torch.Tensor:
    """Bring a share of the points nearer, each by a factor of its own: things on the road."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(points), 1, *points.shape[2:])
    hit = torch.rand(shape, generator=generator, dtype=F64) < share
    nearer = 0.3 + 0.6 * torch.rand(shape, generator=generator, dtype=F64)
    return torch.where(hit, nearer.to(points) * points, points)


def assert_plane(found, i, normal, height, tolerance=1e-6):
    assert found.found[i]
    assert found.height[i].item() == pytest.approx(height, rel=tolerance)
    torch.testing.assert_close(found.normal[i].double(), normal, rtol=0, atol=tolerance)


@given(
    pitch=st.floats(-8, 8),
    roll=st.floats(-8, 8),
    height=st.floats(0.02, 50),
    seed=st.integers(0, 99),
)
@settings(max_examples=15, deadline=None)
def test_an_exact_plane_is_found_whatever_lies_on_it(pitch, roll, height, seed):
    points = spoil(plane_points(up(pitch, roll), height), 0.4, seed)
    found = fit_ground_plane(points, seed=seed)
    assert_plane(found, 0, up(pitch, roll), height)
    assert 0.55 < found.inlier_share.item() < 0.75
    torch.testing.assert_close(found.normal.norm(dim=1), torch.ones(1, dtype=F64))


def test_single_precision_stays_single_and_close():
    found = fit_ground_plane(plane_points(up(2, -1), 1.5).float())
    assert found.normal.dtype == found.height.dtype == found.inlier_share.dtype == torch.float32
    assert_plane(found, 0, up(2, -1), 1.5, tolerance=1e-5)


PLANES = [(up(0, 0), 1.0), (up(3, -2), 1.7), (up(-4, 1), 0.05), (up(1, 6), 12.0), (up(-2, -5), 3.0)]


def test_every_image_is_scored_on_its_own_points():
    """Counted on another image's points, all hypotheses are equally bad and the first one wins."""
    clouds = [spoil(plane_points(n, h), 0.5, seed=i) for i, (n, h) in enumerate(PLANES)]
    for seed in range(3):
        found = fit_ground_plane(torch.cat(clouds), seed=seed)
        for i, (normal, height) in enumerate(PLANES):
            assert_plane(found, i, normal, height)


def test_an_image_does_not_depend_on_its_batch():
    clouds = [spoil(plane_points(n, h), 0.4, seed=i) for i, (n, h) in enumerate(PLANES)]
    clouds[1][..., ::3, :] = math.nan  # other points missing in each
    clouds[2][..., 1::2] = -1.0
    generator = torch.Generator().manual_seed(5)
    for cloud in clouds:  # noise and few hypotheses: the result tells which points were drawn
        cloud *= 1 + 0.03 * torch.randn(1, 1, H, W, generator=generator, dtype=F64)
    order = [3, 0, 4, 2, 1]
    shuffled = fit_ground_plane(torch.cat([clouds[i] for i in order]), num_hypotheses=3)
    for place, i in enumerate(order):
        alone = fit_ground_plane(clouds[i], num_hypotheses=3)
        assert shuffled.inlier_share[place] == alone.inlier_share[0]
        torch.testing.assert_close(shuffled.height[place], alone.height[0], rtol=1e-12, atol=0)
        torch.testing.assert_close(shuffled.normal[place], alone.normal[0], rtol=0, atol=1e-12)


def test_each_scale_with_its_own_K_sees_the_same_plane():
    """Disparity of a plane is linear in the image, so that averaging it is exact."""
    size, normal, height = (96, 160), up(2, 1), 1.6
    disparity = 1 / plane_depth(normal, height, size=size, far=1e9)
    for level in range(4):
        small = torch.nn.functional.avg_pool2d(disparity, 2**level)
        depth = 1 / small
        own_K = resize_K(K, size, (small.shape[2], small.shape[3]))
        assert_plane(fit_ground_plane(backproject(depth, own_K[None])), 0, normal, height, 1e-5)
        full_K = fit_ground_plane(backproject(depth, K[None]))
        if level:  # forgetting to resize K must show, or this test could not fail
            assert not full_K.found or abs(full_K.height.item() / height - 1) > 0.1


def noisy_points(seed=0) -> torch.Tensor:
    points = plane_points(up(1, 2), 1.4)
    noise = torch.randn(1, 1, H, W, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return points * (1 + 0.02 * noise)


@pytest.mark.parametrize("damping", [1e-9, 1e-3])
def test_the_refit_is_damped_least_squares_over_the_inliers(damping):
    points = noisy_points()
    found = fit_ground_plane(points, rows=0.5, columns=1.0, tolerance=0.9, damping=damping)
    assert found.inlier_share == 1
    cloud = points[0, :, H - H // 2 :].flatten(1).numpy()
    normal_matrix = cloud @ cloud.T
    normal_matrix += damping * np.trace(normal_matrix) / 3 * np.eye(3)
    a = np.linalg.solve(normal_matrix, cloud.sum(1))
    np.testing.assert_allclose(found.height.item(), 1 / np.linalg.norm(a), rtol=1e-9)
    np.testing.assert_allclose(found.normal[0], -a / np.linalg.norm(a), atol=1e-9)
    if damping < 1e-6:
        direct, *_ = np.linalg.lstsq(cloud.T, np.ones(cloud.shape[1]), rcond=None)
        np.testing.assert_allclose(-found.normal[0] / found.height, direct, rtol=1e-4, atol=1e-6)


def test_damping_does_not_tilt_a_symmetric_road():
    """On the diagonal it shrinks the axes; on all entries it would pull x towards y and z."""
    symmetric_K = torch.tensor([[100.0, 0, 65.0], [0, 100.0, 40.0], [0, 0, 1]], dtype=F64)
    points = backproject(plane_depth(up(), 1.5, symmetric_K), symmetric_K[None])
    found = fit_ground_plane(points, tolerance=0.9, damping=0.02)
    assert found.found
    assert abs(found.normal[0, 0].item()) < 1e-12
    assert found.height.item() > 1.51  # it is damped indeed


def test_points_on_one_line_neither_raise_nor_count_as_ground_of_any_height():
    line = torch.zeros(1, 3, 40, 40, dtype=F64)
    line[:, 1], line[:, 2] = 1.5, torch.linspace(4, 9, 40, dtype=F64)
    found = fit_ground_plane(line)  # all x = 0: no trio spans a plane
    assert found.height.isfinite().all()
    assert found.normal.isfinite().all()
    assert not found.found or found.height.item() == pytest.approx(1.5, rel=1e-3)


def test_repeated_calls_agree_and_leave_the_global_generator_alone():
    points = torch.cat([noisy_points(0), noisy_points(1)])
    state = torch.get_rng_state()
    first, second = fit_ground_plane(points, seed=7), fit_ground_plane(points, seed=7)
    assert torch.equal(torch.get_rng_state(), state)
    for name in ("normal", "height", "inlier_share", "found"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    few = [fit_ground_plane(points, seed=s, num_hypotheses=1).inlier_share for s in range(4)]
    assert len({tuple(share.tolist()) for share in few}) > 1


@pytest.mark.parametrize("unit", [2.0**-7, 2.0**6])
def test_the_unit_of_depth_does_not_matter(unit):
    points = spoil(noisy_points(), 0.3, 0)
    plain, scaled = fit_ground_plane(points), fit_ground_plane(unit * points)
    assert torch.equal(scaled.normal, plain.normal)
    assert torch.equal(scaled.height, unit * plain.height)
    assert torch.equal(scaled.inlier_share, plain.inlier_share)


def test_the_tolerance_by_hand():
    """Three of ten columns lie 4% of the camera's height above the road: 0.064 m at 1.6 m."""
    points = plane_points(up(), 1.6)
    raised = torch.arange(W) % 10 < 3
    points[..., raised] = (points * 0.96)[..., raised]

    def share(height=1.6, **options):
        found = fit_ground_plane(height / 1.6 * points, columns=1.0, **options)
        return found.inlier_share.item()

    low = (~raised).double().mean().item()
    assert share(tolerance=0.05) == 1.0
    assert share(tolerance=0.02) == pytest.approx(low)
    assert share(height=16, tolerance=0.02) == pytest.approx(low)


def not_ground() -> dict[str, torch.Tensor]:
    wall = torch.ones(1, 3, H, W, dtype=F64) * 9
    grid = backproject(wall[:, :1], K[None])
    generator = torch.Generator().manual_seed(0)
    cloud = backproject(
        1 + 30 * torch.rand(1, 1, H, W, generator=generator, dtype=F64) ** 3, K[None]
    )
    ceiling = plane_points(up(), 1.5) * torch.tensor([1.0, -1.0, 1.0], dtype=F64)[:, None, None]
    few = torch.full((1, 3, H, W), math.nan, dtype=F64)
    few[..., -3:, 60:65] = plane_points(up(), 1.5)[..., -3:, 60:65]
    return {
        "a wall ahead": grid,
        "a cloud": cloud,
        "a ceiling": ceiling,
        "a steep slope": plane_points(up(0, 45), 1.5),
        "15 points": few,
        "nothing": torch.zeros(1, 3, H, W, dtype=F64),
        "infinity": torch.full((1, 3, H, W), math.inf, dtype=F64),
    }


def test_what_is_no_ground_is_not_found_and_harms_no_neighbour():
    cases = not_ground()
    road = plane_points(up(1, 1), 1.5)
    found = fit_ground_plane(torch.cat([*cases.values(), road]))
    assert dict(zip(cases, found.found.tolist(), strict=False)) == dict.fromkeys(cases, False)
    assert found.height[:-1].abs().max() == 0
    assert torch.equal(found.normal[:-1], up().expand(len(cases), 3))
    assert found.inlier_share.isfinite().all()
    assert_plane(found, len(cases), up(1, 1), 1.5)


def test_the_limits_are_options():
    cases = not_ground()
    assert fit_ground_plane(cases["15 points"], min_points=15).found
    assert fit_ground_plane(cases["a steep slope"], max_tilt_deg=50).found
    half = spoil(plane_points(up(), 1.5), 0.5, 0)
    assert fit_ground_plane(half, min_inlier_share=0.4).found
    assert not fit_ground_plane(half, min_inlier_share=0.6).found


def test_only_the_lower_middle_is_looked_at():
    normal, height = up(2, 0), 1.3
    points = torch.full((1, 3, 100, 120), 5.0, dtype=F64)
    top, left = 60, 30
    road = backproject(plane_depth(normal, height, size=(100, 120)), K[None])
    points[..., top:, left:-left] = road[..., top:, left:-left]
    found = fit_ground_plane(points, rows=0.4, columns=0.5)
    assert_plane(found, 0, normal, height)
    assert found.inlier_share == 1
    assert fit_ground_plane(points, rows=0.41, columns=0.5).inlier_share < 1
    assert fit_ground_plane(points, rows=0.4, columns=0.52).inlier_share < 1


def test_a_mask_takes_points_out():
    points = plane_points(up(), 1.5)
    points[..., 50:70] = 0.5 * points[..., 50:70]
    valid = torch.ones(1, 1, H, W, dtype=torch.bool)
    valid[..., 50:70] = False
    assert fit_ground_plane(points).inlier_share < 0.8
    found = fit_ground_plane(points, valid=valid)
    assert found.inlier_share == 1
    assert_plane(found, 0, up(), 1.5)


def test_no_gradient_passes():
    points = noisy_points().requires_grad_()
    found = fit_ground_plane(points)
    assert not found.height.requires_grad
    assert not found.normal.requires_grad


def test_autocast_and_half_precision_do_not_coarsen_the_plane():
    points = noisy_points().float()
    plain = fit_ground_plane(points)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = fit_ground_plane(points)
    assert torch.equal(cast.height, plain.height)
    half = fit_ground_plane(points.bfloat16())
    assert half.height.dtype == torch.float32
    assert half.height.item() == pytest.approx(1.4, rel=0.01)


def test_wrong_requests_are_named():
    points = torch.zeros(2, 3, 8, 8)
    with pytest.raises(ShapeError, match="points"):
        fit_ground_plane(points[:, :2])
    with pytest.raises(ShapeError, match="valid"):
        fit_ground_plane(points, valid=torch.ones(2, 8, 8, dtype=torch.bool))
    for options, word in (
        ({"rows": 0.0}, "rows"),
        ({"columns": 1.5}, "columns"),
        ({"num_hypotheses": 0}, "num_hypotheses"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"tolerance": math.nan}, "tolerance"),
    ):
        with pytest.raises(UsageError, match=word):
            fit_ground_plane(points, **options)


@pytest.mark.gpu
def test_a_gpu_finds_the_same_planes():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    clouds = torch.cat([spoil(plane_points(n, h), 0.4, i) for i, (n, h) in enumerate(PLANES)])
    here, there = fit_ground_plane(clouds), fit_ground_plane(clouds.cuda())
    torch.testing.assert_close(there.height.cpu(), here.height, rtol=1e-9, atol=0)
    torch.testing.assert_close(there.normal.cpu(), here.normal, rtol=0, atol=1e-9)
