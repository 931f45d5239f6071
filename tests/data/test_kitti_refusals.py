"""KITTI raw in which names or cameras are not the set's own: refused when it is listed."""

from dataclasses import replace
from pathlib import Path

import pytest
from kitti_toys import write_drive

from unienc_core.data.sets.kitti_raw import list_kitti_raw
from unienc_core.data.sets.kitti_raw_stores import RawRequest
from unienc_core.errors import DataError

LEFT = RawRequest(cameras=(2,), image_encoding="png", image_size=None)


@pytest.mark.parametrize("part", ["image_02/data", "oxts/data", "velodyne_points/data"])
def test_names_of_other_digits_are_refused_with_those_expected(tmp_path: Path, part: str) -> None:
    folder = write_drive(tmp_path, 1, frames=4) / part
    for path in list(folder.iterdir()):
        path.rename(path.with_stem(f"{int(path.stem):06d}"))
    with pytest.raises(DataError, match=r"found 000000\.\w+, expected names of 10 digits, as 0"):
        list_kitti_raw(tmp_path, replace(LEFT, depth="velodyne"))


def test_the_camera_of_other_pictures_is_refused(tmp_path: Path) -> None:
    write_drive(tmp_path, 1, frames=4)
    calibration = tmp_path / "2011_09_26/calib_cam_to_cam.txt"
    calibration.write_text(calibration.read_text().replace("100 0 60 6", "100 0 9.9e5 6"))
    with pytest.raises(DataError, match=r"cam_to_cam.txt: fx, .* do not fit pictures of 40x120"):
        list_kitti_raw(tmp_path, LEFT)
