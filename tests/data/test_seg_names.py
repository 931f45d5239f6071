"""Which prediction belongs to which ground truth."""

from pathlib import Path

import pytest
from seg_file_toys import grey, write_panoptic_set, write_png

from unienc_core.class_tables import cityscapes_table
from unienc_core.data.seg_files.names import match_instances, match_panoptic, match_semantic
from unienc_core.errors import DataError

TABLE = cityscapes_table()
ULM, BONN = "ulm_000001_000019", "bonn_000000_000019"


def write_truth(folder: Path, *keys: str, suffix: str = "_gtFine", instances: bool = True) -> None:
    for key in keys:
        write_png(folder / f"{key}{suffix}_labelIds.png", grey())
        if instances:
            write_png(folder / f"{key}{suffix}_instanceIds.png", grey(bits=16))


def write_predictions(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


@pytest.mark.parametrize("place", ["", "val/ulm", "gtFine/val/ulm", "ulm", "train/ulm"])
def test_ground_truth_is_found_by_split_and_city(tmp_path: Path, place: str):
    write_truth(tmp_path / "true" / place, ULM)
    write_predictions(tmp_path / "p", f"some/where/{ULM}_leftImg8bit_labelIds.png")
    (pair,) = match_semantic(tmp_path / "true", tmp_path / "p").pairs
    assert (pair.key, pair.prediction.parent) == (ULM, tmp_path / "p" / "some" / "where")
    assert pair.true_labels == tmp_path / "true" / place / f"{ULM}_gtFine_labelIds.png"
    assert pair.true_instances == tmp_path / "true" / place / f"{ULM}_gtFine_instanceIds.png"


def test_of_all_splits_val_is_scored(tmp_path: Path):
    write_truth(tmp_path / "gtFine" / "val" / "ulm", ULM)
    write_truth(tmp_path / "gtFine" / "train" / "bonn", BONN)
    write_predictions(tmp_path / "p", f"{ULM}.txt", f"{BONN}.txt")
    matches = match_instances(tmp_path, tmp_path / "p")
    assert [pair.key for pair in matches.pairs] == [ULM]
    assert matches.extra == (f"{BONN}.txt",)


def test_missing_and_extra_are_listed(tmp_path: Path):
    write_truth(tmp_path / "true", ULM, BONN, "jena_000000_000019", instances=False)
    write_predictions(tmp_path / "p", f"{BONN}_x.png", "b/new.png", "a.png", f"{ULM}.txt")
    matches = match_semantic(tmp_path / "true", tmp_path / "p")
    assert [pair.key for pair in matches.pairs] == [BONN]
    assert matches.pairs[0].true_instances is None
    assert matches.missing == ("jena_000000_000019", ULM)
    assert matches.extra == ("a.png", "b/new.png")


def test_frame_1_does_not_take_frame_10(tmp_path: Path):
    keys = ("frame1", "frame10", "frame1_left")
    write_truth(tmp_path / "true", *keys, suffix="")
    write_predictions(tmp_path / "p", "frame10.png", "frame1-b.png", "frame1_left.png", "frame.png")
    matches = match_semantic(tmp_path / "true", tmp_path / "p")
    found = {pair.key: pair.prediction.name for pair in matches.pairs}
    names = ("frame1-b.png", "frame10.png", "frame1_left.png")
    assert found == dict(zip(keys, names, strict=True)) | {"frame1": "frame1-b.png"}
    assert matches.extra == ("frame.png",)


def test_two_claims_to_one_picture_are_refused(tmp_path: Path):
    write_truth(tmp_path / "true" / "ulm", ULM)
    write_predictions(tmp_path / "p", f"a/{ULM}.png", f"b/{ULM}_color.png")
    with pytest.raises(DataError, match=rf"b/{ULM}_color.png: the second prediction of {ULM}, be"):
        match_semantic(tmp_path / "true", tmp_path / "p")
    write_truth(tmp_path / "true" / "copy", ULM)
    with pytest.raises(DataError, match=rf"ulm/{ULM}_gtFine_labelIds.png: the second ground truth"):
        match_semantic(tmp_path / "true", tmp_path / "p")


def test_empty_and_missing_folders_are_refused(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    write_truth(tmp_path / "true", ULM)
    with pytest.raises(DataError, match="none: no such folder"):
        match_semantic(tmp_path / "none", tmp_path / "empty")
    with pytest.raises(DataError, match="none: no such folder"):
        match_instances(tmp_path / "true", tmp_path / "none")
    with pytest.raises(DataError, match=r"empty: found no \*_labelIds.png"):
        match_semantic(tmp_path / "empty", tmp_path / "empty")
    with pytest.raises(DataError, match=r"empty: found no \*.txt"):
        match_instances(tmp_path / "true", tmp_path / "empty")
    with pytest.raises(DataError, match="empty: found no JSON file"):
        match_panoptic(tmp_path / "true", tmp_path / "empty", TABLE)


def test_panoptic_pictures_go_by_their_image_ids(tmp_path: Path):
    write_panoptic_set(tmp_path / "true", [ULM, BONN])
    write_panoptic_set(tmp_path / "p", [ULM, "extra"])
    matches = match_panoptic(tmp_path / "true", tmp_path / "p", TABLE)
    (pair,) = matches.pairs
    assert pair.key == ULM
    assert pair.truth.path == tmp_path / "true" / "cityscapes_panoptic_val" / f"{ULM}.png"
    assert pair.truth.segments == pair.prediction.segments
    assert (matches.missing, matches.extra) == ((BONN,), ("extra",))


@pytest.mark.parametrize("place", ["gtFine/val/ulm", "ulm", ""])
def test_panoptic_truth_is_made_of_instance_ids_where_it_is_not_there(tmp_path: Path, place: str):
    write_truth(tmp_path / "true" / place, ULM)
    for name in (ULM, BONN):
        (tmp_path / "true" / place / f"{name}_gtFine_polygons.json").write_text("{}")
    document = write_panoptic_set(tmp_path / "p", [ULM])
    (pair,) = match_panoptic(tmp_path / "true", document, TABLE).pairs
    assert pair.truth.path.name == f"{ULM}_gtFine_instanceIds.png"
    assert pair.truth.segments is None
    assert pair.truth.read_ids().dtype == "uint16"


def test_a_panoptic_document_comes_before_instance_ids(tmp_path: Path):
    write_truth(tmp_path / "gtFine" / "val" / "ulm", ULM)
    write_panoptic_set(tmp_path / "gtFine", [ULM])
    document = write_panoptic_set(tmp_path / "p", [ULM])
    (pair,) = match_panoptic(tmp_path, document, TABLE).pairs
    assert pair.truth.path.name == f"{ULM}.png"
