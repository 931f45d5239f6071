"""Cityscapes' sequences with depth, and with how the vehicle moved: what is there is stored."""

from contextlib import closing

import numpy as np
import pytest
from cityscapes_toys import (
    BASELINE,
    FX,
    label_parts,
    write_camera,
    write_json,
    write_labels,
    write_sequence,
    write_vehicle,
)

from unienc_core.data.sets.cityscapes import CityscapesRequest, list_cityscapes
from unienc_core.data.sets.cityscapes_files import read_vehicle
from unienc_core.data.store import Store
from unienc_core.errors import DataError
from unienc_core.workflows.prepare_sets import prepare_set


def store_of(listing, out, name):
    prepare_set(listing, out, workers=1)
    return closing(Store(out / name))


def test_depth_and_motion_of_every_frame_of_a_sequence(tmp_path):
    root = tmp_path / "cs"
    write_sequence(root, "train", "ulm", range(5))
    write_camera(root, "train", "ulm_000000_000002")
    parts = label_parts(3)
    for frame in (0, 1, 2, 4):  # of frame 3 nothing is known
        codes = {"disparity_sequence": parts["disparity"] + frame}
        write_labels(root, "train", f"ulm_000000_{frame:06d}", codes)
    driven = [(8.0, 0.02), (10.0, -0.05), (0.4, 0.1), (12.5, 0.0), (5.0, 0.25)]
    for frame, (speed, yaw_rate) in enumerate(driven):
        part = "vehicle" if frame == 2 else "vehicle_sequence"
        write_vehicle(root, "train", f"ulm_000000_{frame:06d}", speed, yaw_rate, part)
    request = CityscapesRequest(image_size=(12, 32), image_encoding="png", gap=1)
    listing = list_cityscapes(root, request)
    assert [plan.name for plan in listing.stores] == ["train"]  # no frame carries a label
    with store_of(listing, tmp_path / "out", "train") as store:
        for frame in (0, 1, 2, 4):
            codes = (parts["disparity"] + frame)[:12].astype(float)
            expected = FX * BASELINE * 256 / np.maximum(codes - 1, 1)
            expected[codes <= 1] = 0
            depth = store.frame(0, frame, ["depth"])["depth"]
            np.testing.assert_allclose(depth, expected, rtol=1e-7)
        assert not store.frame(0, 3, ["depth"])["depth"].any()
        speeds, rates = zip(*driven, strict=True)
        np.testing.assert_allclose(store.column(0, "speed"), speeds, rtol=1e-7)
        np.testing.assert_allclose(store.column(0, "yaw_rate"), rates, rtol=1e-7)
        # A circle of 400 m to the left, one of 200 m to the right, standing, straight, 20 m.
        curvature = store.column(0, "curvature")
        np.testing.assert_allclose(curvature, [2.5, -5.0, np.nan, 0.0, 50.0], rtol=1e-6)
        assert store.keys["curvature"].unit == "1/km"


def test_a_labelled_image_takes_its_depth_from_the_sequence_and_its_motion_from_its_file(tmp_path):
    root = tmp_path / "cs"
    whole = label_parts(1)
    for number, stem in enumerate(("ulm_000000_000004", "ulm_000001_000004")):
        disparity = {"disparity_sequence": whole["disparity"] + number}
        labels = {key: whole[key] for key in ("image", "labelIds", "instanceIds")}
        write_labels(root, "val", stem, labels | disparity)
        write_camera(root, "val", stem)
        write_vehicle(root, "val", stem, 10.0, 0.1 * number, "vehicle")
    write_labels(root, "val", "ulm_000001_000005", {"disparity_sequence": whole["disparity"]})
    write_labels(root, "val", "ulm_000001_000004", {"disparity": whole["disparity"]})
    request = CityscapesRequest(split="val", image_size=(12, 32), image_encoding="png")
    with store_of(list_cityscapes(root, request), tmp_path / "out", "val-labelled") as store:
        assert [drive.name for drive in store.drives] == ["ulm_000000_000004", "ulm_000001_000004"]
        # Both have the codes of part `disparity`, which goes before the sequence's.
        first, second = (store.frame(n, 0, ["depth", "curvature"]) for n in (0, 1))
        np.testing.assert_array_equal(first["depth"], second["depth"])
        assert first["depth"][1, 5] == np.float32(
            FX * BASELINE * 256 / (whole["disparity"][1, 5] - 1.0)
        )
        assert (first["curvature"], second["curvature"]) == (0, pytest.approx(10))


def test_motion_that_some_frames_lack_is_left_out_and_said(tmp_path):
    root = tmp_path / "cs"
    write_sequence(root, "train", "ulm", range(4))
    write_camera(root, "train", "ulm_000000_000002")
    listing = list_cityscapes(root, CityscapesRequest(gap=1, image_size=(6, 16)))
    assert any("no vehicle/train/" in line for line in listing.remarks)
    assert any("no disparity_sequence/train/" in line for line in listing.remarks)
    for frame in (0, 1, 3):
        write_vehicle(root, "train", f"ulm_000000_{frame:06d}", 8.0, 0.0)
    listing = list_cityscapes(root, CityscapesRequest(gap=1, image_size=(6, 16)))
    lines = [line for line in listing.remarks if "vehicle" in line]
    assert lines == [
        "1 of 4 frames of the triplets have no vehicle file (ulm_000000_000002, ...): no speed and "
        "turning"
    ]
    assert set(listing.stores[0].spec.keys) == {"image", "K", "timestamp"}


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ({"speed": 8.0}, "yawRate is None, expected a number"),
        ({"speed": "fast", "yawRate": 0.1}, "speed is 'fast', expected a number"),
        ([1, 2], "speed is None, expected a number"),
        ({"speed": float("nan"), "yawRate": 0.1}, "speed is nan, expected a number"),
    ],
)
def test_a_vehicle_file_that_says_something_else(tmp_path, record, fault):
    path = tmp_path / "ulm_000000_000004_vehicle.json"
    write_json(path, record)
    with pytest.raises(DataError, match=rf"_vehicle\.json: {fault}"):
        read_vehicle(path)
