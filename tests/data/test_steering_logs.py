"""comma2k19 and the MIT protocol: logs at their own rates, videos and HDF5 files."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from steering_toys import labels_of, picture, stored, write_hevc, write_mit_drive, write_segment

from unienc_core.data.sets.comma2k19 import curvature_of_orientations, list_comma2k19
from unienc_core.data.sets.measured import LabelRequest
from unienc_core.data.sets.mit_driving import list_mit_driving
from unienc_core.data.sets.recordings import RecordingFrames, RecordingsRequest
from unienc_core.data.steering import recording_of
from unienc_core.data.unreadable import readable_drives
from unienc_core.errors import DataError, UsageError

PNG = RecordingsRequest(image_encoding="png")
WHEEL = "steering_wheel_deg"


@pytest.fixture
def segment(real_data: Path, tmp_path: Path) -> Path:
    """A real segment's logs beside a video of its first 40 frames."""
    source = next((real_data / "comma2k19").glob("*/*/*/processed_log")).parent
    folder = tmp_path / "comma" / source.parent.name / source.name
    shutil.copytree(source, folder, copy_function=shutil.copyfile)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    write_hevc(folder / "video.hevc", 40)
    return folder


@pytest.mark.data
def test_a_segments_wheel_angles_at_the_times_of_its_frames(segment: Path, tmp_path: Path) -> None:
    request = RecordingsRequest(image_size=(32, 48), image_encoding="png")
    with stored(list_comma2k19(segment.parents[1], request), tmp_path / "out") as store:
        (labels,) = labels_of(store, WHEEL)
        assert len(labels) == 40
        # The sensor's first value is of 46408.58496 s, after the first frame, of 46408.54750 s.
        assert math.isnan(labels[0])
        moments, angles = (
            np.load(segment / f"processed_log/CAN/steering_angle/{name}") for name in ("t", "value")
        )
        time = 46408.647488  # of frame 2
        after = int(np.searchsorted(moments, time))
        share = (time - moments[after - 1]) / (moments[after] - moments[after - 1])
        between = (1 - share) * angles[after - 1] + share * angles[after]
        assert labels[2] == pytest.approx(between, abs=1e-4)
        assert store.column(0, "timestamp")[2] == pytest.approx(0.09999, abs=1e-4)
        speeds = segment / "processed_log/CAN/speed"
        place = int(np.searchsorted(np.load(speeds / "t"), time))
        around = np.load(speeds / "value")[place - 1 : place + 1, 0]
        assert around.min() <= store.column(0, "speed")[2] <= around.max()
        assert store.fps == pytest.approx(20, abs=0.05)
        assert recording_of(store.drives[0])[0] == "b0c9d2329ad1606b|2018-08-02--08-34-47"
        image = store.frame(0, 20, ["image"])["image"]
        assert image.shape == (32, 48, 3)
        assert np.abs(image.astype(int) - 80).max() <= 3


@pytest.mark.data
def test_a_segments_angle_is_left_positive_by_its_orientation(segment: Path) -> None:
    turned, centres = (
        np.load(segment / f"global_pose/frame_{name}") for name in ("orientations", "positions")
    )
    curvature = curvature_of_orientations(turned, centres)
    times = np.load(segment / "global_pose/frame_times")
    sensor = segment / "processed_log/CAN/steering_angle"
    angles = np.interp(times, np.load(sensor / "t"), np.load(sensor / "value"))
    assert np.corrcoef(curvature, angles)[0, 1] > 0.75
    gyro = np.load(segment / "processed_log/IMU/gyro/value")[:, 2]  # about an axis down
    moments = np.load(segment / "processed_log/IMU/gyro/t")
    assert np.corrcoef(np.interp(moments, times, curvature), gyro)[0, 1] < -0.5


@pytest.mark.data
def test_the_path_of_a_segment_may_be_the_label(segment: Path, tmp_path: Path) -> None:
    request = RecordingsRequest(image_encoding="png", labels=LabelRequest("curvature"))
    listing = list_comma2k19(segment.parent, request, (2.0,))
    with stored(listing, tmp_path / "out") as store:
        assert store.keys["curvature_2m"].unit == "1/km"
        here, there = (store.column(0, key) for key in ("curvature", "curvature_2m"))
        # At 8 m/s and 20 Hz a frame is 0.4 m on, so 2 m are five frames; then it goes faster.
        np.testing.assert_allclose(there[:15], here[5:20], atol=0.02)
    with pytest.raises(UsageError, match="--label curvature"):
        list_comma2k19(segment.parent, PNG, (5.0,))


@pytest.mark.data
def test_a_segment_whose_sensor_pauses_is_unknown_there(segment: Path) -> None:
    sensor = segment / "processed_log/CAN/steering_angle"
    moments, values = np.load(sensor / "t"), np.load(sensor / "value")
    kept = (moments < 46409.0) | (moments > 46410.0)
    for name, array in (("t", moments), ("value", values)):
        with (sensor / name).open("wb") as file:
            np.save(file, array[kept])
    (plan,) = list_comma2k19(segment.parent, PNG).stores
    (recording,) = plan.source.recordings.values()  # type: ignore[attr-defined]
    unknown = np.isnan(recording.columns[WHEEL])
    paused = (recording.times > 46409.0) & (recording.times < 46410.0)
    assert unknown[paused].all()
    assert unknown.sum() <= paused.sum() + 2  # the first frame, and an edge


@pytest.mark.data
def test_segments_that_cannot_be_read_are_named(segment: Path) -> None:
    other = segment.parent / "41"
    shutil.copytree(segment, other)
    (other / "video.hevc").unlink()
    listing = list_comma2k19(segment.parent, PNG)
    assert [Path(loss.drive).name for loss in listing.lost] == ["41"]
    (segment / "global_pose/frame_times").write_bytes(b"no array")
    with pytest.raises(DataError, match="frame_times: cannot be read"):
        list_comma2k19(segment.parent, PNG)
    with pytest.raises(DataError, match=r"video.hevc: not there"):
        list_comma2k19(other, PNG)
    with pytest.raises(DataError, match="no comma2k19 segment found"):
        list_comma2k19(segment / "global_pose", PNG)


def test_of_a_video_that_breaks_off_the_beginning_is_kept(tmp_path: Path) -> None:
    segment = write_segment(tmp_path / "route" / "0", count=12)
    write_hevc(segment / "video.hevc", 12)
    (plan,) = list_comma2k19(tmp_path, PNG).stores
    write_hevc(segment / "video.hevc", 7)
    source = plan.source
    assert isinstance(source, RecordingFrames)
    kept, lost = readable_drives(plan.drives, source)
    assert [drive.num_frames for drive in kept] == [7]
    assert [loss.num_frames for loss in lost] == [1, 4]
    assert "video.hevc, frame 7: the video ends before it" in lost[0].reason


def test_quaternions_of_a_turn_to_the_left() -> None:
    # Axes forward, right, down: a turn to the left is about the upward axis, -z.
    angles = -np.arange(30) * 0.01
    turned = np.stack([np.cos(angles / 2), 0 * angles, 0 * angles, np.sin(angles / 2)], axis=1)
    centres = np.zeros((30, 3))
    centres[:, 0] = 50 * np.sin(-angles)
    centres[:, 1] = -50 * (1 - np.cos(-angles))
    np.testing.assert_allclose(curvature_of_orientations(turned, centres), 20.0, rtol=2e-3)


def test_drives_of_the_mit_protocol(tmp_path: Path) -> None:
    write_mit_drive(tmp_path / "a.h5")
    times = np.array([0, 0.03, 0.06, 6, 6.03, 6.06])
    write_mit_drive(tmp_path / "b.h5", timestamp=times, inverse_r=np.full(6, -0.0155))
    with stored(list_mit_driving(tmp_path, PNG), tmp_path / "out") as store:
        first, *others = labels_of(store, "curvature")
        np.testing.assert_allclose(first, [0, 1, 2, 3, 4, 5], atol=1e-6)
        np.testing.assert_allclose(others[0], [-15.5] * 3, rtol=1e-6)
        assert store.keys["curvature"].unit == "1/km"
        assert store.fps == pytest.approx(30, abs=1.0)
        assert store.column(0, "timestamp") == pytest.approx(np.arange(6) / 30, abs=1e-6)
        np.testing.assert_array_equal(store.frame(2, 1, ["image"])["image"], picture(4))
        assert recording_of(store.drives[2]) == ("b", 6.0)
    protocol = RecordingsRequest(labels=LabelRequest(max_gap=5.0))
    assert len(list_mit_driving(tmp_path, protocol).stores[0].drives) == 3
    longer = RecordingsRequest(labels=LabelRequest(max_gap=6.0))
    assert len(list_mit_driving(tmp_path, longer).stores[0].drives) == 2


def _link(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["inverse_r"]
        file["inverse_r"] = h5py.ExternalLink("other.h5", "/inverse_r")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda p: write_mit_drive(p, inverse_r=None), "no array 'inverse_r'; found camera_front"),
        (lambda p: write_mit_drive(p, inverse_r=np.zeros(5)), "5 values of inverse_r, but 6"),
        (
            lambda p: write_mit_drive(p, timestamp=np.arange(6.0)[::-1].copy()),
            "expected times that",
        ),
        (lambda p: write_mit_drive(p, camera_front=np.zeros((6, 4, 4, 3))), "expected uint8"),
        (lambda p: write_mit_drive(p, inverse_r=np.full(6, 9.0)), "another unit"),
        (_link, "no array 'inverse_r'"),
        (lambda p: p.write_bytes(p.read_bytes()[:1500]), "no HDF5 file can be read"),
    ],
)
def test_a_drive_that_is_wrong_is_one_line(
    tmp_path: Path, spoil: Callable[[Path], object], says: str
) -> None:
    path = write_mit_drive(tmp_path / "a.h5")
    spoil(path)
    with pytest.raises(DataError, match=says) as found:
        list_mit_driving(tmp_path, PNG)
    assert "\n" not in str(found.value)
    write_mit_drive(tmp_path / "b.h5")
    listing = list_mit_driving(tmp_path, PNG)
    assert [loss.drive for loss in listing.lost] == ["a.h5"]
    assert len(listing.stores[0].drives) == 1
