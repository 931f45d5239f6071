"""The renderer against closed forms and brute force in float64."""

import numpy as np
import pytest

from unienc_core.classes import LABEL_BY_NAME
from unienc_core.data.synthcity import City, CityConfig
from unienc_core.data.synthcity.flow import displacements
from unienc_core.data.synthcity.geometry import (
    parallel_boxes,
    parallel_forms,
    perspective_boxes,
    perspective_forms,
)
from unienc_core.data.synthcity.noise import (
    TILE,
    band,
    hash01,
    noise,
    noise_atlas,
    pulses,
    remap_flat,
    stretched_noise,
)
from unienc_core.data.synthcity.parts import view_frames
from unienc_core.data.synthcity.raster import Raster
from unienc_core.data.synthcity.shapes import FACES, PLANES, QUADRICS, SHAPES
from unienc_core.data.synthcity.street import KERB_HEIGHT


def random_scene(seed, count=40):
    """Return centres, sine, cosine, half extents and shapes of random parts before the eye."""
    rng = np.random.default_rng(seed)
    center = np.stack(
        [rng.uniform(-8, 8, count), rng.uniform(-3, 1, count), rng.uniform(3, 30, count)], axis=1
    )
    angle = rng.uniform(0, 2 * np.pi, count)
    half = rng.uniform(0.2, 1.6, (count, 3))
    return center, np.sin(angle), np.cos(angle), half, np.arange(count) % len(SHAPES)


def brute_force(scene, origin, direction):
    """Return the distance (in units of `direction`) to the first part on each ray, and which.

    Clips each ray, in each part's unit coordinates, by every plane and the quadric.
    """
    center, sin, cos, half, shape = scene
    best = np.full(direction.shape[:-1], np.inf)
    which = np.full(direction.shape[:-1], -1)
    for p in range(len(sin)):
        to_local = (
            np.array([[cos[p], 0, -sin[p]], [0, 1, 0], [sin[p], 0, cos[p]]]) / half[p][:, None]
        )
        o, d = (origin - center[p]) @ to_local.T, direction @ to_local.T
        low, high = np.full(best.shape, -np.inf), np.full(best.shape, np.inf)
        with np.errstate(divide="ignore", invalid="ignore"):
            for a in PLANES[shape[p]]:
                slope, gap = d @ a[:3], a[3] - o @ a[:3]
                t = gap / slope
                low = np.where(slope < 0, np.maximum(low, t), low)
                high = np.where(slope > 0, np.minimum(high, t), high)
                high = np.where((slope == 0) & (gap < 0), -np.inf, high)
            m = QUADRICS[shape[p]]
            if m.any():
                a, b = (d * d) @ m, (d * o) @ m
                root = b * b - a * ((o * o) @ m - 1.0)
                spread = np.sqrt(np.maximum(root, 0.0))
                low = np.where(root > 0, np.maximum(low, (-b - spread) / a), np.inf)
                high = np.where(root > 0, np.minimum(high, (-b + spread) / a), -np.inf)
        hit = (low < high) & (low > 0) & (low < best)
        best, which = np.where(hit, low, best), np.where(hit, p, which)
    return best, which


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_perspective_raster_equals_brute_force(seed):
    scene = random_scene(seed)
    rotation = np.array([[0.96, 0.0, 0.28], [0.0, 1.0, 0.0], [-0.28, 0.0, 0.96]])
    eye = np.array([0.3, -1.4, -0.5])
    frames = view_frames(*scene, rotation, eye)
    raster = Raster(np.linspace(-0.6, 0.6, 120), np.linspace(-0.3, 0.3, 60))
    boxes, nearest = perspective_boxes(frames)
    numbers = np.arange(1, len(nearest) + 1)
    raster.draw(perspective_forms(frames), boxes, 1.0 / nearest, frames.shape, numbers)
    x, y = np.meshgrid(raster.x.astype(float), raster.y.astype(float))
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ rotation.T
    depth, which = brute_force(scene, eye, rays)
    found = raster.surface.astype(int) // FACES - 1
    # A silhouette may fall to either side in float32.
    agree = found == which
    assert agree.mean() > 0.999
    seen = agree & (which >= 0)
    assert seen.mean() > 0.3
    np.testing.assert_allclose(1.0 / raster.nearness[seen], depth[seen], rtol=2e-4)


def test_parallel_raster_equals_brute_force():
    scene = random_scene(5)
    light = np.array([0.48, 0.6, 0.64])
    side = np.array([0.8, 0.0, -0.6])
    rotation = np.stack([side, np.cross(light, side), light], axis=1)
    frames = view_frames(*scene, rotation, np.zeros(3))
    raster = Raster(np.linspace(-20, 5, 150), np.linspace(-20, 10, 150))
    raster.nearness.fill(-1e6)
    boxes, highest = parallel_boxes(frames)
    numbers = np.arange(1, len(highest) + 1)
    raster.draw(parallel_forms(frames), boxes, highest, frames.shape, numbers)
    x, y = np.meshgrid(raster.x.astype(float), raster.y.astype(float))
    start = np.stack([x, y, np.full_like(x, -100.0)], axis=-1) @ rotation.T
    found = raster.surface.astype(int) // FACES - 1
    depth, which = brute_force(scene, start, np.broadcast_to(light, start.shape))
    agree = found == which
    assert agree.mean() > 0.998
    seen = agree & (which >= 0)
    assert seen.mean() > 0.05
    np.testing.assert_allclose(-raster.nearness[seen], depth[seen] - 100.0, atol=2e-3)


@pytest.fixture(scope="module")
def city():
    return City(CityConfig(3, (96, 320), noise=0.0))


@pytest.fixture(scope="module")
def frame(city):
    return city.render(12, (1, -1))


def world_points(frame):
    """Return the world position `H W 3` of each pixel and the camera position of it."""
    K, depth = frame["K"], frame["depth"].astype(float)
    v, u = np.mgrid[: depth.shape[0], : depth.shape[1]].astype(float)
    x, y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
    camera = np.stack([x * depth, y * depth, depth], axis=-1)
    pose = frame["T_world_camera"]
    return camera @ pose[:3, :3].T + pose[:3, 3], camera


def test_frame_has_all_keys_with_their_types(frame):
    expected = {
        "image": ((96, 320, 3), np.uint8),
        "depth": ((96, 320), np.float32),
        "semantic": ((96, 320), np.uint8),
        "instance_ids": ((96, 320), np.int32),
        "motion_mask": ((96, 320), np.uint8),
        "complete_flow_next": ((96, 320, 3), np.float32),
        "complete_flow_prev": ((96, 320, 3), np.float32),
        "K": ((3, 3), np.float64),
        "T_world_camera": ((4, 4), np.float64),
    }
    for key, (shape, dtype) in expected.items():
        assert frame[key].shape == shape and frame[key].dtype == dtype, key
    assert {"speed", "curvature", "timestamp"} <= set(frame)
    assert frame["timestamp"] == pytest.approx(12 / 17)
    K = frame["K"]
    assert K[0, 0] == K[1, 1] == 0.8 * 320
    assert abs(K[0, 2] - 159.5) > 1.0
    assert abs(K[1, 2] / 96 - 0.45) < 0.02


def test_depth_is_zero_exactly_in_the_sky(frame):
    np.testing.assert_array_equal(frame["depth"] == 0, frame["semantic"] == 23)
    assert np.isfinite(frame["depth"]).all()


def test_ground_lies_where_it_should(city, frame):
    points, _ = world_points(frame)
    road = frame["semantic"] == LABEL_BY_NAME["road"].id
    assert np.abs(points[road][:, 1]).max() < 2e-3
    walk = frame["semantic"] == LABEL_BY_NAME["sidewalk"].id
    height = -points[walk][:, 1]
    assert height.min() > -2e-3 and height.max() < KERB_HEIGHT + 2e-3
    assert (np.abs(height - KERB_HEIGHT) < 2e-3).mean() > 0.7
    where = [points[road][:, k].astype(np.float32).copy() for k in (0, 2)]
    offset = np.abs(city.world.road.offset(*where))
    assert offset.max() <= city.world.street.half_width + 0.05


@pytest.mark.parametrize(
    ("key", "neighbour"), [("complete_flow_next", 13), ("complete_flow_prev", 11)]
)
def test_complete_flow_of_still_points_is_rigid(city, frame, key, neighbour):
    poses = city.world.drive.T_world_camera
    _, camera = world_points(frame)
    relative = np.linalg.inv(poses[neighbour]) @ poses[12]
    rigid = camera @ relative[:3, :3].T + relative[:3, 3] - camera
    still = (frame["motion_mask"] == 0) & (frame["depth"] > 0)
    np.testing.assert_allclose(frame[key][still], rigid[still], atol=2e-4)
    assert (frame[key][frame["depth"] == 0] == 0).all()
    moved = np.linalg.norm(frame[key] - rigid, axis=-1)[frame["motion_mask"] == 1]
    assert np.median(moved) > 0.02
    np.testing.assert_array_equal(city.complete_flow(12, neighbour), frame[key])


def test_flow_of_each_actor_equals_the_product_of_transforms(city):
    world = city.world
    cameras = world.drive.T_world_camera
    maps = displacements(world, 12, 20)

    def pose(actor, frame):
        x, z, sin, cos = world.poses[actor, frame]
        return np.array([[cos, 0, sin, x], [0, 1, 0, 0], [-sin, 0, cos, z], [0, 0, 0, 1.0]])

    for actor in range(len(world.poses)):
        move = pose(actor, 20) @ np.linalg.inv(pose(actor, 12))
        expected = np.linalg.inv(cameras[20]) @ move @ cameras[12] - np.eye(4)
        np.testing.assert_allclose(maps[actor], expected[:3], atol=1e-9)
        still = np.allclose(move, np.eye(4))
        assert still == (not world.moving[actor])


def test_order_and_a_second_world_change_nothing(city):
    again = City(CityConfig(3, (96, 320), noise=0.0))
    for index in (20, 12):
        first, second = again.render(index, (1,)), city.render(index, (1,))
        for key in first:
            np.testing.assert_array_equal(first[key], second[key], err_msg=key)
    other = City(CityConfig(4, (96, 320), noise=0.0)).render(12)
    assert (other["semantic"] != city.render(12)["semantic"]).mean() > 0.1


def test_sensor_noise_has_its_deviation_and_is_fresh_each_frame():
    clean = City(CityConfig(6, noise=0.0)).render(4)["image"].astype(float)
    noisy = City(CityConfig(6, noise=0.02))
    image = noisy.render(4)["image"].astype(float)
    inner = (clean > 30) & (clean < 220)
    assert (image - clean)[inner].std() / 255 == pytest.approx(0.02, rel=0.05)
    np.testing.assert_array_equal(noisy.render(4)["image"], image)
    second = (
        noisy.render(5)["image"].astype(float) - City(CityConfig(6, noise=0.0)).render(5)["image"]
    )
    assert abs(np.corrcoef((image - clean)[inner], second[inner])[0, 1]) < 0.05


@pytest.mark.parametrize("duty", [0.1, 0.5])
def test_pulses_and_bands_are_box_filters(duty):
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, 200).astype(np.float32)
    width = rng.uniform(0.01, 2.5, 200).astype(np.float32)
    t = x[:, None] + width[:, None] * (np.arange(20000) + 0.5 - 10000) / 20000
    inside = (t - np.floor(t)) < duty
    np.testing.assert_allclose(pulses(x, width, duty), inside.mean(axis=1), atol=2e-3)
    inside = (t > -0.3) & (t < duty)
    np.testing.assert_allclose(band(x, width, -0.3, duty), inside.mean(axis=1), atol=2e-3)


def test_noise_is_the_mean_over_its_footprint():
    texel = 0.05
    tile = noise_atlas()[1 : TILE + 1, 1 : TILE + 1]
    for level in (0, 2, 5):
        side = 2**level
        blocks = tile.reshape(TILE // side, side, TILE // side, side).mean(axis=(1, 3))
        i, j = np.meshgrid(np.arange(3), np.arange(5), indexing="ij")
        u, v = ((k.ravel() + 0.5) * side * texel for k in (j, i))
        footprint = np.full(u.shape, side * texel)
        args = [a.astype(np.float32) for a in (u, v, footprint)]
        np.testing.assert_allclose(noise(*args, texel), blocks[i, j].ravel(), atol=2e-3)
        # Periodic, also across the seam.
        args[0] += np.float32(TILE * texel)
        np.testing.assert_allclose(noise(*args, texel), blocks[i, j].ravel(), atol=2e-2)
    axis = (np.zeros(15, np.float32), np.zeros(15, np.float32))
    args[0] -= np.float32(TILE * texel)
    np.testing.assert_allclose(
        stretched_noise(args[0], args[1], axis, args[2], texel), noise(*args, texel), atol=1e-6
    )


def test_hash_is_uniform_and_salted():
    i, j = (a.ravel().astype(np.float32) for a in np.meshgrid(np.arange(-60, 60), np.arange(90)))
    values = hash01(i, j, 3)
    assert values.min() >= 0 and values.max() < 1
    assert np.histogram(values, 10, (0, 1))[0].std() < 60
    assert abs(np.corrcoef(values, hash01(i, j, 4))[0, 1]) < 0.03
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.03


@pytest.mark.parametrize("count", [0, 5, 5000, 12288])
def test_flat_remap_reads_any_count(count):
    table = np.arange(40, dtype=np.float32).reshape(5, 8)
    rng = np.random.default_rng(count)
    x, y = rng.uniform(0, 7, count).astype(np.float32), rng.uniform(0, 4, count).astype(np.float32)
    np.testing.assert_allclose(remap_flat(table, x, y), x + 8 * y, atol=2e-2)


def test_cast_shadows_agree_with_rays_to_the_sun():
    city = City(CityConfig(3, (96, 320), noise=0.0, shadows=True, supersample=1))
    frame = city.render(12)
    points, _ = world_points(frame)
    parts = city.world.parts
    center, sin, cos = parts.place(city.world.poses[:, 12])
    scene = (center[1:], sin[1:], cos[1:], parts.half[1:], parts.shape[1:])
    road = np.argwhere((frame["semantic"] == 7) & (frame["depth"] < 30))
    chosen = road[:: max(1, len(road) // 150)]
    sun = np.array(city.world.street.sun)
    starts = points[chosen[:, 0], chosen[:, 1]] + 1e-3 * sun
    distance, _ = brute_force(scene, starts, np.broadcast_to(sun, starts.shape))
    blocked = np.isfinite(distance)
    shadow = frame["shadow"][chosen[:, 0], chosen[:, 1]] > 127
    assert (blocked == shadow).mean() > 0.97
    assert 0.02 < blocked.mean() < 0.98
    plain = City(CityConfig(3, (96, 320), noise=0.0, supersample=1)).render(12)
    dark = frame["shadow"] == 255
    assert (frame["image"][dark].astype(int) <= plain["image"][dark]).all()
    lit = frame["shadow"] == 0
    np.testing.assert_array_equal(frame["image"][lit], plain["image"][lit])
    np.testing.assert_array_equal(frame["depth"], plain["depth"])
