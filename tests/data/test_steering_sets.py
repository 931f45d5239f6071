"""Donkey car and tables: values by hand, signs, gaps, and broken files."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from steering_toys import labels_of, moves_right, picture, stored, write_pictures, write_tub

from unienc_core.data.sets.donkey import list_donkey
from unienc_core.data.sets.frame_table import TableRequest, list_frame_tables
from unienc_core.data.sets.measured import LabelRequest
from unienc_core.data.sets.recordings import RecordingsRequest
from unienc_core.data.steering import Vehicle, recording_of
from unienc_core.errors import DataError, UsageError

PNG = RecordingsRequest(image_encoding="png")
KEY = "steering_unit"


@pytest.mark.data
def test_the_donkey_recording(real_data: Path) -> None:
    root = real_data / "donkey_track"
    listing = list_donkey(root, RecordingsRequest())
    (plan,) = listing.stores
    # Cut after records 406 (59 s) and 2128 (4.6 s), which the times alone tell.
    assert [drive.num_frames for drive in plan.drives] == [407, 1722, 871]
    assert plan.spec.keys[KEY].unit == "-1..1"
    assert "K" not in plan.spec.keys
    frames = [plan.source(drive) for drive in plan.drives]
    (recording,) = plan.source.recordings.values()  # type: ignore[attr-defined]
    # Records 0, 407 and 2129 of the catalogs, in ms.
    began = [1669759744666, 1669759824102, 1669759915417]
    starts = [(moment - began[0]) / 1000 for moment in began]
    assert [f.attrs["start"] for f in frames] == pytest.approx(starts, abs=1e-3)
    # The recorder's +1 is full right: of what it wrote, the opposite is stored.
    raw = [json.loads(line)["user/angle"] for n in range(3) for line in _lines(root, n)]
    labels = recording.columns[KEY].astype(np.float64)
    np.testing.assert_allclose(labels, -np.array(raw), atol=1e-7)
    assert raw[100] == pytest.approx(-labels[100])
    first = next(iter(frames[0]))
    assert first["image"].shape == (120, 160, 3)
    # Floors of this fragment: of a zero, a mean, and the last label 1 and 5 frames ago.
    assert np.mean(labels**2) == pytest.approx(0.2203, abs=1e-4)
    assert labels.var() == pytest.approx(0.2201, abs=1e-4)
    assert np.mean((labels[1:] - labels[:-1]) ** 2) == pytest.approx(0.0520, abs=1e-4)
    assert np.mean((labels[5:] - labels[:-5]) ** 2) == pytest.approx(0.1986, abs=1e-4)


def _lines(root: Path, number: int) -> list[str]:
    return (root / f"catalog_{number}.catalog").read_text().splitlines()


@pytest.mark.data
def test_left_is_positive_by_what_the_donkeys_pictures_do(real_data: Path) -> None:
    (plan,) = list_donkey(real_data / "donkey_track", RecordingsRequest()).stores
    frames = []
    for frame in plan.source(plan.drives[0]):
        frames.append(frame)
        if len(frames) == 400:
            break
    grey = [cv2.cvtColor(frame["image"], cv2.COLOR_RGB2GRAY) for frame in frames]
    moved = [moves_right(a, b) for a, b in zip(grey, grey[1:], strict=False)]
    labels = [float(frame[KEY]) for frame in frames]
    # The car follows the command after about 0.2 s; to the left, what it sees moves right.
    assert np.corrcoef(labels[:395], moved[4:])[0, 1] > 0.8


def test_a_tub_is_cut_at_gaps_deleted_records_and_sessions(tmp_path: Path) -> None:
    late = {f"record_{n}": {"_timestamp_ms": 1669759745666 + 50 * n} for n in range(16, 20)}
    other = {f"record_{n}": {"_session_id": "22-11-29_1"} for n in range(20, 24)}
    pilot = {"record_12": {"user/mode": "local"}}
    angles = [n / 100 for n in range(24)]
    tub = write_tub(tmp_path / "tub", angles, deleted=[4], **late, **other, **pilot)
    (tub / "images" / "8_cam_image_array_.jpg").unlink()
    listing = list_donkey(tub, PNG)
    with stored(listing, tmp_path / "out") as store:
        expected = [[0, 1, 2, 3], [5, 6, 7], [9, 10, 11], [13, 14, 15], [16, 17, 18, 19]]
        expected.append([20, 21, 22, 23])
        for found, numbers in zip(labels_of(store, KEY), expected, strict=True):
            np.testing.assert_allclose(found, [-n / 100 for n in numbers], atol=1e-7)
        names = {recording_of(drive)[0] for drive in store.drives}
        assert names == {"tub_22-11-29_0", "tub_22-11-29_1"}
        assert recording_of(store.drives[4])[1] == pytest.approx(1.8)
        assert store.column(4, "timestamp") == pytest.approx([0, 0.05, 0.1, 0.15])
        assert store.fps == 20.0
        assert store.frame(1, 1, ["image"])["image"].shape == (12, 16, 3)
    assert listing.dropped == {
        "deleted from its tub": ["tub/4"],
        "driven by the car itself": ["tub/12"],
        "record without its picture": ["tub/8"],
    }


def test_a_longer_gap_may_be_allowed(tmp_path: Path) -> None:
    late = {f"record_{n}": {"_timestamp_ms": 1669759745666 + 50 * n} for n in range(4, 8)}
    tub = write_tub(tmp_path / "tub", [0.1] * 8, **late)
    for max_gap, drives in ((0.5, 2), (1.5, 1)):
        request = RecordingsRequest(labels=LabelRequest(max_gap=max_gap))
        assert len(list_donkey(tub, request).stores[0].drives) == drives


def test_of_several_tubs_the_broken_one_is_named(tmp_path: Path) -> None:
    write_tub(tmp_path / "a", [0.1] * 6)
    bad = write_tub(tmp_path / "b", [0.1] * 6) / "catalog_1.catalog"
    bad.write_text(bad.read_text() + '{"_index": 6, "_ti')
    listing = list_donkey(tmp_path, PNG)
    assert [loss.drive for loss in listing.lost] == ["b"]
    assert "catalog_1.catalog, line 4: no JSON" in listing.lost[0].reason
    assert len(listing.stores[0].drives) == 1
    with pytest.raises(DataError, match="line 4: no JSON"):
        list_donkey(tmp_path / "b", PNG)
    for line in ('{"_index": Infinity, "_timestamp_ms": 0}', "[" * 100_000, '{"_index": 1}', "7"):
        bad.write_text(line)
        with pytest.raises(DataError, match=r"catalog_1.catalog, line 1: no"):
            list_donkey(tmp_path / "b", PNG)
    with pytest.raises(DataError, match="no Donkey car tub found"):
        list_donkey(tmp_path / "a" / "images", PNG)
    (tmp_path / "a" / "manifest.json").write_text('{"paths": ["../../etc"]}')
    with pytest.raises(DataError, match="expected names of catalogs"):
        list_donkey(tmp_path / "a", PNG)


def _csv(folder: Path, text: str, names: list[str]) -> Path:
    write_pictures(folder, names)
    (folder / "drive.csv").write_text(text)
    return folder / "drive.csv"


def test_a_table_with_a_header_and_times(tmp_path: Path) -> None:
    rows = [f"{1000 * n + 7}; frame_{n}.png; {0.001 * n}" for n in range(5)]
    path = _csv(
        tmp_path, "\n".join(["ms; file; inverse radius", *rows]), [f"frame_{n}.png" for n in (4, 3)]
    )
    write_pictures(tmp_path, [f"frame_{n}.png" for n in range(5)])
    table = TableRequest(
        "1/m", frame="file", value="inverse radius", time="ms", time_unit="ms", positive="right"
    )
    request = RecordingsRequest(image_encoding="png", labels=LabelRequest(max_gap=1.5))
    with stored(list_frame_tables([path], table, request), tmp_path / "out") as store:
        np.testing.assert_allclose(labels_of(store, "curvature"), [[0, -1, -2, -3, -4]])
        assert store.column(0, "timestamp").tolist() == [0, 1, 2, 3, 4]
        assert store.keys["curvature"].provenance == "table, 1/m, negated"
        np.testing.assert_array_equal(store.frame(0, 3, ["image"])["image"], picture(3))


def test_a_table_of_frame_numbers_with_holes(tmp_path: Path) -> None:
    numbers = [0, 1, 2, 10, 11, 12, 13]
    path = _csv(
        tmp_path, "\n".join(f"{n} {n}.5" for n in numbers), [f"{n:05d}.jpg" for n in numbers]
    )
    table = TableRequest("deg", fps=10.0)
    with stored(list_frame_tables([path], table, PNG), tmp_path / "out") as store:
        assert labels_of(store, "steering_wheel_deg") == [[0.5, 1.5, 2.5], [10.5, 11.5, 12.5, 13.5]]
        assert recording_of(store.drives[1]) == ("drive", 1.0)
    car = LabelRequest("curvature", Vehicle(15.0, 2.7))
    request = RecordingsRequest(labels=car, image_encoding="png")
    with stored(list_frame_tables([path], table, request), tmp_path / "other") as store:
        expected = 1000 * np.tan(np.radians(10.5 / 15)) / 2.7
        assert store.column(1, "curvature")[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("a,b\n1,2\n1", DataError, "line 3: 1 cells, expected 2"),
        ("0,x\n1,2", DataError, "line 1: 'x' in column 1, expected a number"),
        ("frame,angle\n", DataError, "no row of values"),
        ("7,1\n8,1\n9,1", DataError, "none of the 3 pictures"),
        ("0,90\n1,2000\n2,3000\n3,1", DataError, "another unit"),
        ("0,\n1,\n2,\n3,", DataError, "no frame has a label"),
        ("9" * 5000 + ",1", DataError, "none of the 1 pictures"),
        ("0,1\n1," + "1" * 200_000, DataError, "no table can be read"),
    ],
)
def test_a_table_that_is_wrong_is_one_line(tmp_path: Path, text, error, says) -> None:
    path = _csv(tmp_path, text, [f"{n}.png" for n in range(4)])
    with pytest.raises(error, match=says):
        list_frame_tables([path], TableRequest("deg", fps=10.0), PNG)


def test_a_table_must_be_told_its_unit_and_times(tmp_path: Path) -> None:
    path = _csv(tmp_path, "frame,angle\n0,1\n1,1\n2,1", [f"{n}.png" for n in range(3)])
    with pytest.raises(UsageError, match="no unit 'degrees'"):
        TableRequest("degrees", fps=10.0)
    with pytest.raises(UsageError, match="give a column of times, or else a rate"):
        TableRequest("deg")
    with pytest.raises(UsageError, match=r"no column 'angel' \(did you mean 'angle'|no column"):
        list_frame_tables([path], TableRequest("deg", value="angel", fps=10.0), PNG)
    with pytest.raises(UsageError, match="no column 7, it has 2"):
        list_frame_tables([path], TableRequest("deg", value="7", fps=10.0), PNG)


def test_equal_pictures_and_labels_are_equal_stores_and_other_labels_are_not(tmp_path) -> None:
    tub = write_tub(tmp_path / "tub", [0.1] * 6)
    first = list_donkey(tub, PNG).stores[0].spec
    assert first == list_donkey(tub, PNG).stores[0].spec
    catalog = tub / "catalog_0.catalog"
    catalog.write_text(catalog.read_text().replace('"user/angle": 0.1', '"user/angle": 0.2', 1))
    assert first != list_donkey(tub, PNG).stores[0].spec
