"""When KITTI's frames were taken: of the files beside the pictures, or at the nominal rate."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kitti_toys import TIMES, date, write_drive, write_sequence

from unienc_core.data.sets.kitti_odometry import OdometryRequest, list_kitti_odometry
from unienc_core.data.sets.kitti_raw import list_kitti_raw
from unienc_core.data.sets.kitti_raw_stores import RawRequest
from unienc_core.data.sets.kitti_times import frame_times
from unienc_core.data.sets.listing import Listing
from unienc_core.errors import DataError

RAW = RawRequest(cameras=(2,), image_size=None, drives="all", gap=2)
ODOMETRY = OdometryRequest(image_size=None, sequences="all")


def times_of(listing: Listing) -> list[list[float]]:
    (plan,) = listing.stores
    found = [[float(f["timestamp"]) for f in plan.source(drive)] for drive in plan.drives]
    return [[round(seconds, 9) for seconds in times] for times in found]


def test_dates_across_midnight_and_seconds_by_hand(tmp_path: Path) -> None:
    dates, seconds = tmp_path / "timestamps.txt", tmp_path / "times.txt"
    dates.write_text(
        "2011-09-26 23:59:59.964389445\n2011-09-27 00:00:00.068274449\n\n"
        "2011-09-27 00:00:01.171861887\n2011-09-27 00:00:02\n\n"
    )
    np.testing.assert_allclose(frame_times(dates, [0, 1]), [0, 0.103885004], rtol=0, atol=1e-12)
    np.testing.assert_allclose(frame_times(dates, [1, 3, 4]), [0, 1.103587438, 1.931725551])
    seconds.write_text("0.000000e+00\n1.036224e-01\n2.072450e-01\n")
    np.testing.assert_allclose(frame_times(seconds, [1, 2]), [0, 0.1036226], rtol=1e-12)
    assert frame_times(None, [4, 6, 7]).tolist() == pytest.approx([0, 0.2, 0.3])


def test_a_store_holds_the_seconds_since_the_first_frame_of_each_drive(tmp_path: Path) -> None:
    write_drive(tmp_path, 1, frames=7)
    listing = list_kitti_raw(tmp_path, RAW)
    assert not any("nominal" in line for line in listing.remarks)
    even, odd = TIMES[0:7:2], TIMES[1:7:2]
    expected = [[round(t - row[0], 9) for t in row] for row in (even, odd)]
    assert times_of(listing) == expected
    write_sequence(tmp_path / "odometry", "00")
    sequence = list_kitti_odometry(tmp_path / "odometry", ODOMETRY)
    assert not any("nominal" in line for line in sequence.remarks)
    assert times_of(sequence) == [TIMES[:6]]


def test_missing_times_are_said_and_make_another_store(tmp_path: Path) -> None:
    write_drive(tmp_path, 1, frames=5)
    write_drive(tmp_path, 5, frames=5, times=False)
    listing = list_kitti_raw(tmp_path, replace(RAW, gap=1))
    (line,) = [line for line in listing.remarks if "nominal" in line]
    assert line.startswith("1 of 2 cameras of drives have no image_02/timestamps.txt")
    assert "2011_09_26_drive_0005" in line
    known, nominal = times_of(listing)
    assert known == [round(t, 9) for t in TIMES[:5]]
    assert nominal == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    before = listing.stores[0].spec
    (tmp_path / "2011_09_26/2011_09_26_drive_0001_sync/image_02/timestamps.txt").unlink()
    assert list_kitti_raw(tmp_path, replace(RAW, gap=1)).stores[0].spec != before

    write_sequence(tmp_path / "odometry", "00", times=False)
    sequence = list_kitti_odometry(tmp_path / "odometry", ODOMETRY)
    assert any(
        line.startswith("1 of 1 sequences have no times.txt (00") for line in sequence.remarks
    )
    assert times_of(sequence)[0] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (
            [date(0), "half past ten", date(1)],
            "line 2: found 'half past ten', expected a time like",
        ),
        (["2011-13-26 13:02:25.96"], "line 1: found '2011-13-26 13:02:25.96'"),
        (["inf"], "line 1: found 'inf'"),
        ([date(0), date(0.1)], "2 times, but the drive has frame 4"),
        ([date(0), date(0.1), "", *[date(0.4)] * 3], "line 3: empty, expected the time of"),
        (["\udcff"], "cannot be read"),
    ],
)
def test_a_malformed_file_is_told_before_any_picture_is_read(
    tmp_path: Path, lines: list[str], fault: str
) -> None:
    content = "\n".join(lines).encode(errors="surrogateescape")
    folder = write_drive(tmp_path, 1, frames=5)
    (folder / "image_02/timestamps.txt").write_bytes(content)
    with pytest.raises(DataError, match=fault) as raised:
        list_kitti_raw(tmp_path, RAW)
    assert "image_02/timestamps.txt" in str(raised.value)
    assert "\n" not in str(raised.value)
    write_sequence(tmp_path / "odometry", "00")
    (tmp_path / "odometry/sequences/00/times.txt").write_bytes(content)
    with pytest.raises(DataError, match=fault.replace("frame 4", "frame 5")):
        list_kitti_odometry(tmp_path / "odometry", ODOMETRY)
