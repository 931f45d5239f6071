"""Image folders with a calibration file: numbers, cameras, crops and depth."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from unienc_core.data.sets.folder_frames import NumberedNames, number_names
from unienc_core.data.sets.folders import FoldersRequest, list_folders
from unienc_core.data.sets.listing import StorePlan
from unienc_core.data.shard_build import Frame
from unienc_core.errors import DataError

PNG = FoldersRequest(image_encoding="png", min_motion=0.0)


def frames_of(plan: StorePlan) -> list[Frame]:
    return [frame for drive in plan.drives for frame in plan.source(drive)]


def write_folder(folder: Path, names: list[str], size: tuple[int, int] = (48, 80)) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    for name in names:
        cv2.imwrite(str(folder / name), rng.integers(0, 255, (*size, 3), np.uint8))


def write_yaml(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.data
def test_the_small_fragment(real_data: Path, tmp_path: Path) -> None:
    text = f"""
fps: 10
root: {real_data}/tiny_kitti
cameras:
  - images: "*/*/image_02/rgb/original/*.png"
    K: [721.5377, 721.5377, 609.5593, 172.854]
    crop: [20, 60, 20, 0]
"""
    request = FoldersRequest(image_size=(160, 640), image_encoding="png")
    (plan,) = list_folders(write_yaml(tmp_path / "c.yaml", text), request).stores
    frames = frames_of(plan)
    assert len(frames) == 3
    folder = real_data / "tiny_kitti/2011_09_26/2011_09_26_drive_0001_sync/image_02/rgb/original"
    whole = cv2.imread(str(folder / "0000000001.png"))[..., ::-1]
    expected = cv2.resize(whole[60:, 20:-20], (640, 160), interpolation=cv2.INTER_AREA)
    assert np.array_equal(frames[1]["image"], expected)
    # Cropped to 1202 x 315: cx = 589.5593, cy = 112.854, then resized about pixel corners.
    sx, sy = 640 / 1202, 160 / 315
    K = [
        [721.5377 * sx, 0, 590.0593 * sx - 0.5],
        [0, 721.5377 * sy, 113.354 * sy - 0.5],
        [0, 0, 1],
    ]
    np.testing.assert_allclose(frames[1]["K"], K, rtol=1e-12)
    assert frames[2]["timestamp"] == pytest.approx(0.2)


def test_several_cameras_holes_and_thinned_folders(tmp_path: Path) -> None:
    write_folder(tmp_path / "a/left", [f"f_{n:03d}.png" for n in (0, 1, 2, 4, 5, 6, 7)])
    write_folder(tmp_path / "b/left", [f"{n}.jpg" for n in (100, 105, 110, 115)])
    write_folder(tmp_path / "b/right", ["1.png", "2.png"], (32, 64))
    text = """
fps: 20
cameras:
  - {images: "*/left/*", K: [50, 50, 40, 24]}
  - {images: "*/right/*.png", K: [40, 40, 30, 16]}
"""
    listing = list_folders(write_yaml(tmp_path / "c.yaml", text), PNG)
    (plan,) = listing.stores
    found = [(drive.name, drive.num_frames, drive.image_size) for drive in plan.drives]
    size = (48, 80)
    assert found == [
        ("a_left_000000", 3, size),
        ("a_left_000004", 4, size),
        ("b_left_000000", 4, size),
    ]
    assert listing.dropped == {
        "picture without one 1 before or after it": ["b/right/1.png", "b/right/2.png"]
    }
    times = [float(frame["timestamp"]) for frame in plan.source(plan.drives[1])]
    assert times == pytest.approx([0, 0.05, 0.1, 0.15])


def test_depth_beside_the_pictures_makes_labelled_images(tmp_path: Path) -> None:
    write_folder(tmp_path / "rgb", [f"{n}.png" for n in range(4)])
    (tmp_path / "depth").mkdir()
    codes = np.zeros((48, 80), np.uint16)
    codes[20, 30] = 2500
    cv2.imwrite(str(tmp_path / "depth/1.png"), codes)
    metres = np.full((48, 80), np.nan, np.float64)
    metres[20, 30], metres[21, 30] = 7.5, -1
    np.save(tmp_path / "depth/3.npy", metres)
    text = """
fps: 20
cameras:
  - images: "rgb/*.png"
    K: [50, 50, 40, 24]
    crop: [8, 4, 0, 0]
    depth: ../depth
    depth_scale: 1000
"""
    listing = list_folders(write_yaml(tmp_path / "c.yaml", text), PNG)
    triplets, labelled = listing.stores
    assert (triplets.name, labelled.name, labelled.spec.kind) == (
        "train",
        "train-labelled",
        "images",
    )
    first, second = frames_of(labelled)
    assert np.argwhere(first["depth"]).tolist() == [[16, 22]]
    assert first["depth"][16, 22] == 2.5
    assert np.argwhere(second["depth"]).tolist() == [[16, 22]]
    assert second["depth"][16, 22] == 7.5
    assert first["K"].tolist() == [[50, 0, 32], [0, 50, 20], [0, 0, 1]]
    assert first["image"].shape == (44, 72, 3)
    assert len(listing.dropped["picture without depth in ../depth"]) == 2


def test_pictures_are_numbered_by_their_names() -> None:
    assert number_names(["b_10.png", "b_2.png", "b_9.png"]).names == {
        0: "b_2.png",
        7: "b_9.png",
        8: "b_10.png",
    }
    assert number_names(["0.png", "5.png", "10.png", "20.png"]).names == {
        0: "0.png",
        1: "5.png",
        2: "10.png",
        4: "20.png",
    }
    nanoseconds = ["1403636579763555584.png", "1403636579813555456.png", "1403636579863555584.png"]
    assert list(number_names(nanoseconds).names) == [0, 1, 2]
    assert number_names(["left.png", "again.png"]).names == {0: "again.png", 1: "left.png"}
    assert number_names(["7.png"]) == NumberedNames({0: "7.png"}, True)


@pytest.mark.parametrize(
    ("in_time", "places"),
    [
        # TUM RGB-D: seconds, of which the fraction begins anew.
        (
            ["1305031102.875304", "1305031102.911185", "1305031102.975326", "1305031103.011215"],
            None,
        ),
        (["2023-05-01_12-59-58", "2023-05-01_12-59-59", "2023-05-01_13-00-00"], None),
        (["0_cam0", "1_cam0", "2_cam0", "9_cam0", "10_cam0"], [0, 1, 2, 9, 10]),
        (["t_0.5", "t_1.0", "t_1.5", "t_2.5"], [0, 1, 2, 4]),
        (["t_9.75", "t_10.0", "t_10.25", "t_10.5"], [0, 1, 2, 3]),
        # Not seconds but a clip and its pictures; and a day.
        (["1.8", "1.9", "1.10", "1.11", "1.13"], [0, 1, 2, 3, 5]),
        (["2023.9.30", "2023.10.1", "2023.10.2"], None),
        # Two numbers count up, the second one unevenly.
        (["5_17", "6_18", "8_25", "9_31"], [0, 1, 3, 4]),
        (["0_7", "0_8", "1_0", "1_1"], None),
        (["1", "02", "2", "10"], None),
        (["a9", "b1"], None),
    ],
)
def test_every_number_of_a_name_counts(in_time: list[str], places: list[int] | None) -> None:
    names = [f"{name}.png" for name in in_time]
    found = number_names(list(reversed(names)))
    assert [found.names[place] for place in sorted(found.names)] == names
    assert (list(found.names) if found.has_step else None) == places


def test_what_the_names_do_not_tell_is_said(tmp_path: Path) -> None:
    write_folder(tmp_path / "rgb", [f"{t}.png" for t in ("1.875304", "1.911185", "2.011215")])
    text = "fps: 30\ncameras: [{images: '*/*.png', K: [50, 50, 40, 24]}]"
    listing = list_folders(write_yaml(tmp_path / "c.yaml", text), PNG)
    (drive,) = listing.stores[0].drives
    assert drive.attrs["files"] == "1.875304.png/1.911185.png/2.011215.png"
    (remark,) = listing.remarks
    assert remark == (
        "rgb: the names tell no usual step, so that its 3 pictures are taken to follow each other, "
        "from 1.875304.png to 2.011215.png"
    )


def test_a_picture_of_two_kinds_is_stored_once(tmp_path: Path) -> None:
    write_folder(tmp_path / "rgb", ["0.png", "1.jpg", "1.png", "2.JPG", "3.png", "0.jpeg"])
    text = "fps: 30\ncameras: [{images: '*/*', K: [50, 50, 40, 24]}]"
    listing = list_folders(write_yaml(tmp_path / "c.yaml", text), PNG)
    (drive,) = listing.stores[0].drives
    assert drive.attrs["files"] == "0.png/1.png/2.JPG/3.png"
    assert listing.dropped == {
        "picture of the same name as another, but of another kind": ["rgb/0.jpeg", "rgb/1.jpg"]
    }
    assert len(frames_of(listing.stores[0])) == 4


def test_folders_whose_names_read_alike_are_drives_of_their_own(tmp_path: Path) -> None:
    for folder in ("seq/1", "seq_1", "seq 1"):
        write_folder(tmp_path / folder, [f"{n}.png" for n in range(3)])
    text = "fps: 30\ncameras: [{images: '**/*.png', K: [50, 50, 40, 24]}]"
    (plan,) = list_folders(write_yaml(tmp_path / "c.yaml", text), PNG).stores
    assert {drive.name: drive.attrs["folder"] for drive in plan.drives} == {
        "seq_1_000000": "seq/1",
        "seq_1-2_000000": "seq 1",
        "seq_1-3_000000": "seq_1",
    }


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("fps: [", "not valid YAML"),
        ("fps: 10", "'cameras': field required"),
        ("fps: yes\ncameras: []", "'fps'"),
        ("fps: .inf\ncameras: [{images: 'rgb/*', K: [50, 50, 40, 24]}]", "'fps': .*finite"),
        ("fps: 1.0e-320\ncameras: [{images: 'rgb/*', K: [50, 50, 40, 24]}]", "'fps': .*0.0001"),
        ("fps: .nan\ncameras: [{images: 'rgb/*', K: [50, 50, 40, 24]}]", "'fps': .*finite"),
        (
            "fps: 10\ncameras: [{images: 'rgb/*', K: [.inf, 50, 40, 24]}]",
            "'cameras.0.K.0': .*finite",
        ),
        (
            "fps: 10\ncameras: [{images: 'rgb/*', K: [50, 50, 40, 24], depth_scale: .inf}]",
            "'cameras.0.depth_scale': .*finite",
        ),
        ("fps: 10\ncameras: [{images: '*.png', K: [1, 2, 3]}]", "'cameras.0.K"),
        ("fps: 10\ncameras: [{images: '*.png', K: [50, 50, 40, 24], krop: 1}]", "krop"),
        ("fps: 10\ncameras: [{images: 'no/*.png', K: [50, 50, 40, 24]}]", "no picture found"),
        ("fps: 10\ncameras: [{images: '/abs/*.png', K: [50, 50, 40, 24]}]", "is no pattern"),
        (
            "fps: 10\ncameras: [{images: 'rgb/*.png', K: [50, 50, 400, 24]}]",
            "not fit pictures of 48x80",
        ),
        (
            "fps: 10\ncameras: [{images: 'rgb/*', K: [50, 50, 40, 24], depth: ../depht}]",
            r"no depth map found; .*rgb/../depht/<name of a picture>\(.npy.*; found .*rgb",
        ),
        ("fps: 10\ncameras: [{images: 'rgb/*', K: [5, 5, 4, 2], crop: [60, 0, 0, 0]}]", "48x20"),
        ("fps: 10\ncameras: [{images: 'one/*', K: [50, 50, 40, 24]}]", "three pictures 1 apart"),
        (
            "fps: 10\ncameras: [{images: 'rgb/*', K: [50, 50, 40, 24]}, "
            "{images: 'rgb/0*', K: [50, 50, 40, 24]}]",
            "folder rgb fits two patterns",
        ),
    ],
)
def test_files_that_make_no_sense_are_refused(tmp_path: Path, text: str, what: str) -> None:
    write_folder(tmp_path / "rgb", [f"{n}.png" for n in range(4)])
    write_folder(tmp_path / "one", ["0.png"])
    with pytest.raises(DataError, match=what) as error:
        list_folders(write_yaml(tmp_path / "c.yaml", text), PNG)
    assert "\n" not in str(error.value)


def test_a_missing_file_says_what_it_would_hold(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; expected a YAML file like .fps: 10"):
        list_folders(tmp_path / "none.yaml", PNG)
