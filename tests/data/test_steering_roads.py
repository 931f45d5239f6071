"""Udacity's recordings and Sully Chen's set: values by hand, signs, gaps, and broken files."""

import ntpath
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from steering_toys import labels_of, moves_right, stored, write_pictures

from unienc_core.data.sets.recordings import RecordingsRequest
from unienc_core.data.sets.sullychen import list_sullychen
from unienc_core.data.sets.udacity import list_udacity
from unienc_core.data.steering import recording_of
from unienc_core.errors import DataError, UsageError

PNG = RecordingsRequest(image_encoding="png")
KEY = "steering_unit"


@pytest.mark.data
def test_the_simulators_log(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "udacity_sim"
    with stored(list_udacity(root, RecordingsRequest()), tmp_path / "out") as store:
        (labels,) = labels_of(store, KEY)
        # Rows 1, 2 and 4 of the file: 0, -0.05 and -0.37741, + right; speed in miles an hour.
        np.testing.assert_allclose([labels[0], labels[1], labels[3]], [0, 0.05, 0.37741], atol=1e-6)
        assert store.column(0, "speed")[0] == pytest.approx(14.46895 * 0.44704)
        # 10.491 and 10.558 s, by the names of the pictures.
        assert store.column(0, "timestamp")[:2] == pytest.approx([0, 0.067])
        assert len(labels) == 150
        grey = [
            cv2.cvtColor(store.frame(0, n, ["image"])["image"], cv2.COLOR_RGB2GRAY)
            for n in range(150)
        ]
    moved = [moves_right(a, b) for a, b in zip(grey, grey[1:], strict=False)]
    assert np.corrcoef(labels[:149], moved)[0, 1] > 0.25


def test_side_cameras_are_corrected_towards_the_middle(tmp_path: Path) -> None:
    header = "center, left, right, steering, throttle, brake, speed"
    rows = [
        ", ".join([*(f"IMG/{c}_{n}.jpg" for c in ("center", "left", "right")), f"{s}, 0, 0, 10"])
        for n, s in enumerate([0.0, 0.5, 0.95])
    ]
    (tmp_path / "driving_log.csv").write_text("\n".join([header, *rows]))
    names = [f"{c}_{n}.jpg" for c in ("center", "left", "right") for n in range(3)]
    write_pictures(tmp_path / "IMG", names)
    listing = list_udacity(tmp_path, PNG, side_correction=0.2)
    assert any("times are nominal" in line for line in listing.remarks)
    with stored(listing, tmp_path / "out") as store:
        centre, left, right = labels_of(store, KEY)
        # + is right in the file; from the left camera the car must steer right.
        np.testing.assert_allclose(centre, [0, -0.5, -0.95], atol=1e-6)
        np.testing.assert_allclose(left, [-0.2, -0.7, -1], atol=1e-6)
        np.testing.assert_allclose(right, [0.2, -0.3, -0.75], atol=1e-6)
        assert [drive.attrs.get("camera") for drive in store.drives] == [None, "left", "right"]
        assert len({recording_of(drive) for drive in store.drives}) == 1
    assert len(list_udacity(tmp_path, PNG).stores[0].drives) == 1


@pytest.mark.data
def test_the_challenges_log(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "steering_labels/udacity_ch2/interpolated_first3000.csv"
    lines = source.read_text().splitlines()[:90]
    centre = [line.split(",")[5] for line in lines if "center_camera" in line]
    write_pictures(tmp_path / "drive/center", [ntpath.basename(name) for name in centre])
    header = "index,timestamp,width,height,frame_id,filename,angle,torque,speed,lat,long,alt"
    for number, text in enumerate([lines, [header, *lines]]):
        (tmp_path / "drive/interpolated.csv").write_text("\n".join(text))
        with stored(list_udacity(tmp_path, PNG), tmp_path / f"out-{number}") as store:
            (labels,) = labels_of(store, "steering_wheel_rad")
            assert len(labels) == 30
            # Rows 3 and 6 of the file are the first two of the middle camera.
            assert labels[0] == pytest.approx(0.0010389390634089962)
            assert labels[1] == pytest.approx(float(lines[5].split(",")[6]))
            assert store.column(0, "speed")[0] == pytest.approx(23.004431354189265)
            nanoseconds = int(lines[5].split(",")[1]) - 1479424215880976321
            assert store.column(0, "timestamp")[1] == pytest.approx(nanoseconds * 1e-9, abs=1e-9)
            assert store.fps == pytest.approx(20, abs=0.1)
    with pytest.raises(UsageError, match="--side-correction is for the simulator"):
        list_udacity(tmp_path, PNG, 0.2)


@pytest.mark.data
def test_the_challenges_angle_is_left_positive_by_its_gps(real_data: Path) -> None:
    source = real_data / "steering_labels/udacity_ch2/interpolated_first3000.csv"
    rows = [line.split(",") for line in source.read_text().splitlines() if "center_camera" in line]
    time, angle, latitude, longitude = (
        np.array([float(row[n]) for row in rows]) for n in (1, 6, 9, 10)
    )
    east = np.radians(longitude - longitude[0]) * np.cos(np.radians(latitude[0]))
    north = np.radians(latitude - latitude[0])
    k = 40  # 2 s
    heading = np.unwrap(np.arctan2(north[k:] - north[:-k], east[k:] - east[:-k]))
    turning_left = (heading[k:] - heading[:-k]) / (time[2 * k :] - time[: -2 * k])
    assert np.corrcoef(angle[k:-k], turning_left)[0, 1] > 0.85


def test_a_recording_on_the_road_without_its_camera_or_columns(tmp_path: Path) -> None:
    path = tmp_path / "interpolated.csv"
    row = "2016-11-17,1479424215873184606,640,480,left_camera,left/1.jpg,0,0,0,0,0,0"
    path.write_text(row)
    with pytest.raises(DataError, match="no row of center_camera, found left_camera"):
        list_udacity(tmp_path, PNG)
    path.write_text("timestamp,angle\n1,2")
    with pytest.raises(DataError, match="no column frame_id; found timestamp, angle"):
        list_udacity(tmp_path, PNG)
    path.write_text("")
    with pytest.raises(DataError, match=r"interpolated.csv: no row of values"):
        list_udacity(tmp_path, PNG)
    path.write_text(row.replace("left", "center").replace("center/", "/etc/"))
    with pytest.raises(DataError, match="lead out of it"):
        list_udacity(tmp_path, PNG)


@pytest.mark.data
def test_sully_chens_set(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "steering_labels/sullychen"
    listing = list_sullychen(root / "data_first12000.txt", PNG)
    assert len(listing.dropped["label without its picture"]) == 11991
    with stored(listing, tmp_path / "out") as store:
        # Lines of 10000 to 10003: 11.19 11.5 12.3 12.71, in a bend to the right that one can see.
        (labels,) = labels_of(store, "steering_wheel_deg")
        np.testing.assert_allclose(labels, [-11.19, -11.5, -12.3, -12.71], atol=1e-5)
        # 17:18:34 + 332, 401, 500, 529 ms.
        assert store.column(0, "timestamp") == pytest.approx([0, 0.069, 0.168, 0.197])
        assert store.image_size == (256, 455)
        # The first picture is of 17:09:44.912.
        assert store.drives[0].attrs["start"] == pytest.approx(8 * 60 + 49.42)


def test_both_editions_of_sully_chens_set(tmp_path: Path) -> None:
    folder = tmp_path / "driving_dataset"
    numbers = [0, 1, 2, 9, 10, 11, 100]
    write_pictures(folder, [f"{n}.jpg" for n in numbers])
    first = [f"{n}.jpg {n / 2:.6f}" for n in sorted([0, 1, 2, 5, 9, 10, 11], key=str)]
    (folder / "data.txt").write_text("\n".join(first) + "\n")
    with stored(list_sullychen(tmp_path, PNG, fps=20.0), tmp_path / "out") as store:
        # Numbers, not names, are the order; a number that is missing cuts.
        assert labels_of(store, "steering_wheel_deg") == [[0, -0.5, -1], [-4.5, -5, -5.5]]
        assert recording_of(store.drives[1])[1] == pytest.approx(9 / 20)
    second = ["0.jpg 1.5,2018-07-01 17:09:44:912", "1.jpg 2.5,2018-07-01 17:09:44:972"]
    second.append("2.jpg -3.5,2018-07-01 17:09:45:11")
    (folder / "data.txt").write_text("\n".join(second))
    with stored(list_sullychen(tmp_path, PNG), tmp_path / "other") as store:
        assert labels_of(store, "steering_wheel_deg") == [[-1.5, -2.5, 3.5]]
        assert store.column(0, "timestamp") == pytest.approx([0, 0.06, 0.099])
    (folder / "data.txt").write_text("0.jpg 1.5\n1.jpg 2,5 oops\n")
    with pytest.raises(DataError, match=r"data.txt, line 2: found '1.jpg 2,5 oops'"):
        list_sullychen(tmp_path, PNG)
    shutil.rmtree(folder)
    with pytest.raises(DataError, match="no Sully Chen's driving set found"):
        list_sullychen(tmp_path, PNG)
