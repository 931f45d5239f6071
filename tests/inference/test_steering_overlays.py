"""The steering gauge and the path on the road: sides, places, room, fading, and what is no path."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from sequence_toys import SIZE, frame_of, steering_network, steering_preset

from unienc_cli.main import run as run_cli
from unienc_core.checkpoint import save_checkpoint
from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.steering import STEERING_KINDS, Vehicle, kind_of
from unienc_core.data.store_writer import StoreWriter
from unienc_core.inference.overlays import ACCENT, draw_path
from unienc_core.inference.road_path import RoadPath, arc_on_ground
from unienc_core.inference.steering import Steering, SteeringHead
from unienc_core.inference.steering_overlays import draw_gauge, draw_road_path, gauge_position

SHOWN = [(360, 640), (1080, 1920), (192, 640), (640, 360), (480, 640)]
EDGES = STEERING_KINDS["curvature"].edges


def camera(size: tuple[int, int]) -> np.ndarray:
    height, width = size
    f = width / 2 / math.tan(math.radians(30))
    return np.array([[f, 0, (width - 1) / 2], [0, f, 0.45 * height], [0, 0, 1.0]])


def head_of(key: str) -> SteeringHead:
    kind = kind_of(key)
    assert kind is not None
    return SteeringHead(key, kind, 16, "main")


def changed(before: np.ndarray, after: np.ndarray) -> tuple[int, int, int, int]:
    """The box of all that was drawn: top, bottom, left, right."""
    rows, columns = np.nonzero((before != after).any(2))
    return rows.min(), rows.max(), columns.min(), columns.max()


# The arc ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("curvature", [0.05, -0.02, 0.0, 1e-9])
def test_an_arc_lies_on_its_circle_and_starts_straight_ahead(curvature) -> None:
    length = np.linspace(0.5, 25, 40)
    x, y, z = arc_on_ground(curvature, length, 0.0, 1.4).T
    np.testing.assert_array_equal(y, 1.4)
    if abs(curvature) < 1e-6:
        np.testing.assert_allclose(x, 0, atol=1e-6)
        np.testing.assert_allclose(z, length)
        return
    centre = -1 / curvature  # of a left turn: on the left, that is at negative x
    np.testing.assert_allclose(np.hypot(x - centre, z), abs(1 / curvature), rtol=1e-9)
    np.testing.assert_allclose(z, np.sin(curvature * length) / curvature, rtol=1e-9)
    for aside in (0.9, -0.9):  # to the left is nearer to the centre of a left turn
        x, _, z = arc_on_ground(curvature, length, aside, 1.4).T
        radius = np.hypot(x - centre, z)
        np.testing.assert_allclose(radius, abs(1 / curvature - aside), rtol=1e-9)


@pytest.mark.parametrize("size", SHOWN)
def test_positive_curvature_bends_to_the_left_of_the_picture(size) -> None:
    K = camera(size)
    middles = {}
    for value in (20.0, 0.0, -20.0):
        ribbon = RoadPath("curvature").ribbon(value, K, size)
        middles[value] = (ribbon.left[:, 0] + ribbon.right[:, 0]) / 2
        assert (ribbon.left[:, 0] < ribbon.right[:, 0]).all()
    np.testing.assert_allclose(middles[0.0], K[0, 2], atol=1e-6)
    far = ribbon.length > 5
    assert (middles[20.0][far] < K[0, 2]).all()
    assert (np.diff(middles[20.0][far]) < 0).all()  # further and further
    np.testing.assert_allclose(middles[20.0] + middles[-20.0], 2 * K[0, 2], atol=1e-6)


def test_a_point_of_the_path_is_where_the_camera_sees_it() -> None:
    """By hand: 1.5 m under the camera, 30 m on along a left turn of 50 m radius."""
    K, size = camera((360, 640)), (360, 640)
    ribbon = RoadPath("curvature").ribbon(20.0, K, size)
    s = ribbon.length[30]
    x, z = -(50 - 50 * math.cos(s / 50)), 50 * math.sin(s / 50)
    out = (math.cos(s / 50) * 0.9, math.sin(s / 50) * 0.9)  # 0.9 m away from the centre
    seen = [K[0, 0] * (x + out[0]) / (z + out[1]) + K[0, 2], K[1, 1] * 1.5 / (z + out[1]) + K[1, 2]]
    np.testing.assert_allclose(ribbon.right[30], seen, rtol=1e-6)


@pytest.mark.parametrize("size", SHOWN)
@pytest.mark.parametrize("value", [0.0, 3.0, -60.0, 500.0, -1e6])
def test_no_path_is_in_the_sky_and_it_fades(size, value) -> None:
    K = camera(size)
    ribbon = RoadPath("curvature", 1.2).ribbon(value, K, size)
    for edge in (ribbon.left, ribbon.right):
        assert np.isfinite(edge).all()
        assert (edge[:, 1] > K[1, 2]).all()
    assert ribbon.fade[-1] == 0
    assert (np.diff(ribbon.fade) < 0).all()
    picture = np.full((*size, 3), 90, np.uint8)
    drawn = picture.copy()
    draw_road_path(drawn, ribbon)
    assert (drawn[: math.floor(K[1, 2])] == 90).all()
    if abs(value) < 100:  # else it may bend away below the picture
        assert changed(picture, drawn)[1] == size[0] - 1
    if abs(value) < 10:
        column = drawn[:, round(K[0, 2]), 0].astype(int)[math.ceil(K[1, 2]) + 4 :]
        assert column[-1] > 90 + 40
        # Fainter towards the horizon, unless an edge crosses the column.
        assert value != 0 or (np.diff(column) >= -2).all()


def test_what_is_seen_depends_on_curvature_in_heights_alone() -> None:
    size, K = (360, 640), camera((360, 640))
    car, toy = RoadPath("curvature", 1.5), RoadPath("curvature", 0.15)
    wide, narrow = car.ribbon(8.0, K, size), toy.ribbon(80.0, K, size)
    np.testing.assert_allclose(narrow.left, wide.left)
    np.testing.assert_allclose(narrow.length, wide.length / 10)


@pytest.mark.parametrize(
    ("size", "focal", "row"), [((480, 640), 320, 0), ((120, 160), 60, 10), ((960, 1280), 600, 100)]
)
def test_the_path_of_a_wide_camera_that_looks_down_begins_below_the_picture(size, focal, row):
    K = np.array([[focal, 0, size[1] / 2], [0, focal, size[0] / 2], [0, 0, 1.0]])
    pitch = np.arctan((row - K[1, 2]) / focal)
    ribbon = RoadPath("curvature", pitch=pitch).ribbon(0.0, K, size)
    assert min(ribbon.left[0, 1], ribbon.right[0, 1]) >= size[0] - 1


@pytest.mark.parametrize("row", [120.0, 165.0, 250.0])
def test_a_tilted_camera_sees_the_road_end_at_its_horizon(row) -> None:
    """A point of the ground by the definition of the horizon: rows below it go with 1 / depth."""
    size, K = (360, 640), camera((360, 640))
    pitch = math.atan((row - K[1, 2]) / K[1, 1])
    path = RoadPath("curvature", 1.5, pitch=pitch)
    assert path.horizon(K) == pytest.approx(row)
    ribbon = path.ribbon(0.0, K, size)
    assert (ribbon.left[:, 1] > row).all()
    assert ribbon.left[0, 1] >= size[0] - 1
    # Straight edges of a road meet at the horizon, straight ahead.
    (x0, y0), (x1, y1) = ribbon.left[5], ribbon.left[-5]
    assert x0 + (x1 - x0) * (row - y0) / (y1 - y0) == pytest.approx(K[0, 2], abs=1e-6)
    s = ribbon.length[20]
    seen = np.array([0, 1.5 * math.cos(pitch) + s * math.sin(pitch)])
    depth = s * math.cos(pitch) - 1.5 * math.sin(pitch)
    assert ribbon.left[20, 1] == pytest.approx(K[1, 1] * seen[1] / depth + K[1, 2])


def test_a_road_out_of_sight_has_no_path() -> None:
    K = camera((360, 640))
    K[1, 2] = 400.0
    assert RoadPath("curvature").ribbon(1.0, K, (360, 640)) is None


def test_other_labels_become_curvature_or_none() -> None:
    assert RoadPath("curvature_12m").curvature(7.0) == 7.0
    assert RoadPath("curvature_12m").look_ahead == 12
    assert RoadPath("curvature").look_ahead == 0
    car = Vehicle(15, 2.7)
    expected = 1000 * math.tan(math.radians(90 / 15)) / 2.7
    for key, value in (("steering_wheel_deg", 90.0), ("steering_wheel_rad", math.pi / 2)):
        path = RoadPath(key, vehicle=car)
        assert path.curvature(value) == pytest.approx(expected)
        assert path.curvature(-value) == pytest.approx(-expected)
        assert path.curvature(1e5) == pytest.approx(500)  # no tangent turns round


def test_the_look_ahead_is_marked() -> None:
    size, K = (360, 640), camera((360, 640))
    ribbon = RoadPath("curvature_10m").ribbon(0.0, K, size)
    plain = np.full((*size, 3), 90, np.uint8)
    marked = plain.copy()
    draw_road_path(plain, ribbon)
    draw_road_path(marked, ribbon, 10.0)
    top, bottom, left, right = changed(plain, marked)
    row = K[1, 1] * 1.5 / 10 + K[1, 2]
    assert abs((top + bottom) / 2 - row) < 2
    half = K[0, 0] * 0.9 / 10
    assert abs((right - left) / 2 - half) < 4


# The gauge ----------------------------------------------------------------------------------------


def test_the_gauge_is_left_for_left_and_full_beyond_its_end() -> None:
    assert gauge_position(0.0, EDGES) == 0
    assert [gauge_position(edge, EDGES) for edge in EDGES] == pytest.approx([1 / 3, 2 / 3, 1])
    assert gauge_position(10.0, EDGES) == pytest.approx(0.5)
    assert gauge_position(-10.0, EDGES) == pytest.approx(-0.5)
    assert gauge_position(-499.0, EDGES) == -1


def accent_columns(picture: np.ndarray) -> np.ndarray:
    """Columns where the bar is: many pixels of its very colour one above the other."""
    return np.flatnonzero((picture == ACCENT).all(2).sum(0) >= 6)


@pytest.mark.parametrize("size", SHOWN)
@pytest.mark.parametrize("key", [*STEERING_KINDS, "curvature_12.5m"])
def test_the_gauge_fits_its_box_and_points_to_the_side(size, key) -> None:
    head = head_of(key)
    blank = np.full((*size, 3), 128, np.uint8)
    strongest = 1e30
    boxes, bars = {}, {}
    for value in (strongest, -strongest, 0.0, None):
        drawn = blank.copy()
        draw_gauge(drawn, Steering(value, 0 if value is not None else 7), head)
        boxes[value] = changed(blank, drawn)
        bars[value] = accent_columns(drawn)
    top, bottom, left, right = boxes[None]
    assert set(boxes.values()) == {boxes[None]}  # nothing leaves the box, whatever is written
    assert min(top, left) > 0
    assert bottom < size[0] - 1
    assert right < size[1] - 1
    middle = (left + right) / 2
    assert bars[strongest].size > 0.3 * (right - left)
    assert np.median(bars[strongest]) < middle < np.median(bars[-strongest])
    assert bars[None].size == 0


@pytest.mark.parametrize("size", [*SHOWN, (640, 320), (1280, 720)])
def test_gauge_and_camera_path_do_not_meet(size) -> None:
    blank = np.full((*size, 3), 128, np.uint8)
    gauge, path = blank.copy(), blank.copy()
    draw_gauge(gauge, Steering(12.0, 0), head_of("curvature"), beside_path=True)
    draw_path(path, np.zeros((1, 3)), np.eye(4), "m")
    assert (gauge != blank).any()
    assert not ((gauge != blank).any(2) & (path != blank).any(2)).any()


def test_a_picture_too_small_for_a_gauge_stays_as_it_is() -> None:
    picture = np.full((24, 640, 3), 128, np.uint8)
    draw_gauge(picture, Steering(12.0, 0), head_of("curvature"))
    assert (picture == 128).all()


# The command --------------------------------------------------------------------------------------


def save(folder, predicts: str, **state):
    preset = steering_preset(predicts=predicts)
    model = steering_network(preset).state_dict()
    return save_checkpoint(
        folder, preset=preset, model=model, optimizer={}, state={"step": 1, **state}
    )


CAR = ["--steering-ratio", "15", "--wheelbase", "2.7"]
K_OF_TRAINING = [[100.0, 0, 63.5], [0, 100.0, 31.5], [0, 0, 1]]


@pytest.mark.parametrize(
    ("predicts", "options", "state", "height", "said"),
    [
        ("curvature", ["--fov", "60"], {}, 1.5, ""),
        ("curvature", ["--fov", "60", "--camera-height", "1.2"], {}, 1.2, ""),
        ("curvature_5m", [], {"K": K_OF_TRAINING}, 1.5, "path on the road rests on the camera of"),
        ("curvature", [], {}, None, "no path is drawn on the road, since the camera's intrinsics"),
        ("steering_unit", ["--fov", "60"], {}, None, "what a command of -1..1 does is not known"),
        ("steering_wheel_deg", ["--fov", "60"], {}, None, "--steering-ratio and --wheelbase"),
        ("steering_wheel_rad", ["--fov", "60", *CAR], {}, 1.5, ""),
    ],
)
def test_where_there_can_be_no_path_that_is_said_once(
    make_video, tmp_path, capsys, predicts, options, state, height, said
) -> None:
    save(tmp_path / "run" / "checkpoints", predicts, **state)
    source = make_video(num=5, size=(48, 64))
    command = ["infer-video", str(source), "--checkpoint", str(tmp_path / "run"), "--json"]
    assert run_cli([*command, "--out", str(tmp_path / "o"), "--device", "cpu", *options]) == 0
    out, err = capsys.readouterr()
    steering = json.loads(out)["videos"][0]["steering"]
    assert steering["key"] == predicts
    assert (steering["path"] or {}).get("camera_height") == height
    assert err.count(" path ") == (1 if said else 0)
    assert said in err
    assert "assuming 60 degrees" not in err  # steering needs no intrinsics


@pytest.mark.parametrize(
    ("options", "height"),
    [([], 1.23), (["--camera-height", "1.4"], 1.4), (["--sink", "jsonl"], None)],
)
def test_a_drive_of_a_store_knows_the_height_of_its_camera(
    tmp_path, capsys, options, height
) -> None:
    save(tmp_path / "run" / "checkpoints", "curvature")
    keys = standard_keys("image", "curvature", "K")
    K = np.array([[60.0, 0, 31.5], [0, 60.0, 15.5], [0, 0, 1]])
    spec = StoreSpec(source="toy", image_size=SIZE, keys=keys, fps=20.0)
    with StoreWriter(tmp_path / "store", spec) as writer:
        frames = [{**frame_of(0, i), "K": K} for i in range(5)]
        writer.add_drive("a", frames, attrs={"camera_height": 1.23})
    command = ["infer-video", str(tmp_path / "store"), "--checkpoint", str(tmp_path / "run")]
    assert run_cli([*command, "--out", str(tmp_path / "o"), "--json", *options]) == 0
    found = json.loads(capsys.readouterr().out)["videos"][0]["steering"]["path"]
    assert found == (None if height is None else {"camera_height": height, "horizon": 15.5})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--camera-height", "0"], "--camera-height 0: expected metres"),
        (["--horizon", "48", "--fov", "60"], "--horizon 48: expected a row of"),
        (["--camera-height", "nan"], "--camera-height nan: expected metres"),
        (["--camera-height", "1", "--sink", "jsonl"], "--camera-height: for the path of steering"),
        (CAR, "but the network predicts curvature"),
        (["--steering-ratio", "0"], "a steering ratio of 0"),
        (["--outputs", "depth,steering"], "has no depth; it has steering"),
        (["--outputs", "steering", "--sink", "png16"], "--sink png16 is about depth, but"),
        (["--outputs", "steerin"], "did you mean 'steering'"),
    ],
)
def test_bad_requests_are_one_line(make_video, tmp_path, capsys, options, message) -> None:
    save(tmp_path / "run" / "checkpoints", "curvature")
    source = make_video(num=2)
    command = ["infer-video", str(source), "--checkpoint", str(tmp_path / "run"), "-q"]
    assert run_cli([*command, "--out", str(tmp_path / "o"), *options, "--dry-run"]) == 2
    capsys.readouterr()
    assert run_cli([*command, "--out", str(tmp_path / "o"), *options]) == 2
    assert not (tmp_path / "o").exists()
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 1
    assert message in err


def test_a_command_has_no_path_to_lay(make_video, tmp_path, capsys) -> None:
    save(tmp_path / "run" / "checkpoints", "steering_unit")
    command = ["infer-video", str(make_video(num=2)), "--checkpoint", str(tmp_path / "run"), "-q"]
    for options in (["--horizon", "20"], ["--camera-height", "1.2"], CAR):
        assert run_cli([*command, "--out", str(tmp_path / "o"), *options]) == 2
        err = capsys.readouterr().err
        assert len(err.strip().splitlines()) == 1
        assert f"{options[0]}" in err and "what a command of -1..1 does is not known" in err


def test_windows_that_may_cross_a_cut_are_told_of(make_video, tmp_path, capsys) -> None:
    save(tmp_path / "run" / "checkpoints", "curvature")
    command = ["infer-video", str(make_video(num=12, rate=Fraction(10))), "--fov", "60"]
    command += ["--checkpoint", str(tmp_path / "run"), "--out", str(tmp_path / "o")]
    for stride, said in (("2", False), ("3", True)):
        assert run_cli([*command, "--stride", stride, "--force"]) == 0
        assert ("no scene cuts are looked for" in capsys.readouterr().err) is said


def test_steering_of_a_network_without_it_is_refused(make_video, untrained_run, capsys) -> None:
    command = ["infer-video", str(make_video(num=2)), "--checkpoint", str(untrained_run), "-q"]
    assert run_cli([*command, "--outputs", "steering"]) == 2
    assert "has no steering; it has depth, motion" in capsys.readouterr().err
    assert run_cli([*command, "--camera-height", "1.5"]) == 2
    assert "--camera-height: for the path of steering" in capsys.readouterr().err
