"""Image folders with a calibration file: numbers, cameras, crops and depth."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from unienc_core.data.sets.folder_frames import number_names
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
    assert number_names(["b_10.png", "b_2.png", "b_9.png"]) == {
        0: "b_2.png",
        7: "b_9.png",
        8: "b_10.png",
    }
    assert number_names(["0.png", "5.png", "10.png", "20.png"]) == {
        0: "0.png",
        1: "5.png",
        2: "10.png",
        4: "20.png",
    }
    nanoseconds = ["1403636579763555584.png", "1403636579813555456.png", "1403636579863555584.png"]
    assert list(number_names(nanoseconds)) == [0, 1, 2]
    assert number_names(["left.png", "again.png"]) == {0: "again.png", 1: "left.png"}
    assert number_names(["7.png"]) == {0: "7.png"}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("fps: [", "not valid YAML"),
        ("fps: 10", "'cameras': field required"),
        ("fps: yes\ncameras: []", "'fps'"),
        ("fps: 10\ncameras: [{images: '*.png', K: [1, 2, 3]}]", "'cameras.0.K"),
        ("fps: 10\ncameras: [{images: '*.png', K: [50, 50, 40, 24], krop: 1}]", "krop"),
        ("fps: 10\ncameras: [{images: 'no/*.png', K: [50, 50, 40, 24]}]", "no picture found"),
        ("fps: 10\ncameras: [{images: '/abs/*.png', K: [50, 50, 40, 24]}]", "is no pattern"),
        ("fps: 10\ncameras: [{images: 'rgb/*.png', K: [50, 50, 400, 24]}]", "does not fit"),
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
