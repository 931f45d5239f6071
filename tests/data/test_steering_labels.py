"""Steering labels: units, conversions, cleaning, interpolation, and what a look at them says."""

import math
from pathlib import Path

import numpy as np
import pytest

from unienc_core.data.check_values import check_steering
from unienc_core.data.findings import Notes
from unienc_core.data.keys import standard_keys
from unienc_core.data.label_values import describe_labels, label_lines
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.sets.measured import LabelRequest, Labels, interpolate, without_spikes
from unienc_core.data.sets.turning import curvature_of_poses, labels_ahead, path_curvature, way_of
from unienc_core.data.steering import (
    STEERING_KINDS,
    Vehicle,
    ahead_key,
    convert,
    kind_of,
    look_ahead_of,
    recording_of,
    steering_keys,
    steering_spec,
)
from unienc_core.data.store import DriveInfo, Store
from unienc_core.data.store_writer import StoreWriter
from unienc_core.data.transforms import Augmentation, place_frame
from unienc_core.errors import DataError, UsageError

CAR = Vehicle(steering_ratio=15.0, wheelbase=2.7)


def test_every_kind_is_a_key_of_its_unit_that_a_flip_negates() -> None:
    for name, kind in STEERING_KINDS.items():
        spec = standard_keys(name)[name]
        assert (spec.unit, spec.role, kind_of(name)) == (kind.unit, "lateral", kind)
        flipped = place_frame(
            {name: np.float32(0.25)}, {name: spec}, (4, 8), (4, 8), Augmentation(flip=True)
        )
        assert flipped[name] == np.float32(-0.25)
    assert steering_spec("curvature_7.5m").role == "lateral"


def test_a_look_ahead_is_a_key_of_its_own() -> None:
    assert [ahead_key(m) for m in (0, 5, 7.5)] == ["curvature", "curvature_5m", "curvature_7.5m"]
    assert look_ahead_of("curvature_7.5m") == 7.5
    assert kind_of("curvature_5m") == STEERING_KINDS["curvature"]
    assert "5 m ahead" in steering_spec("curvature_5m").description
    for key in ("curvature_m", "speed", "curvature_-5m", "steering_unit_5m"):
        assert kind_of(key) is None
    keys = ["image", "curvature_5m", "steering_wheel_deg", "curvature", "K"]
    assert steering_keys(keys) == ["curvature", "curvature_5m", "steering_wheel_deg"]
    for metres in (-1.0, 1000.0, math.nan):
        with pytest.raises(UsageError, match="look-ahead"):
            ahead_key(metres)


def test_wheel_angles_become_curvature_by_the_bicycle() -> None:
    wheel = np.array([90.0, -45.0, math.nan])  # degrees: 6 and -3 degrees at the front wheels
    found = convert(wheel, "steering_wheel_deg", "curvature", CAR)
    expected = [1000 * math.tan(math.radians(a)) / 2.7 for a in (6.0, -3.0)]
    np.testing.assert_allclose(found[:2], expected, rtol=1e-12)
    assert np.isnan(found[2])
    np.testing.assert_allclose(
        convert(found, "curvature", "steering_wheel_deg", CAR)[:2], wheel[:2], rtol=1e-12
    )
    radians = convert(wheel, "steering_wheel_deg", "steering_wheel_rad", Vehicle())
    np.testing.assert_allclose(radians[:2], [math.pi / 2, -math.pi / 4])


@pytest.mark.parametrize(
    ("found", "wanted", "car", "says"),
    [
        ("steering_wheel_deg", "curvature", Vehicle(steering_ratio=15.0), "--wheelbase"),
        ("steering_unit", "curvature", CAR, "a command of -1..1"),
        ("curvature", "steering_unit", CAR, "a command of -1..1"),
        ("curvature", "yaw", CAR, "no label 'yaw'"),
    ],
)
def test_a_conversion_that_is_not_known_is_refused(found, wanted, car, says) -> None:
    with pytest.raises(UsageError, match=says):
        convert(np.zeros(1), found, wanted, car)


def test_a_car_that_is_none_is_refused() -> None:
    for ratio, wheelbase in ((0.5, 2.7), (15.0, 0.0), (math.nan, 2.7)):
        with pytest.raises(UsageError, match="expected"):
            Vehicle(ratio, wheelbase)


def test_interpolation_is_linear_and_stops_at_gaps_and_ends() -> None:
    times = np.array([0.0, 1.0, 2.0, 5.0, 6.0])
    values = np.array([0.0, 10.0, math.nan, 40.0, 50.0])
    at = np.array([-0.1, 0.0, 0.25, 1.0, 1.5, 3.0, 5.0, 5.5, 6.0, 6.1])
    found = interpolate(at, times, values, max_gap=1.0)
    nan = math.nan
    np.testing.assert_allclose(found, [nan, 0, 2.5, 10, nan, nan, 40, 45, 50, nan])
    # With a longer gap allowed, the missing value at 2 s is bridged: 10 at 1 s, 40 at 5 s.
    assert interpolate(np.array([3.0]), times, values, max_gap=4.0) == pytest.approx(25.0)
    assert np.isnan(interpolate(at, times[:0], values[:0], 1.0)).all()


def test_spikes_go_and_steps_stay() -> None:
    values = np.array([0.0, 0, 0, 90, 0, 0, 0, 80, 80, 80, 80, 80, 80])
    found = without_spikes(values, 60.0)
    assert np.flatnonzero(np.isnan(found)).tolist() == [3]
    np.testing.assert_array_equal(np.delete(found, 3), np.delete(values, 3))
    twice = np.array([1.0, 1, 1, 500, 500, 1, 1, 1])
    assert np.flatnonzero(np.isnan(without_spikes(twice, 60.0))).tolist() == [3, 4]
    ramp = np.linspace(0, 300, 20)
    np.testing.assert_array_equal(without_spikes(ramp, 20.0), ramp)


def test_labels_are_cleaned_bounded_negated_and_converted() -> None:
    labels = Labels("steering_wheel_deg", LabelRequest("curvature", CAR), "a log", "right")
    values = np.full(300, 90.0)
    values[[10, 250]] = 400.0, 5000.0
    found = labels.finish(labels.clean(values), "log")
    assert found.dtype == np.float32
    assert np.flatnonzero(np.isnan(found)).tolist() == [10, 250]
    np.testing.assert_allclose(found[0], -1000 * math.tan(math.radians(6.0)) / 2.7, rtol=1e-6)
    assert labels.remarks() == ["2 labels leap off their neighbours and are unknown"]
    assert labels.spec.unit == "1/km"
    assert labels.spec.provenance == (
        "a log, negated, from steering_wheel_deg with steering ratio 15, wheelbase 2.7 m"
    )


def test_a_few_labels_beyond_the_bound_are_unknown_and_many_are_another_unit() -> None:
    values = np.zeros(200)
    values[:2] = -1.5
    labels = Labels("steering_unit", LabelRequest(), "a log")
    assert np.isnan(labels.finish(values, "log")).sum() == 2
    assert any("beyond +-1 -1..1" in line for line in labels.remarks())
    with pytest.raises(DataError, match=r"log: 100% .* beyond \+-1 -1..1 \(up to 12\)"):
        labels.finish(np.full(50, 12.0), "log")
    with pytest.raises(DataError, match="no frame has a label"):
        labels.finish(np.full(5, math.nan), "log")
    small = Labels("steering_wheel_deg", LabelRequest(), "a log")
    small.finish(np.linspace(-0.3, 0.3, 50), "log")  # radians, said to be degrees
    assert any("or another unit" in line for line in small.remarks())


def test_the_outlier_threshold_is_the_one_asked_for() -> None:
    values = np.array([0.0, 0, 0, 0.5, 0, 0, 0])
    for outlier, unknown in ((None, 0), (0.4, 1), (0.0, 0)):
        labels = Labels("steering_unit", LabelRequest(outlier=outlier), "a log")
        assert np.isnan(labels.clean(values)).sum() == unknown
    for request in ({"max_gap": 0.0}, {"outlier": -1.0}, {"label": "angle"}):
        with pytest.raises(UsageError, match="expected|no label"):
            LabelRequest(**request)


def _circle(radius: float, count: int, step: float) -> np.ndarray:
    """Camera poses on a circle to the right, `step` m a frame."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    angles = np.arange(count) * step / radius
    cos, sin = np.cos(angles), np.sin(angles)
    poses[:, 0, 0], poses[:, 0, 2], poses[:, 2, 0], poses[:, 2, 2] = cos, sin, -sin, cos
    poses[:, 0, 3], poses[:, 2, 3] = radius * (1 - cos), radius * sin
    return poses


def test_a_circle_to_the_right_has_a_negative_curvature() -> None:
    found = curvature_of_poses(_circle(50.0, 12, 1.0), fps=10.0)
    np.testing.assert_allclose(found, -20.0, rtol=1e-3)  # 1/km; the chord is a bit short
    mirrored = _circle(50.0, 12, 1.0)
    mirrored[:, [0, 0, 2], [2, 3, 0]] *= -1
    np.testing.assert_allclose(curvature_of_poses(mirrored, 10.0), 20.0, rtol=1e-3)
    assert np.isnan(curvature_of_poses(_circle(50.0, 12, 0.1), fps=10.0)).all()  # 1 m/s
    assert np.isnan(path_curvature(0.1, 1.9))
    assert path_curvature(0.1, 2.0) == pytest.approx(50.0)


def test_the_curvature_ahead_is_that_of_the_path_there() -> None:
    way = np.arange(20) * 0.5
    curvature = np.where(way < 4.0, 0.0, 10.0 * (way - 4.0))
    found = labels_ahead(curvature, way, (0.0, 3.25))
    assert list(found) == ["curvature", "curvature_3.25m"]
    there = found["curvature_3.25m"]
    assert there[2] == pytest.approx(10.0 * (1.0 + 3.25 - 4.0))
    assert np.isnan(there[way + 3.25 > 9.5]).all()
    assert np.isfinite(there[way + 3.25 <= 9.5]).all()
    np.testing.assert_allclose(way_of(np.array([[0, 0, 0], [3, 0, 4], [3, 0, 4.0]])), [0, 5, 5])


def _store(folder: Path, values: np.ndarray) -> Store:
    keys = standard_keys("timestamp", "curvature")
    spec = StoreSpec(source="toy", image_size=(4, 4), keys=keys, fps=10.0)
    rows = [
        {"timestamp": np.float64(n / 10), "curvature": np.float32(v)} for n, v in enumerate(values)
    ]
    with StoreWriter(folder, spec) as writer:
        writer.add_drive("a", [{k: np.asarray(v) for k, v in row.items()} for row in rows])
    return Store(folder)


def test_labels_are_described_by_their_distribution(tmp_path: Path) -> None:
    with_unknown = _store(tmp_path / "a", np.array([-70.0, -10, -1, 1, 2, 20, math.nan]))
    found = describe_labels(with_unknown)["curvature"]
    assert (found["unit"], found["known"], found["unknown"]) == ("1/km", 6, 1)
    assert found["mean"] == pytest.approx(-58 / 6)
    assert found["quantiles"]["0.5"] == 0.0
    assert found["histogram"] == {
        "edges": [-60, -15, -5, 0.0, 5, 15, 60],
        "counts": [1, 0, 1, 1, 2, 0, 1, 0],
    }
    text = "\n".join(label_lines({"curvature": found}))
    assert "in 1/km, left positive" in text
    assert "unknown of 1 frames" in text
    assert "17% |-60| 0% |-15| 17%" in text


def test_a_check_finds_labels_of_another_unit() -> None:
    notes = Notes("drive")
    check_steering("curvature_5m", np.array([1.0, math.nan, -20.0]), notes)
    assert list(notes) == []
    check_steering("steering_unit", np.array([0.5, -1.5, math.inf]), notes)
    (finding,) = notes
    assert "steering_unit up to inf, expected +-1 -1..1 (frames 1, 2)" in finding.what
    notes = Notes("drive")
    check_steering("curvature", np.full(3, math.nan), notes)
    assert [f.severity for f in notes] == ["warning"]


def test_a_drive_without_a_recording_is_one() -> None:
    info = DriveInfo("x", 3, "train", {"recording": "a", "start": 2.5}, (4, 4), 1, {})
    assert recording_of(info) == ("a", 2.5)
    assert recording_of(DriveInfo("x", 3, "train", {}, (4, 4), 1, {})) == ("x", 0.0)
