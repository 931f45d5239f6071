"""Cityscapes as people have it, into stores: names, cameras, labels, depth, and what is missing."""

from contextlib import closing

import cv2
import numpy as np
import pytest
from cityscapes_toys import (
    BASELINE,
    FX,
    HEIGHT,
    camera,
    label_parts,
    picture,
    write_camera,
    write_json,
    write_labels,
    write_png,
    write_sequence,
)

from unienc_core.data.sets.cityscapes import CityscapesRequest, list_cityscapes
from unienc_core.data.sets.cityscapes_files import (
    FrameName,
    camera_of,
    disparity_to_metres,
    names_in,
    nearest_camera,
    typical_camera,
)
from unienc_core.data.store import Store
from unienc_core.errors import DataError, UsageError
from unienc_core.workflows.prepare_sets import prepare_set

REQUEST = CityscapesRequest(image_size=(6, 16), image_encoding="png")


def store_of(listing, out, name):
    prepare_set(listing, out, workers=1)
    return closing(Store(out / name))


def test_a_snippet_gives_26_triplets_two_frames_apart(tmp_path):
    write_sequence(tmp_path / "cs", "train", "aachen", range(30))
    write_camera(tmp_path / "cs", "train", "aachen_000000_000019")
    listing = list_cityscapes(tmp_path / "cs", REQUEST)
    (plan,) = listing.stores
    assert [(d.name, d.num_frames) for d in plan.drives] == [
        ("aachen_000000_000000", 15),
        ("aachen_000000_000001", 15),
    ]
    with store_of(listing, tmp_path / "out", "train") as store:
        assert (store.fps, store.gap, store.num_frames) == (8.5, 1, 30)
        assert len(store.triplets()) == 26
        frame = store.frame(1, 3, ("image", "K", "timestamp"))
        # Frame 7 without its lower quarter, two pixels to one.
        kept = picture(7)[:12]
        expected = kept.reshape(6, 2, 16, 2, 3).astype(float).mean((1, 3))
        np.testing.assert_allclose(frame["image"], expected, atol=0.51)
        assert frame["timestamp"] == pytest.approx(6 / 17)
        K = [[FX / 2, 0, 17.5 / 2 - 0.5], [0, (FX + 1) / 2, 7.5 / 2 - 0.5], [0, 0, 1]]
        np.testing.assert_allclose(frame["K"], K, rtol=1e-12)
        assert store.drives[0].attrs["camera_height"] == HEIGHT


def test_touching_snippets_join_and_each_frame_has_the_camera_of_its_snippet(tmp_path):
    root = tmp_path / "cs"
    write_sequence(root, "train", "bochum", range(294, 354))
    write_camera(root, "train", "bochum_000000_000313", fx=40.0)
    write_camera(root, "train", "bochum_000000_000343", fx=48.0)
    listing = list_cityscapes(root, REQUEST)
    with store_of(listing, tmp_path / "out", "train") as store:
        assert len(store.triplets()) == 56
        fx = store.column(0, "K")[:, 0, 0]
        assert len(store.drives) == 2
        # Frames 294 to 323 belong to the first snippet, in the even row 15 of 30.
        np.testing.assert_allclose(fx, [20.0] * 15 + [24.0] * 15)


@pytest.mark.parametrize(
    ("frame", "files", "expected"),
    [
        (19, [19, 49], 19),
        (29, [19, 49], 19),
        (30, [19, 49], 49),
        (31, [31, 19], 31),
        (90, [19, 49], 49),
        (5, [], None),
    ],
)
def test_which_camera_file_a_frame_has(frame, files, expected):
    assert nearest_camera(frame, files) == expected


def test_holes_and_thinned_folders(tmp_path):
    """As in the fragment: 50, 52, 54 is one triplet at gap 2; 57 and 60 are in none."""
    root = tmp_path / "cs"
    write_sequence(root, "val", "frankfurt", range(50, 56, 2), sequence=1)
    write_sequence(root, "val", "frankfurt", range(57, 61, 3), sequence=1)
    write_camera(root, "val", "frankfurt_000001_000052")
    listing = list_cityscapes(root, CityscapesRequest(split="val", image_size=(6, 16)))
    (plan,) = listing.stores
    assert [(d.name, d.num_frames) for d in plan.drives] == [("frankfurt_000001_000050", 3)]
    assert listing.dropped == {
        "frames without both neighbours at gap 2": [
            "frankfurt_000001_000057",
            "frankfurt_000001_000060",
        ]
    }


def test_labels_depth_and_picture_of_an_annotated_frame(tmp_path):
    root = tmp_path / "cs"
    parts = label_parts(3)
    write_labels(root, "val", "ulm_000000_000019", parts)
    second = label_parts(4)
    del second["disparity"]
    write_labels(root, "val", "ulm_000001_000019", second)
    for stem in ("ulm_000000_000019", "ulm_000001_000019"):
        write_camera(root, "val", stem)
    # As large as on disk: nothing is resampled, the lower quarter is cut off.
    request = CityscapesRequest(split="val", image_size=(12, 32), image_encoding="png")
    listing = list_cityscapes(root, request)
    assert any("leftImg8bit_sequence/val" in line for line in listing.remarks)
    with store_of(listing, tmp_path / "out", "val-labelled") as store:
        assert store.manifest["kind"] == "images"
        frame = store.frame(0, 0, store.keys)
        np.testing.assert_array_equal(frame["image"], parts["image"][:12])
        np.testing.assert_array_equal(frame["semantic"], parts["labelIds"][:12])
        np.testing.assert_array_equal(frame["instance"], parts["instanceIds"][:12])
        assert (frame["semantic"].dtype, frame["instance"].dtype) == (np.uint8, np.int32)
        codes = parts["disparity"][:12].astype(float)
        # d = (p - 1) / 256 px, depth = fx b / d; codes 0 and 1 say nothing.
        expected = FX * BASELINE * 256 / np.maximum(codes - 1, 1)
        expected[codes <= 1] = 0
        np.testing.assert_allclose(frame["depth"], expected, rtol=1e-7)
        assert frame["depth"][0, :4].tolist() == [0, 0, FX * BASELINE * 256, FX * BASELINE]
        assert not store.frame(1, 0, ["depth"])["depth"].any()


def test_disparity_by_hand():
    """Of the facts: code 1517 is 79.97 m with the typical camera, 1516 is beyond 80 m."""
    codes = np.array([[0, 1, 1516, 1517, 65535]], np.uint16)
    depth = disparity_to_metres(codes, typical_camera())
    assert depth.dtype == np.float32
    d = np.array([1515, 1516, 65534]) / 256
    np.testing.assert_allclose(depth[0, 2:], 2262.52 * 0.209313 / d, rtol=1e-7)
    assert depth[0, 2] > 80 > depth[0, 3]
    assert depth[0, :2].tolist() == [0, 0]


def test_what_has_no_partner_is_left_out_and_named(tmp_path):
    root = tmp_path / "cs"
    whole = label_parts(0)
    write_labels(root, "train", "ulm_000000_000019", whole)
    write_labels(root, "train", "ulm_000001_000019", {"image": whole["image"]})
    no_picture = {key: whole[key] for key in ("labelIds", "instanceIds")}
    write_labels(root, "train", "ulm_000002_000019", no_picture)
    write_labels(
        root, "train", "ulm_000003_000019", {key: whole[key] for key in ("image", "labelIds")}
    )
    write_labels(root, "train", "ulm_000004_000019", whole)
    for number in range(4):
        write_camera(root, "train", f"ulm_{number:06d}_000019")
    listing = list_cityscapes(root, REQUEST)
    (plan,) = listing.stores
    assert [d.name for d in plan.drives] == ["ulm_000000_000019"]
    assert listing.dropped == {
        "labels without their picture": ["ulm_000002_000019"],
        "pictures without labels": ["ulm_000001_000019"],
        "pictures that lack the labels others have": ["ulm_000003_000019"],
        "frames whose sequence has no camera file": ["ulm_000004_000019"],
    }


def test_an_annotated_frame_is_found_in_the_sequence(tmp_path):
    root = tmp_path / "cs"
    write_sequence(root, "train", "ulm", range(17, 24, 2))
    parts = label_parts(19)
    del parts["image"]
    write_labels(root, "train", "ulm_000000_000019", parts)
    write_camera(root, "train", "ulm_000000_000019")
    listing = list_cityscapes(root, CityscapesRequest(image_size=(12, 32), image_encoding="png"))
    assert [plan.name for plan in listing.stores] == ["train", "train-labelled"]
    with store_of(listing, tmp_path / "out", "train-labelled") as store:
        found = store.frame(0, 0, ["image"])["image"]
        np.testing.assert_array_equal(found, picture(19)[:12])


def test_without_cameras_the_typical_one_is_assumed_for_pictures_of_its_size_only(tmp_path):
    root = tmp_path / "cs"
    write_sequence(root, "train", "ulm", range(0, 6, 2))
    with pytest.raises(DataError, match="no camera/train, and pictures of 16x32"):
        list_cityscapes(root, REQUEST)
    for path in (root / "leftImg8bit_sequence/train/ulm").iterdir():
        write_png(path, np.zeros((1024, 2048), np.uint8))
    listing = list_cityscapes(root, CityscapesRequest())
    assert any("the typical camera of Cityscapes is assumed" in line for line in listing.remarks)
    assert listing.stores[0].spec.config["camera"] == "assumed"


def test_longer_runs_are_cut_without_losing_a_triplet(tmp_path, monkeypatch):
    monkeypatch.setattr("unienc_core.data.sets.cityscapes.MAX_DRIVE_BYTES", 2500)
    root = tmp_path / "cs"
    write_sequence(root, "train", "ulm", range(30))
    write_camera(root, "train", "ulm_000000_000019")
    listing = list_cityscapes(root, REQUEST)
    assert len(listing.stores[0].drives) > 2
    with store_of(listing, tmp_path / "out", "train") as store:
        assert len(store.triplets()) == 26


def test_a_root_without_the_split_is_answered_with_both_trees(tmp_path):
    write_sequence(tmp_path, "val", "ulm", range(0, 6, 2))
    with pytest.raises(DataError) as found:
        list_cityscapes(tmp_path, REQUEST)
    line = str(found.value)
    name = "<city>_<sequence>_<frame>_leftImg8bit.png"
    assert f"expected under it leftImg8bit_sequence/train/<city>/{name}" in line
    assert line.endswith("found leftImg8bit_sequence/{val}")


def test_nothing_but_lonely_frames_is_nothing_to_store(tmp_path):
    write_sequence(tmp_path, "train", "ulm", range(2))
    write_camera(tmp_path, "train", "ulm_000000_000019")
    with pytest.raises(DataError, match="nothing to store of split train: 2: frames without both"):
        list_cityscapes(tmp_path, REQUEST)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"intrinsic": {"fx": 1.0}}, "intrinsic.fy is None"),
        ({"intrinsic": {**camera()["intrinsic"], "fx": -3}}, "intrinsic.fx is -3"),
        ({"intrinsic": {**camera()["intrinsic"], "u0": True}}, "intrinsic.u0 is True"),
        ({"extrinsic": None}, "extrinsic.baseline is None"),
        ({"extrinsic": {"baseline": 0, "z": 1.0}}, "extrinsic.baseline is 0"),
    ],
)
def test_a_bad_camera_file_is_named(tmp_path, change, fault):
    path = tmp_path / "camera/train/ulm/ulm_000000_000019_camera.json"
    write_json(path, {**camera(), **change})
    with pytest.raises(DataError, match=fault):
        camera_of(tmp_path, "train", FrameName("ulm", 0, 19))


def test_a_camera_file_that_is_no_json_is_one_line(tmp_path):
    path = tmp_path / "camera/train/ulm/ulm_000000_000019_camera.json"
    path.parent.mkdir(parents=True)
    path.write_text("{\n")
    with pytest.raises(DataError, match="cannot be read") as found:
        camera_of(tmp_path, "train", FrameName("ulm", 0, 19))
    assert "\n" not in str(found.value)


def test_names_are_read_strictly(tmp_path):
    folder = tmp_path / "leftImg8bit" / "train" / "stuttgart_00"
    folder.mkdir(parents=True)
    for name in (
        "stuttgart_00_000000_000007_leftImg8bit.png",
        "ulm_000000_000007_leftImg8bit.png",
        "stuttgart_00_000000_000007_leftImg8bit.jpg",
        "stuttgart_00_000000_7_leftImg8bit.png",
        ".stuttgart_00_000000_000008_leftImg8bit.png",
    ):
        (folder / name).touch()
    assert names_in(tmp_path, "image", "train") == [FrameName("stuttgart_00", 0, 7)]


@pytest.mark.parametrize(
    "settings",
    [
        {"crop": 1.0},
        {"crop": float("nan")},
        {"gap": 0},
        {"min_motion": float("nan")},
        {"min_motion": float("inf")},
        {"image_size": (0, 9)},
        {"image_size": (9, 100_000)},
        {"split": "../val"},
        {"split": ""},
    ],
)
def test_settings_without_sense_are_refused(settings):
    with pytest.raises(UsageError):
        CityscapesRequest(**settings)


def test_pictures_of_several_sizes_are_refused_by_name(tmp_path):
    root = tmp_path / "cs"
    write_sequence(root, "train", "ulm", range(0, 6, 2))
    write_camera(root, "train", "ulm_000000_000002")
    odd = root / "leftImg8bit_sequence/train/ulm/ulm_000000_000004_leftImg8bit.png"
    write_png(odd, np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="000004_leftImg8bit.png: a picture of 8x8, expected 16x32"):
        prepare_set(list_cityscapes(root, REQUEST), tmp_path / "out", workers=1)


@pytest.mark.data
def test_the_fragment(real_data, tmp_path):
    root = real_data / "cityscapes"
    labelled = list_cityscapes(root, CityscapesRequest(image_encoding="png"))
    assert labelled.dropped == {"labels without their picture": ["aachen_000006_000019"]}
    K = [[565.63, 0, (1096.98 + 0.5) / 4 - 0.5], [0, 566.32544764, 513.637 / 4 - 0.5], [0, 0, 1]]
    with store_of(labelled, tmp_path / "train", "train-labelled") as store:
        assert [d.name for d in store.drives] == ["aachen_000000_000019", "aachen_000001_000019"]
        frame = store.frame(0, 0, ("image", "K", "semantic", "instance"))
        np.testing.assert_allclose(frame["K"], K, rtol=1e-9)
        folder = root / "gtFine/train/aachen"
        ids = cv2.imread(str(folder / "aachen_000000_000019_gtFine_instanceIds.png"), -1)
        # Pixel (v, u) of 192x512 covers 4x4 of the original; its centre lies nearest to 4v + 2.
        for v, u in ((120, 175), (60, 40), (191, 511)):
            assert frame["instance"][v, u] == ids[4 * v + 2, 4 * u + 2]
        assert frame["instance"][120, 175] // 1000 == 26 == frame["semantic"][120, 175]
        picture_path = root / "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"
        original = cv2.imread(str(picture_path))[:768, :, ::-1].astype(float)
        means = original.reshape(192, 4, 512, 4, 3).mean((1, 3))
        np.testing.assert_allclose(frame["image"], means, atol=0.51)
    triplets = list_cityscapes(root, CityscapesRequest(split="val"))
    with store_of(triplets, tmp_path / "val", "val") as store:
        assert store.triplets().tolist() == [[0, 1]]
        assert store.drives[0].attrs["camera_height"] == 1.22
        np.testing.assert_allclose(store.frame(0, 1, ["K"])["K"], K, rtol=1e-9)
