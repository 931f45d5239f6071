"""PNG files of whole numbers: label ids, instance ids, segment ids as colours, and masks.

Reading is most of the time that scoring takes. Maps of segments shrink to a hundredth, and this
decoder takes a quarter to a half of the time of OpenCV and Pillow.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from kornia_rs import io as rust_io  # pyright: ignore[reportMissingModuleSource] - compiled
from PIL import Image

from unienc_core.data.codecs import check_encoded
from unienc_core.data.manifest import MAX_SIDE
from unienc_core.data.resample import Size
from unienc_core.errors import DataError

_START = struct.Struct(">8s8xIIBB")  # magic, width, height, bits, colour type
_MAGIC = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _RGBA = 0, 2, 3, 6
_GREY_DECODERS = {8: rust_io.decode_image_png_u8, 16: rust_io.decode_image_png_u16}  # by bits


def read_grey(path: Path, bits: int, reason: str = "") -> np.ndarray:
    """Read the numbers of a grey PNG, or the indices of one with a palette of up to 8 bits.

    Args:
        path: The file.
        bits: 8 or 16, which it must have.
        reason: Why, for the message.

    Returns:
        `H W`, uint8 or uint16.

    Raises:
        DataError: If it is missing, damaged, or of another kind.
    """
    data, found_bits, colour, size = _open(path)
    if bits == 8 and colour == _PALETTE:
        return _by_pillow(path)
    if (found_bits, colour) != (bits, _GREY):
        raise DataError(
            f"{path}: found a PNG of {found_bits} bits, {_kind(colour)}, expected a grey one of "
            f"{bits} bits{reason and f': {reason}'}"
        )
    return _decoded(path, _GREY_DECODERS[bits], data, size, "mono")[..., 0]


def read_colours(path: Path) -> np.ndarray:
    """Read a colour PNG of 8 bits; what it says of transparency is not looked at.

    Returns:
        `H W 3` or `H W 4` uint8, RGB or RGBA.

    Raises:
        DataError: If it is missing, damaged, or of another kind.
    """
    data, bits, colour, size = _open(path)
    if bits != 8 or colour not in (_RGB, _RGBA):
        raise DataError(
            f"{path}: found a PNG of {bits} bits, {_kind(colour)}, expected an RGB one of 8 bits"
        )
    return _decoded(
        path, rust_io.decode_image_png_u8, data, size, "rgb" if colour == _RGB else "rgba"
    )


def read_mask(path: Path, size: Size) -> np.ndarray:
    """Read a mask: a pixel belongs to the object where its brightness is not zero.

    Args:
        path: A PNG of any kind. Brightness is what Pillow takes for it.
        size: Height and width that it must have.

    Returns:
        `H W` bool.

    Raises:
        DataError: If it is missing, damaged, or of another size.
    """
    data, bits, colour, found = _open(path)
    if found != size:
        raise DataError(f"{path}: a mask of {found[0]}x{found[1]}, expected {size[0]}x{size[1]}")
    if colour != _GREY or bits not in _GREY_DECODERS:
        return _by_pillow(path, "L") != 0
    return _decoded(path, _GREY_DECODERS[bits], data, size, "mono")[..., 0] != 0


def _open(path: Path) -> tuple[bytes, int, int, tuple[int, int]]:
    """Return the bytes of a whole PNG, its bits, colour type and (h, w)."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if len(data) < _START.size or not data.startswith(_MAGIC):
        raise DataError(f"{path}: no PNG picture")
    _, width, height, bits, colour = _START.unpack_from(data)
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise DataError(f"{path}: a picture of {height}x{width}, expected sides of 1..{MAX_SIDE}")
    check_encoded(np.frombuffer(data, np.uint8), (height, width), str(path))
    return data, bits, colour, (height, width)


def _decoded(
    path: Path,
    decode: Callable[[bytes, tuple[int, int], str], np.ndarray],
    data: bytes,
    size: tuple[int, int],
    mode: str,
) -> np.ndarray:
    try:
        return decode(data, size, mode)
    except Exception:  # it names no narrower one
        raise DataError(f"{path}: the picture cannot be decoded, its bytes are damaged") from None


def _by_pillow(path: Path, mode: str | None = None) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            return np.array(picture if mode is None else picture.convert(mode))
    except Exception:  # Pillow has a dozen for damaged files
        raise DataError(f"{path}: the picture cannot be decoded, its bytes are damaged") from None


def _kind(colour: int) -> str:
    names = {_GREY: "grey", _RGB: "RGB", _PALETTE: "with a palette", _RGBA: "RGBA"}
    return names.get(colour, "grey and transparent")
