"""Label ids, instance ids and panoptic pictures: what is read back, and what is refused."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from seg_file_toys import annotation, chunks_of, grey, png_of, write_panoptic_set, write_png

from unienc_core.class_tables import cityscapes_table
from unienc_core.data.seg_files.label_files import (
    read_instance_ids,
    read_label_ids,
    write_label_ids,
)
from unienc_core.data.seg_files.panoptic_files import (
    find_document,
    read_document,
    read_ids,
    write_document,
    write_picture,
)
from unienc_core.errors import DataError
from unienc_core.segmentation import Segment

TABLE = cityscapes_table()
NOISE = np.random.default_rng(0)


def refused(read, path: Path, words: str) -> None:
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert words in message
    assert str(path) in message
    assert "\n" not in message


def test_label_ids_come_back(tmp_path: Path):
    labels = NOISE.integers(0, 34, (9, 13), np.uint8)
    path = write_label_ids(tmp_path, "ulm_000000_000019", labels)
    assert path.name == "ulm_000000_000019_labelIds.png"
    np.testing.assert_array_equal(read_label_ids(path), labels)
    np.testing.assert_array_equal(np.array(Image.open(path)), labels)
    with pytest.raises(DataError, match=r"found int64 of 9x13, expected uint8"):
        write_label_ids(tmp_path, "a", labels.astype(np.int64))


@pytest.mark.parametrize("colours", [3, 200])
def test_of_a_palette_the_indices_count(tmp_path: Path, colours: int):
    labels = NOISE.integers(0, colours, (9, 13), np.uint8)
    picture = Image.fromarray(labels, "P")
    picture.putpalette(NOISE.integers(0, 256, 3 * colours, np.uint8).tobytes())
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label_ids(tmp_path / "a.png"), labels)


def test_instance_ids_come_back(tmp_path: Path):
    ids = NOISE.integers(0, 65536, (9, 13), np.uint16)
    np.testing.assert_array_equal(read_instance_ids(write_png(tmp_path / "a.png", ids)), ids)


def test_instance_ids_of_8_bits_are_refused_with_the_reason(tmp_path: Path):
    path = write_png(tmp_path / "a_gtFine_instanceIds.png", grey())
    refused(read_instance_ids, path, "8 bits, grey, expected a grey one of 16 bits: instance ids")


def test_other_kinds_of_files_are_refused(tmp_path: Path):
    refused(read_label_ids, tmp_path / "none.png", "cannot be read (No such file")
    refused(read_label_ids, tmp_path, "cannot be read (Is a directory")
    refused(read_label_ids, write_png(tmp_path / "a.png", grey(bits=16)), "a PNG of 16 bits, grey")
    refused(read_label_ids, write_png(tmp_path / "b.png", grey(size=(2, 2, 3))), "8 bits, RGB, exp")
    refused(read_ids, write_png(tmp_path / "c.png", grey()), "grey, expected an RGB one of 8 bits")
    refused(read_ids, write_png(tmp_path / "d.png", grey(bits=16, size=(2, 2, 3))), "16 bits, RGB")
    assert cv2.imwrite(str(tmp_path / "e.jpg"), grey())
    refused(read_label_ids, (tmp_path / "e.jpg").rename(tmp_path / "e.png"), "no PNG picture")
    (tmp_path / "f.png").write_bytes(b"")
    refused(read_label_ids, tmp_path / "f.png", "no PNG picture")
    header = chunks_of((tmp_path / "c.png").read_bytes())
    huge = [(b"IHDR", b"\0\1\0\0\0\1\0\0" + header[0][1][8:]), *header[1:]]
    (tmp_path / "g.png").write_bytes(png_of(huge))
    refused(read_label_ids, tmp_path / "g.png", "a picture of 65536x65536, expected sides of")


@pytest.mark.parametrize("read", [read_label_ids, read_instance_ids, read_ids])
def test_damage_is_refused_wherever_it_is(tmp_path: Path, read):
    values = {
        read_label_ids: NOISE.integers(0, 34, (20, 30), np.uint8),
        read_instance_ids: NOISE.integers(0, 34_000, (20, 30), np.uint16),
        read_ids: NOISE.integers(0, 256, (20, 30, 3), np.uint8),
    }[read]
    path = write_png(tmp_path / "a.png", values)
    whole = path.read_bytes()
    for length in (len(whole) - 1, len(whole) - 13, len(whole) // 2, 60, 27):
        path.write_bytes(whole[:length])
        refused(read, path, "")
    for at in range(40, len(whole), len(whole) // 40):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        refused(read, path, "")


@pytest.mark.parametrize("read", [read_label_ids, read_instance_ids, read_ids])
def test_damage_whose_checksums_fit_never_escapes(tmp_path: Path, read):
    """Where the pixels can still be decoded they may differ; nothing but a DataError comes out."""
    shape, dtype = {
        read_label_ids: ((20, 30), np.uint8),
        read_instance_ids: ((20, 30), np.uint16),
        read_ids: ((20, 30, 3), np.uint8),
    }[read]
    path = write_png(tmp_path / "a.png", np.full(shape, 26, dtype))
    chunks, refusals = chunks_of(path.read_bytes()), 0
    for _ in range(150):
        number = int(NOISE.integers(len(chunks)))
        kind, body = chunks[number]
        spoilt = bytearray(body or b"x")
        spoilt[int(NOISE.integers(len(spoilt)))] ^= 1 << int(NOISE.integers(8))
        path.write_bytes(png_of([*chunks[:number], (kind, bytes(spoilt)), *chunks[number + 1 :]]))
        try:
            read(path)
        except DataError as error:
            refusals += "\n" not in str(error)
    assert refusals > 30


@pytest.mark.parametrize("channels", ["RGB", "RGBA"])
def test_a_colour_is_a_number_of_24_bits(tmp_path: Path, channels: str):
    colours = NOISE.integers(0, 256, (9, 13, len(channels)), np.uint8)
    Image.fromarray(colours, channels).save(tmp_path / "a.png")
    ids = read_ids(tmp_path / "a.png")
    assert ids.dtype == np.int32
    expected = colours[..., :3].astype(int) @ [1, 256, 65536]
    np.testing.assert_array_equal(ids, expected)


def test_a_panoptic_set_comes_back(tmp_path: Path):
    ids = np.zeros((6, 8), np.int64)
    ids[1:3], ids[3:5, 2:5] = 7, 12_345_678
    segments = (Segment(7, 7, False, 16), Segment(12_345_678, 26, False, 6))
    (tmp_path / "pan").mkdir()
    entry = write_picture(tmp_path / "pan", "ulm_000000_000019", ids, segments)
    write_document(tmp_path / "pan.json", [entry], TABLE)
    found = find_document(tmp_path)
    assert found == tmp_path / "pan.json"
    ((key, picture),) = read_document(found, TABLE, truth=True).items()
    assert (key, picture.path.parent) == ("ulm_000000_000019", tmp_path / "pan")
    assert picture.segments == segments
    np.testing.assert_array_equal(picture.read_ids(), ids)
    with pytest.raises(DataError, match="segment ids 16777216..16777216, expected 0..16777215"):
        write_picture(tmp_path / "pan", "b", np.full((2, 2), 1 << 24), [])


def test_pictures_beside_the_document_are_found(tmp_path: Path):
    path = write_panoptic_set(tmp_path, ["a"])
    (tmp_path / "cityscapes_panoptic_val" / "a.png").rename(tmp_path / "a.png")
    (tmp_path / "cityscapes_panoptic_val").rmdir()
    assert read_document(path, TABLE, truth=True)["a"].path == tmp_path / "a.png"


def test_of_several_documents_that_of_val_is_meant(tmp_path: Path):
    for name in ("train", "val", "val_trainId"):
        (tmp_path / f"cityscapes_panoptic_{name}.json").write_text("{}")
    assert find_document(tmp_path) == tmp_path / "cityscapes_panoptic_val.json"
    (tmp_path / "cityscapes_panoptic_val.json").unlink()
    with pytest.raises(DataError, match=r"found 2 JSON files \(cityscapes_panoptic_train.json, "):
        find_document(tmp_path)


def test_areas_of_predictions_may_be_missing(tmp_path: Path):
    segments = [{"id": 7, "category_id": 7}]
    path = write_panoptic_set(tmp_path, ["a"], segments_info=segments)
    assert read_document(path, TABLE, truth=False)["a"].segments == (Segment(7, 7),)
    refused(lambda p: read_document(p, TABLE, truth=True), path, "segment 7 has the area None")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("", "no panoptic document (Invalid JSON: EOF"),
        ("[" * 5000, "no panoptic document (Invalid JSON"),
        ("[]", "no panoptic document (Input should be"),
        ("{}", "no panoptic document (annotations: Field required)"),
        ({"annotations": [{"image_id": "a"}]}, "annotations.0.file_name: Field required"),
        ({"annotations": [annotation("a", image_id=None)]}, "annotations.0.image_id"),
        ({"annotations": [annotation("a", segments_info=[{"id": 7}])]}, "category_id: Field"),
        (
            {"annotations": [annotation("a", segments_info=[{"id": "7", "category_id": 7}])]},
            "annotations.0.segments_info.0.id: Input should be a valid integer",
        ),
        (
            {"annotations": [annotation("a", segments_info=2 * [{"id": 7, "category_id": 7}])]},
            "image a: lists the segment 7 twice",
        ),
        ({"annotations": [annotation("a"), annotation("a")]}, "annotates the image a twice"),
        ({"annotations": [annotation("a"), annotation("b")]}, "1 of its 2 PNGs are missing, first"),
        (
            {"annotations": [annotation("a", file_name="../a.png")]},
            "names the file ../a.png, expec",
        ),
        ({"annotations": [annotation("a", file_name="/a.png")]}, "names the file /a.png, expected"),
        (
            {"annotations": [], "categories": [{"id": n} for n in range(19)]},
            "lists the classes 0, 1, 2, 3, 4, 5, ..., expected those of cityscapes: 7, 8, 11, 12",
        ),
    ],
)
def test_a_wrong_document_is_refused_in_one_line(tmp_path: Path, document, words: str):
    path = write_panoptic_set(tmp_path, ["a"])
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    refused(lambda p: read_document(p, TABLE, truth=False), path, words)


def test_a_missing_document_is_refused(tmp_path: Path):
    refused(lambda p: read_document(p, TABLE, truth=True), tmp_path / "a.json", "cannot be read")
