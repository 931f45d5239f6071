"""The world: nothing interpenetrates, motion is what the labels say, seeds decide everything."""

import cv2
import numpy as np
import pytest

from unienc_core.classes import INSTANCE_FACTOR, LABEL_BY_NAME
from unienc_core.data.synthcity import City, CityConfig
from unienc_core.data.synthcity.actors import EGO_HALF, Footprints, overlaps
from unienc_core.data.synthcity.path import Path, RoadMap, make_path
from unienc_core.data.synthcity.world import build_world
from unienc_core.errors import UsageError


def corners(pose, half):
    """Return the four corners of a footprint, `4 2` float32."""
    x, z, sin, cos = pose
    along, across = np.array([1, 1, -1, -1]) * half[0], np.array([1, -1, -1, 1]) * half[1]
    points = np.stack([x + cos * across + sin * along, z - sin * across + cos * along], axis=1)
    return points.astype(np.float32)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 5])
def test_no_footprints_overlap_at_any_frame(seed):
    """Oracle: OpenCV's convex polygon intersection, on every near pair at every frame."""
    world = build_world(CityConfig(seed, traffic=1.5))
    prints = world.cast.footprints
    poses, halves = np.stack(prints.poses), np.array(prints.halves)
    reach = halves.sum(axis=1)
    checked = 0
    for i in range(len(poses)):
        gap = np.hypot(poses[:, :, 0] - poses[i, :, 0], poses[:, :, 1] - poses[i, :, 1])
        for j in np.flatnonzero(gap.min(axis=1) < reach + reach[i]):
            if j <= i:
                continue
            for frame in np.flatnonzero(gap[j] < reach[j] + reach[i]):
                a, b = corners(poses[i, frame], halves[i]), corners(poses[j, frame], halves[j])
                area, _ = cv2.intersectConvexConvex(a, b)
                assert area <= 1e-6, (i, j, frame)
                checked += 1
    assert checked > 100


def test_overlap_test_agrees_with_polygon_clipping():
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 2 * np.pi, (2, 400))
    centers = rng.uniform(-2.5, 2.5, (2, 2, 400))
    halves = rng.uniform(0.2, 2.0, (2, 400, 2))
    for k in range(400):
        a, b = (
            np.array(
                [centers[i, 0, k], centers[i, 1, k], np.sin(angles[i, k]), np.cos(angles[i, k])]
            )
            for i in range(2)
        )
        area, _ = cv2.intersectConvexConvex(corners(a, halves[0, k]), corners(b, halves[1, k]))
        found = overlaps(a[None, None], halves[0, k][None], b[None], tuple(halves[1, k]))
        assert found.item() == (area > 0), k


def test_a_spot_is_free_only_if_it_is_free_at_every_frame():
    prints = Footprints()
    still = np.tile([0.0, 10.0, 0.0, 1.0], (5, 1))
    prints.add(still, (2.0, 1.0))
    coming = still.copy()
    coming[:, 1] = [0.0, 2.0, 4.0, 6.0, 7.5]
    assert not prints.is_free(coming, (1.0, 1.0))
    coming[-1, 1] = 6.8
    assert prints.is_free(coming, (1.0, 1.0))
    assert prints.is_free(still + [2.5, 0, 0, 0], (1.0, 1.0))


@pytest.mark.parametrize("seed", [0, 7])
def test_parts_stay_inside_their_footprint(seed):
    """Otherwise clear footprints would prove nothing."""
    world = build_world(CityConfig(seed))
    parts, halves = world.parts, np.array(world.cast.halves)
    actor = parts.actor > 0
    c, s = np.abs(parts.turn[actor].T)
    reach_x = c * parts.half[actor, 0] + s * parts.half[actor, 2]
    reach_z = s * parts.half[actor, 0] + c * parts.half[actor, 2]
    half = halves[parts.actor[actor]]
    assert (np.abs(parts.center[actor, 2]) + reach_z <= half[:, 0] + 1e-6).all()
    assert (np.abs(parts.center[actor, 0]) + reach_x <= half[:, 1] + 1e-6).all()
    assert np.isclose(parts.center[actor, 1] + parts.half[actor, 1], 0.0).any()


def test_buildings_leave_road_and_pavement_free():
    world = build_world(CityConfig(3))
    parts, street = world.parts, world.street
    chosen = np.flatnonzero(parts.label == LABEL_BY_NAME["building"].id)
    offsets = []
    for p in chosen:
        pose = (parts.center[p, 0], parts.center[p, 2], parts.turn[p, 1], parts.turn[p, 0])
        points = corners(pose, (parts.half[p, 2], parts.half[p, 0]))
        offsets.append(np.abs(world.road.offset(points[:, 0].copy(), points[:, 1].copy())).min())
    # Roofs may hang over by 0.3 m; the block that closes the view stands across the road's end.
    assert np.sort(offsets)[6:].min() > street.outer - 0.6


def test_drive_agrees_with_its_labels():
    """Heading rate / speed = curvature; distance / time = speed; both by finite differences."""
    world = build_world(CityConfig(11, num_frames=120))
    drive = world.drive
    forward = drive.T_world_camera[:, :3, 2]
    heading = np.unwrap(np.arctan2(forward[:, 0], forward[:, 2]))
    distance = np.linalg.norm(np.diff(drive.T_world_camera[:, :3, 3], axis=0), axis=1)
    speed = 0.5 * (drive.speed[1:] + drive.speed[:-1])
    np.testing.assert_allclose(distance * 17.0, speed, rtol=5e-3)
    curvature = 0.5 * (drive.curvature[1:] + drive.curvature[:-1])
    # The shake turns the camera, so compare the trend.
    measured = -1000.0 * np.diff(heading) / distance
    assert np.corrcoef(measured, curvature)[0, 1] > 0.99
    np.testing.assert_allclose(measured, curvature, atol=3.0)
    assert curvature.std() > 2.0


def test_ego_stays_within_its_ranges():
    speeds, heights = [], []
    for seed in range(12):
        drive = build_world(CityConfig(seed)).drive
        speeds += [drive.speed.min(), drive.speed.max()]
        heights.append(-drive.T_world_camera[0, 1, 3])
        rotation = drive.T_world_camera[:, :3, :3]
        np.testing.assert_allclose(
            rotation @ rotation.transpose(0, 2, 1),
            np.broadcast_to(np.eye(3), rotation.shape),
            atol=1e-12,
        )
        assert np.all(np.linalg.det(rotation) > 0)
    assert min(speeds) >= 6.0 and max(speeds) <= 13.0 and np.ptp(speeds) > 3.0
    assert min(heights) >= 1.3 and max(heights) <= 1.6


def test_path_of_constant_curvature_is_a_circle():
    radius = 25.0
    path = Path(np.full(400, 1.0 / radius), 0.0)
    # Turning right from +z: the centre lies on the right.
    gap = np.hypot(path.x - radius, path.z)
    np.testing.assert_allclose(gap, radius, rtol=1e-4)
    s, d = path.locate(np.array([radius]), np.array([radius - 3.0]), np.array([36.0]))
    np.testing.assert_allclose(s, radius * np.pi / 2, rtol=1e-3)
    np.testing.assert_allclose(d, 3.0, atol=5e-3)


def test_road_map_inverts_the_path():
    config = CityConfig(5)
    path = make_path(config)
    road = RoadMap(path)
    rng = np.random.default_rng(0)
    s, d = rng.uniform(0, 150, 2000), rng.uniform(-13, 13, 2000)
    x, z, _, _ = path.pose(s, d)
    x, z = x.astype(np.float32), z.astype(np.float32)
    assert np.abs(road.offset(x, z) - d).max() < 0.02
    assert np.abs(road.arc_length(x, z) - s).max() < 0.05


def test_instance_ids_are_unique_and_stable():
    city = City(CityConfig(2, (64, 200), supersample=1))
    parts = city.world.parts
    things = parts.instance >= INSTANCE_FACTOR
    np.testing.assert_array_equal(parts.instance[things] // INSTANCE_FACTOR, parts.label[things])
    np.testing.assert_array_equal(parts.instance[~things][1:], parts.label[~things][1:])
    # One instance belongs to one actor.
    pairs = np.unique(np.stack([parts.instance[things], parts.actor[things]]), axis=1)
    assert len(np.unique(pairs[0])) == pairs.shape[1]
    frame = city.render(10)
    labels = frame["instance_ids"]
    np.testing.assert_array_equal(
        np.where(labels >= INSTANCE_FACTOR, labels // INSTANCE_FACTOR, labels), frame["semantic"]
    )


def test_all_classes_occur_and_movers_cover_a_fair_share():
    present, moving = np.zeros(34, bool), []
    for seed in range(200, 230):
        city = City(CityConfig(seed, (48, 160), supersample=1, num_frames=16))
        present[np.unique(city.world.parts.label)] = True
        for index in (0, 15):
            frame = city.render(index)
            present[np.unique(frame["semantic"])] = True
            moving.append(frame["motion_mask"].mean())
            assert frame["motion_mask"].max() <= 1
    evaluated = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert present[evaluated].all(), np.flatnonzero(~present[evaluated])
    assert 0.04 < np.mean(moving) < 0.10


def test_without_traffic_nothing_moves():
    city = City(CityConfig(1, (48, 160), supersample=1, traffic=0.0, num_frames=4))
    assert not city.world.moving.any()
    assert city.render(2)["motion_mask"].sum() == 0


def test_ego_footprint_is_guarded():
    world = build_world(CityConfig(4))
    assert world.cast.footprints.halves[0] == EGO_HALF


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": (4, 320)},
        {"num_frames": 0},
        {"noise": -0.1},
        {"seed": -1},
        {"max_speed": 3.0},
    ],
)
def test_bad_config_is_one_readable_line(change):
    with pytest.raises(UsageError, match="out of range"):
        CityConfig(**{"seed": 0, **change})


def test_frames_beyond_the_drive_are_refused():
    city = City(CityConfig(0, (48, 160), num_frames=2))
    with pytest.raises(UsageError, match="frame 2 asked for"):
        city.render(2)
    with pytest.raises(UsageError):
        city.complete_flow(0, -1)
