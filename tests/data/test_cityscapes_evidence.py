"""What the values of Cityscapes stores are made of: disparity and cameras that change, bad ids."""

from contextlib import closing

import numpy as np
import pytest
from cityscapes_toys import (
    FX,
    camera,
    label_parts,
    write_camera,
    write_json,
    write_labels,
    write_sequence,
)

from unienc_core.data.sets.cityscapes import CityscapesRequest, list_cityscapes
from unienc_core.data.store import Store
from unienc_core.errors import DataError, PartialError
from unienc_core.workflows.prepare_sets import prepare_set

REQUEST = CityscapesRequest(image_size=(6, 16), image_encoding="png")


def labelled_root(root):
    for number in (0, 1):
        parts = label_parts(number)
        if number == 1:
            del parts["disparity"]
        write_labels(root, "train", f"ulm_{number:06d}_000019", parts)
        write_camera(root, "train", f"ulm_{number:06d}_000019")


def test_disparity_that_is_added_later_makes_its_drive_again(tmp_path):
    root, out = tmp_path / "cs", tmp_path / "out"
    labelled_root(root)
    listing = list_cityscapes(root, REQUEST)
    line = "1 of 2 pictures of the labelled images are without disparity (depth unknown)"
    assert any(remark.startswith(line) for remark in listing.remarks)
    prepare_set(listing, out, workers=1)
    with closing(Store(out / "train-labelled")) as store:
        assert not store.frame(1, 0, ["depth"])["depth"].any()
    write_labels(root, "train", "ulm_000001_000019", {"disparity": label_parts(1)["disparity"]})
    listing = list_cityscapes(root, REQUEST)
    assert not any("without disparity" in remark for remark in listing.remarks)
    assert prepare_set(listing, out, workers=1)["stored"] > 0
    with closing(Store(out / "train-labelled")) as store:
        assert store.frame(1, 0, ["depth"])["depth"].any()
    assert prepare_set(list_cityscapes(root, REQUEST), out, workers=1)["stored"] == 0


def test_a_camera_file_that_is_replaced_makes_its_drives_again(tmp_path):
    root, out = tmp_path / "cs", tmp_path / "out"
    labelled_root(root)
    write_sequence(root, "train", "ulm", range(17, 24, 2))
    prepare_set(list_cityscapes(root, REQUEST), out, workers=1)
    write_camera(root, "train", "ulm_000000_000019", fx=2 * FX)
    prepare_set(list_cityscapes(root, REQUEST), out, workers=1)
    for name in ("train", "train-labelled"):
        with closing(Store(out / name)) as store:
            assert store.frame(0, 0, ["K"])["K"][0, 0] == FX  # 2 fx, at half the size


def test_the_camera_of_pictures_of_another_size_is_refused(tmp_path):
    root = tmp_path / "cs"
    write_sequence(root, "train", "ulm", range(0, 6, 2))
    raw = camera()
    raw["intrinsic"] = {"fx": 2262.5, "fy": 2265.3, "u0": 1096.98, "v0": 513.1}
    write_json(root / "camera/train/ulm/ulm_000000_000002_camera.json", raw)
    with pytest.raises(DataError, match=r"000002_camera.json: fx, .* do not fit pictures of 16x32"):
        prepare_set(list_cityscapes(root, REQUEST), tmp_path / "out", workers=1)


@pytest.mark.parametrize(("part", "value"), [("labelIds", 200), ("instanceIds", 65000)])
def test_ids_of_no_label_leave_their_picture_out(tmp_path, part, value):
    root = tmp_path / "cs"
    labelled_root(root)
    parts = label_parts(0)
    write_labels(root, "train", "ulm_000000_000019", {part: np.full_like(parts[part], value)})
    with pytest.raises(PartialError, match="1 frames of 1 drives are left out") as found:
        prepare_set(list_cityscapes(root, REQUEST), tmp_path / "out", workers=1)
    (loss,) = found.value.report["unreadable"]
    assert f"{part}.png: holds the id {value}, expected label ids" in loss["reason"]
    with closing(Store(tmp_path / "out/train-labelled")) as store:
        assert [drive.name for drive in store.drives] == ["ulm_000001_000019"]
