"""Folders of depth maps: pairing, formats, and everything that a file can be instead."""

import cv2
import numpy as np
import pytest

from unienc_core.errors import DataError
from unienc_core.workflows.depth_files import MAX_PIXELS, pair_files, read_map


def png(values: np.ndarray) -> bytes:
    return cv2.imencode(".png", values)[1].tobytes()


def test_npy_and_png_read_back(tmp_path) -> None:
    values = np.random.default_rng(0).uniform(0, 200, (20, 30)).astype(np.float32)
    np.save(tmp_path / "a.npy", values)
    assert (read_map(tmp_path / "a.npy") == values).all()
    np.save(tmp_path / "b.npy", values[None, :, :, None].astype(np.float16))
    assert read_map(tmp_path / "b.npy") == pytest.approx(values, rel=1e-3)
    raw = np.array([[0, 1, 256, 65535]], np.uint16)
    (tmp_path / "c.PNG").write_bytes(png(raw))
    assert read_map(tmp_path / "c.PNG").tolist() == [[0, 1 / 256, 1, 65535 / 256]]


def bad_files() -> dict[str, tuple[bytes, str]]:
    """Name to content and the words of the error."""
    import io

    def npy(values: np.ndarray, allow_pickle: bool = False) -> bytes:
        file = io.BytesIO()
        np.save(file, values, allow_pickle=allow_pickle)
        return file.getvalue()

    noise = (np.random.default_rng(0).random((40, 50)) * 65535).astype(np.uint16)
    picture = png(noise)
    flipped = bytearray(picture)
    flipped[len(picture) // 2] ^= 255
    giant = picture[:16] + (1 << 20).to_bytes(4, "big") * 2 + picture[24:]
    floats = np.ones((9, 8))
    header = npy(floats).replace(b"(9, 8)", b"(9, 9**9)")
    archive = io.BytesIO()
    np.savez(archive, floats)
    return {
        "object.npy": (npy(np.array([{}], object), allow_pickle=True), "object"),
        "integers.npy": (npy(noise), "holds uint16, expected floats"),
        "complex.npy": (npy(floats + 1j), "holds complex128, expected floats"),
        "cut.npy": (npy(floats)[:-9], "cannot read"),
        "empty.npy": (b"", "not a .npy file"),
        "text.npy": (b"depth, depth, depth", "not a .npy file"),
        "archive.npy": (archive.getvalue(), "not a .npy file"),
        "points.npy": (npy(floats[:, :3]), "list of points"),
        "stack.npy": (npy(np.ones((2, 9, 8))), r"shape \(2, 9, 8\), expected a map"),
        "scalar.npy": (npy(np.float64(3)), r"shape \(\), expected a map"),
        "nothing.npy": (npy(floats[:0]), "is no depth map"),
        "code.npy": (header, "cannot read"),
        "empty.png": (b"", "not a PNG"),
        "text.png": (b"depth " * 40, "not a PNG"),
        "cut.png": (picture[: len(picture) // 2], "cut or damaged"),
        "headless.png": (picture[:40], "cut or damaged"),
        "flipped.png": (bytes(flipped), "cut or damaged"),
        "giant.png": (giant, "no depth map"),
        "eight.png": (png((noise // 256).astype(np.uint8)), "8-bit PNG.*expected 16-bit grey"),
        "colour.png": (png(np.dstack([noise] * 3)), "colour type 2, expected 16-bit grey"),
    }


@pytest.mark.parametrize("name", bad_files())
def test_bad_files_are_named_in_one_line(tmp_path, name: str) -> None:
    content, words = bad_files()[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_map(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "load it unsafely" not in str(caught.value)


def test_size_is_checked_before_memory_is_taken(tmp_path) -> None:
    path = tmp_path / "sparse.npy"
    side = 1 << 15
    assert side * side > MAX_PIXELS
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (side, side)}
        )
        file.truncate(file.tell() + 4 * side * side)  # a hole: takes no room on the disk
    with pytest.raises(DataError, match="is no depth map"):
        read_map(path)


def test_pairing_by_name_without_suffix(tmp_path) -> None:
    for path in ("gt/b.npy", "gt/sub/a.png", "gt/.hidden.npy", "gt/notes.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    for path in ("predicted/b.png", "predicted/sub/a.npy"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    pairs = pair_files(tmp_path / "predicted", tmp_path / "gt")
    assert [name for name, *_ in pairs] == ["b", "sub/a"]
    assert pairs[1][1] == tmp_path / "predicted/sub/a.npy"
    assert pairs[1][2] == tmp_path / "gt/sub/a.png"


def test_names_that_stand_in_one_folder_only_are_listed(tmp_path) -> None:
    for folder, names in (("gt", "abcdefgh"), ("predicted", "hxy")):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.npy").touch()
    with pytest.raises(DataError) as caught:
        pair_files(tmp_path / "predicted", tmp_path / "gt")
    message = str(caught.value)
    assert f"7 without a prediction in {tmp_path}/predicted: a, b, c, d, e and 2 more" in message
    assert f"2 without ground truth in {tmp_path}/gt: x, y" in message


def test_folders_that_hold_no_maps(tmp_path) -> None:
    for folder in ("full", "twice", "empty"):
        (tmp_path / folder).mkdir()
    (tmp_path / "full/a.npy").touch()
    (tmp_path / "twice/a.npy").touch()
    (tmp_path / "twice/a.png").touch()
    for folder, words in (
        ("missing", "no such folder"),
        ("empty", "holds no .npy or .png file"),
        ("full/a.npy", "no such folder"),
        ("twice", "'a' stands twice"),
    ):
        with pytest.raises(DataError, match=words):
            pair_files(tmp_path / "full", tmp_path / folder)
