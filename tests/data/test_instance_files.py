"""Predicted instances on disk: what is read is what Pillow sees, what is wrong is one line."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from unienc_core.class_tables import cityscapes_table
from unienc_core.data.seg_files.instance_files import read_instances, write_instances
from unienc_core.data.seg_files.png import read_mask
from unienc_core.errors import DataError
from unienc_core.segmentation import Instance

SIZE = (24, 37)
TABLE = cityscapes_table()
FILTERS = ("NONE", "SUB", "UP", "AVG", "PAETH")


def shape(name: str) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    if name == "noise":
        return np.random.default_rng(0).random(SIZE) < 0.5
    if name == "full":
        return ~mask
    rows, columns = {
        "empty": ((0, 0), (0, 0)),
        "inside": ((7, 15), (9, 30)),
        "at the top": ((0, 5), (0, 37)),
        "at the bottom": ((9, 24), (3, 17)),
        "one pixel": ((23, 24), (36, 37)),
        "two parts": ((20, 23), (5, 8)),
    }[name]
    mask[slice(*rows), slice(*columns)] = True
    if name == "two parts":
        mask[2:4, 11:30] = True
    return mask


SHAPES = (
    "noise", "full", "empty", "inside", "at the top", "at the bottom", "one pixel", "two parts"
)  # fmt: skip


def as_pillow_sees_it(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert("L")) != 0


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_masks_of_every_filter(name, filters, dtype, tmp_path):
    mask, path = shape(name), tmp_path / "mask.png"
    options = [cv2.IMWRITE_PNG_FILTER, getattr(cv2, f"IMWRITE_PNG_FILTER_{filters}")]
    for value in (1, np.iinfo(dtype).max):
        assert cv2.imwrite(str(path), mask.astype(dtype) * dtype(value), options)
        np.testing.assert_array_equal(read_mask(path, SIZE), mask)
        np.testing.assert_array_equal(as_pillow_sees_it(path), mask)


@pytest.mark.parametrize("filters", FILTERS)
def test_rows_that_say_nothing_repeat_the_row_above(filters, tmp_path):
    # A picture that is constant down to the bottom: its rows are all zero after the filter "up".
    mask = np.zeros((200, 64), bool)
    mask[50:, 10:40] = True
    options = [cv2.IMWRITE_PNG_FILTER, getattr(cv2, f"IMWRITE_PNG_FILTER_{filters}")]
    path = tmp_path / "mask.png"
    assert cv2.imwrite(str(path), mask.astype(np.uint8), options)
    np.testing.assert_array_equal(read_mask(path, mask.shape), mask)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_masks_of_every_kind(name, mode, tmp_path):
    values = shape(name).astype(np.uint8) * 255
    picture = Image.fromarray(values)
    if mode == "I;16":
        picture = Image.fromarray(values.astype(np.uint16) * 3)
    elif mode == "P":  # the mask is entry 0, which is white
        picture = Image.fromarray((values == 0).astype(np.uint8), "L")
        picture.putpalette([255, 255, 255, 0, 0, 0])
    else:
        picture = picture.convert(mode)
    path = tmp_path / "mask.png"
    picture.save(path)
    np.testing.assert_array_equal(read_mask(path, SIZE), shape(name))
    np.testing.assert_array_equal(as_pillow_sees_it(path), shape(name))


def grey_png(bits: int, packed: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", SIZE[1], SIZE[0], bits, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b"")):
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        content += struct.pack(">I", len(body)) + kind + body + checksum
    return content


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_masks_of_few_bits(name, bits, tmp_path):
    one = np.zeros((*SIZE, bits), np.uint8)
    one[..., -1] = shape(name)  # the value 1
    rows = np.packbits(one.reshape(SIZE[0], -1), axis=1)
    path = tmp_path / "mask.png"
    path.write_bytes(grey_png(bits, zlib.compress(np.insert(rows, 0, 0, axis=1).tobytes())))
    np.testing.assert_array_equal(read_mask(path, SIZE), shape(name))
    np.testing.assert_array_equal(as_pillow_sees_it(path), shape(name))


def test_dark_colours_are_as_dark_as_for_pillow(tmp_path):
    levels = np.arange(8, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(16, 32, 3)
    path = tmp_path / "mask.png"
    Image.fromarray(colours).save(path)
    mask = read_mask(path, (16, 32))
    np.testing.assert_array_equal(mask, as_pillow_sees_it(path))
    assert 0 < (~mask).sum() < 20


def test_written_instances_are_read(tmp_path):
    instances = [
        Instance(26, 0.1 + 0.2, shape("inside")),
        Instance(24, 1e-9, shape("noise")),
        Instance(33, 0.5, shape("at the bottom")),
    ]
    path = write_instances(tmp_path / "pred", "ulm_000000_000019", iter(instances))
    assert path == tmp_path / "pred" / "ulm_000000_000019.txt"
    assert path.read_text().splitlines()[0] == (
        "masks/ulm_000000_000019_000.png 26 0.30000000000000004"
    )
    found = list(read_instances(path, tmp_path / "pred", SIZE, TABLE))
    assert [(f.label_id, f.score) for f in found] == [(i.label_id, i.score) for i in instances]
    for ours, theirs in zip(found, instances, strict=True):
        assert ours.mask.dtype == bool
        np.testing.assert_array_equal(ours.mask, theirs.mask)


def test_no_instances(tmp_path):
    path = write_instances(tmp_path, "key", [])
    assert path.read_bytes() == b""
    assert list(read_instances(path, tmp_path, SIZE, TABLE)) == []


def write(root: Path, text: str | bytes, city: str = "ulm") -> Path:
    path = root / city / "a.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for name in ("one.png", "two.png"):
        cv2.imwrite(str(path.parent / name), shape("inside").astype(np.uint8) * 255)
    return path


def test_lines_are_read_as_the_benchmark_reads_them(tmp_path):
    text = "one.png 26.0 0.5\r\n./one.png 24 0.25\n\n../ulm/two.png\t33  1e-1\nnone.png 29 0.9"
    found = read_instances(write(tmp_path, text), tmp_path, SIZE, TABLE)
    # The second line is about the mask of the first, and no mask of class 29 is asked for.
    assert [(f.label_id, f.score) for f in found] == [(24, 0.25), (33, 0.1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one.png 26", "line 1: found 2 words, expected three"),
        ("\none 1.png 26 0.5", "line 2: found 4 words"),
        ("one.png car 0.5", "found 'car', expected a finite number"),
        ("one.png 26 nan", "found 'nan', expected a finite number"),
        ("one.png inf 0.5", "found 'inf', expected a finite number"),
        ("one.png 26.5 0.5", "the class is 26.5, expected a label id"),
        ("one.png 34 0.5", "names the class 34, which cityscapes does not have"),
        ("/one.png 26 0.5", "expected a relative path inside"),
        ("../../one.png 26 0.5", "expected a relative path inside"),
        ("three.png 26 0.5", r"three\.png: cannot be read \(No such file"),
        ("\0.png 26 0.5", "expected a relative path inside"),
        (b"one.png 26 0.5 \xff", "the predictions cannot be read .not UTF-8."),
    ],
)
def test_a_wrong_text_file_is_one_line(text, message, tmp_path):
    path = write(tmp_path / "pred", text)
    with pytest.raises(DataError, match=message) as caught:
        list(read_instances(path, tmp_path / "pred", SIZE, TABLE))
    assert "\n" not in str(caught.value)
    assert str(path.parent) in str(caught.value)


def test_a_missing_text_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read .No such file"):
        list(read_instances(tmp_path / "a.txt", tmp_path, SIZE, TABLE))


def damage(path: Path, kind: str) -> None:
    good = path.read_bytes()
    idat = good.index(b"IDAT")
    content = {
        "empty": b"",
        "head only": good[:40],
        "truncated": good[:-20],
        "a bit": good[: idat + 9] + bytes([good[idat + 9] ^ 4]) + good[idat + 10 :],
        "text": b"no picture at all",
    }
    if kind == "jpeg":
        content[kind] = cv2.imencode(".jpg", np.zeros(SIZE, np.uint8))[1].tobytes()
    path.write_bytes(content[kind])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "no PNG picture"),
        ("head only", "damaged"),
        ("truncated", "damaged"),
        ("a bit", "damaged"),
        ("text", "no PNG picture"),
        ("jpeg", "no PNG picture"),
    ],
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_damaged_mask_is_one_line(kind, message, mode, tmp_path):
    path = tmp_path / "mask.png"
    Image.fromarray(shape("noise").astype(np.uint8) * 255).convert(mode).save(path)
    damage(path, kind)
    with pytest.raises(DataError, match=message) as caught:
        read_mask(path, SIZE)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("fault", ["too little", "not deflated"])
def test_rows_that_do_not_fill_the_picture(fault, tmp_path):
    path = tmp_path / "mask.png"
    packed = {"too little": zlib.compress(bytes(100)), "not deflated": b"rows" * 9}[fault]
    path.write_bytes(grey_png(8, packed))
    with pytest.raises(DataError, match="cannot be decoded, its bytes are damaged"):
        read_mask(path, SIZE)


def test_a_mask_of_another_size(tmp_path):
    path = tmp_path / "mask.png"
    cv2.imwrite(str(path), np.zeros((12, 37), np.uint8))
    with pytest.raises(DataError, match="a mask of 12x37, expected 24x37"):
        read_mask(path, SIZE)
