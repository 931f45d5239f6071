"""Reading image files of data sets, and how a picture becomes that of the store with its K.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from unienc_core.data.clip_scan import Window
from unienc_core.data.codecs import check_encoded, decode_bytes, decode_image, image_size_of
from unienc_core.data.manifest import MAX_SIDE
from unienc_core.data.resample import Size, resize_image, resize_map
from unienc_core.errors import DataError

_PNG_START = struct.Struct(">8s8xIIBB")  # magic, width, height, bits, colour type
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_GREY = 0
_HEAD_BYTES = 1 << 16


def read_picture(path: Path) -> np.ndarray:
    """Read a PNG or JPEG of 8 bits, grey or colour.

    Returns:
        `H W 3`, uint8, RGB; a grey one has three equal channels.

    Raises:
        DataError: If it is missing, damaged, of 16 bits, or beyond `MAX_SIDE`.
    """
    data = _bytes_of(path)
    size = _sane_size(data, path)
    if data[:8].tobytes() == _PNG_MAGIC and data[24] > 8:
        raise DataError(f"{path}: a PNG of {data[24]} bits, expected a picture of 8 bits")
    return decode_image(data, size, str(path))


def read_codes(path: Path, dtype: type[np.uint8] | type[np.uint16]) -> np.ndarray:
    """Read a grey PNG of whole numbers as they are: label ids, instance ids, disparity codes.

    Args:
        path: The file.
        dtype: uint8 or uint16: the bits it must have, since 16 bits read as 8 merge instances.

    Returns:
        `H W`, of that type.

    Raises:
        DataError: If it is missing, damaged, or no grey PNG of these bits.
    """
    data = _bytes_of(path)
    size = _sane_size(data, path)
    wanted = np.dtype(dtype).itemsize * 8
    magic, _, _, bits, colour = _PNG_START.unpack(data[: _PNG_START.size].tobytes())
    if magic != _PNG_MAGIC or (bits, colour) != (wanted, _GREY):
        kind = f"a PNG of {bits} bits, colour type {colour}" if magic == _PNG_MAGIC else "no PNG"
        raise DataError(f"{path}: found {kind}, expected a grey PNG of {wanted} bits")
    check_encoded(data, size, str(path))
    values = decode_bytes(data, cv2.IMREAD_UNCHANGED)
    if values is None or values.shape != size or values.dtype != dtype:
        raise DataError(f"{path}: the image cannot be decoded, its bytes are damaged")
    return values


def picture_size(path: Path) -> Size:
    """Return (h, w) of a PNG or JPEG, from its first bytes if they tell it.

    Raises:
        DataError: If it is missing or neither.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            if len(head) == _HEAD_BYTES and image_size_of(head) is None:
                head += file.read()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    return _sane_size(np.frombuffer(head, np.uint8), path)


@dataclass(frozen=True)
class View:
    """How a picture of a data set becomes that of the store: cropped, then resized, with its K.

    Attributes:
        whole: (h, w) of the picture on disk.
        window: The part that is kept, in its pixels.
        image_size: (h, w) as stored.
    """

    whole: Size
    window: Window
    image_size: Size

    def image(self, picture: np.ndarray, where: str) -> np.ndarray:
        """Crop and resize a picture `H W 3`.

        Args:
            picture: As `read_picture` gives it.
            where: What to call it in the error.

        Raises:
            DataError: If it has another size than `whole`.
        """
        return np.ascontiguousarray(resize_image(self._cut(picture, where), self.image_size))

    def map(self, values: np.ndarray, where: str) -> np.ndarray:
        """Crop and resize a map `H W` by taking the nearest pixel; see `image`."""
        return np.ascontiguousarray(resize_map(self._cut(values, where), self.image_size))

    def K(self, K: np.ndarray) -> np.ndarray:
        """Return the intrinsics `3 3` of the stored picture, exactly.

        Crop c' = c - x0, then resize c' = s (c + 0.5) - 0.5, pixel centres lying at integers.
        """
        (height, width), (new_height, new_width) = self.window.size, self.image_size
        sx, sy = new_width / width, new_height / height
        shift = np.array([[1.0, 0, -self.window.left], [0, 1.0, -self.window.top], [0, 0, 1.0]])
        scale = np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1.0]])
        return scale @ shift @ np.asarray(K, np.float64)

    def _cut(self, picture: np.ndarray, where: str) -> np.ndarray:
        found = picture.shape[:2]
        if found != self.whole:
            expected = f"{self.whole[0]}x{self.whole[1]}"
            raise DataError(f"{where}: a picture of {found[0]}x{found[1]}, expected {expected}")
        return self.window.cut(picture)


def whole_view(whole: Size, image_size: Size | None = None) -> View:
    """Return the view that keeps the whole picture, resized to `image_size` if given."""
    return View(whole, Window(0, 0, whole[1], whole[0]), image_size or whole)


def _bytes_of(path: Path) -> np.ndarray:
    try:
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _sane_size(data: np.ndarray, path: Path) -> Size:
    size = image_size_of(data.data)
    if size is None:
        raise DataError(f"{path}: no PNG or JPEG picture")
    if not all(0 < side <= MAX_SIDE for side in size):
        raise DataError(
            f"{path}: a picture of {size[0]}x{size[1]}, expected sides of 1..{MAX_SIDE}"
        )
    return size
