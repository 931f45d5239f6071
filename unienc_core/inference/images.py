"""Pictures of a folder, a pattern or a list, as if they were a video."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from unienc_core.errors import DataError
from unienc_core.inference.frames import Frame, FrameSource, Losses, SourceInfo
from unienc_core.inference.span import WHOLE, Picker, Span

IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
)
DEFAULT_FPS = Fraction(25)


def natural_key(path: Path) -> tuple[list[str | int], str]:
    """Sort key that puts ``2.png`` before ``10.png``."""
    parts = re.split(r"([0-9]+)", str(path))
    return [int(p) if i % 2 else p.casefold() for i, p in enumerate(parts)], str(path)


def read_image(path: Path) -> np.ndarray:
    """Read a picture as `H W 3`, uint8, RGB, upright as its EXIF says.

    Grey, 16-bit and CMYK pictures are converted, transparency is dropped.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({why})") from None
    if not data.size:
        raise DataError(f"{path}: is empty (0 bytes)")
    with suppress(cv2.error):
        image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
        if image is not None:
            return image
    raise DataError(f"{path}: is not a picture that can be decoded")


class ImageSource(FrameSource):
    """Pictures in the order given; one that cannot be read is a gap.

    Args:
        paths: The files, at least one.
        name: Stem of the outputs.
        origin: What the user gave.
        fps: Pictures a second; None where nobody knows: then 25 are assumed.
        is_still: Whether it is a single picture and no film.

    Raises:
        DataError: If none of them can be read.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        name: str,
        origin: Path,
        fps: Fraction | None = None,
        is_still: bool = False,
    ) -> None:
        self._paths = list(paths)
        stems = [path.stem for path in self._paths]
        self._names = stems if len(set(stems)) == len(stems) else [""] * len(stems)
        self.losses = Losses()
        height, width = self._first_size()
        rate = fps or DEFAULT_FPS
        self.info = SourceInfo(
            origin,
            name,
            height,
            width,
            rate,
            1 / rate,
            len(self._paths),
            is_still=is_still,
            is_timed=fps is not None,
        )

    def frames(self, span: Span = WHOLE) -> Iterator[Frame]:
        """Deliver the pictures of a span; a picture keeps its number and time after a gap."""
        picker, num_lost, last = Picker(span), 0, 0.0
        for index, (path, name) in enumerate(zip(self._paths, self._names, strict=True)):
            time = index / self.info.rate
            is_taken = picker.takes(index, time)
            if picker.ended:
                break
            if not is_taken:
                continue
            try:
                image = read_image(path)
            except DataError:
                num_lost += 1
                continue
            self._lose(num_lost, index, last)
            last = float(time)
            yield Frame(image, index, index, last, num_lost, name=name, path=path)
            num_lost = 0
        self._lose(num_lost, len(self._paths), last)

    def _lose(self, num_lost: int, before: int, time: float) -> None:
        if num_lost:
            self.losses.add(before, time, num_lost)

    def _first_size(self) -> tuple[int, int]:
        error: DataError | None = None
        for path in self._paths:
            try:
                height, width = read_image(path).shape[:2]
            except DataError as fault:
                error = error or fault
            else:
                return height, width
        assert error is not None
        raise error
