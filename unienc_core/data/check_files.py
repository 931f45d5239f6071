"""Folders of image files: pictures that readers refuse, or read each in its own way.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from unienc_core.data.check_pictures import picture_digest, useless
from unienc_core.data.findings import Finding

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

_ORIENTATION = 0x0112
_UPRIGHT = (None, 1)
_COLOUR_MODES = ("RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


@dataclass(frozen=True)
class FileCheck:
    """What is known of an image file.

    Attributes:
        path: The file.
        error: Why it cannot be read, or None; then nothing else is known.
        mode: Channels, as Pillow names them.
        size: (h, w), px.
        orientation: As EXIF says, or None.
        useless: Why the picture shows nothing, or None.
        digest: Of its pixels.
    """

    path: Path
    error: str | None = None
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    orientation: int | None = None
    useless: str | None = None
    digest: bytes = b""

    @property
    def has_colour(self) -> bool:
        """Whether it has colour channels."""
        return self.mode in _COLOUR_MODES


def list_images(folder: Path) -> list[Path]:
    """List the image files in a folder and below, by name."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )


def check_files(paths: Sequence[Path]) -> list[FileCheck]:
    """Read image files, one at a time."""
    return [_check_file(path) for path in paths]


def judge_files(checks: Sequence[FileCheck]) -> Iterator[Finding]:
    """Yield what is wrong with the files of a folder, each judged among those beside it."""
    folders: dict[Path, list[FileCheck]] = {}
    for check in checks:
        folders.setdefault(check.path.parent, []).append(check)
    for folder, beside in folders.items():
        readable = [check for check in beside if check.error is None]
        colour = any(check.has_colour for check in readable)
        for check in beside:
            yield from _judge(check, among_colour=colour)
        yield from _judge_folder(folder, readable, colour)
    yield from _repeated(checks)


def _check_file(path: Path) -> FileCheck:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images, and of odd but harmless tags
            with Image.open(path) as image:
                orientation = image.getexif().get(_ORIENTATION)
                image.load()
                mode, size = image.mode, (image.height, image.width)
                pixels = np.asarray(image)
    except UnidentifiedImageError:
        return FileCheck(path, "it is no image, whatever its name says")
    except Image.DecompressionBombError:
        return FileCheck(path, "claims to be larger than any camera's picture")
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        return FileCheck(path, " ".join(str(error).replace(str(path), "").split())[:120])
    fault = useless(pixels) if pixels.dtype == np.uint8 else None
    return FileCheck(path, None, mode, size, orientation, fault, picture_digest(pixels))


def _judge(check: FileCheck, *, among_colour: bool) -> Iterator[Finding]:
    place = str(check.path)
    if check.error is not None:
        what = f"cannot be read ({check.error})"
        yield Finding("unreadable", place, what, "replace the file or leave it out")
        return
    if check.useless:
        severity = "finding" if check.has_colour or among_colour else "warning"
        yield Finding("useless", place, check.useless, "leave it out", severity)
    if among_colour and not check.has_colour:
        what = f"has one channel ({check.mode}), others in its folder have colour"
        yield Finding("one-channel", place, what, "replace it by the colour picture")
    if check.mode == "CMYK":
        what = "has the colours of a printer (CMYK), which readers turn into RGB differently"
        yield Finding("cmyk", place, what, "save it as RGB")
    if check.orientation not in _UPRIGHT:
        what = (
            f"is marked as turned (EXIF orientation {check.orientation}), which some readers "
            "follow and others do not"
        )
        yield Finding("turned", place, what, "turn the pixels themselves and drop the mark")


def _judge_folder(folder: Path, checks: Sequence[FileCheck], colour: bool) -> Iterator[Finding]:
    sizes = Counter(check.size for check in checks)
    if len(sizes) > 1:
        named = ", ".join(f"{n} of {h}x{w}" for (h, w), n in sizes.most_common(3))
        more = f" and {len(sizes) - 3} other sizes" if len(sizes) > 3 else ""
        what = f"pictures of different sizes: {named}{more}"
        yield Finding("sizes", str(folder), what, "fine if they are different cameras", "warning")
    if checks and not colour:
        what = f"all {len(checks)} pictures have one channel"
        yield Finding("grey", str(folder), what, "fine for labels or a grey camera", "warning")


def _repeated(checks: Sequence[FileCheck]) -> Iterator[Finding]:
    first: dict[bytes, Path] = {}
    for check in checks:
        if check.error is not None or check.useless:
            continue
        if check.digest in first:
            what = f"is the very picture of {first[check.digest]}"
            severity = "finding" if check.has_colour else "warning"
            yield Finding("repeated", str(check.path), what, "leave one of them out", severity)
        first.setdefault(check.digest, check.path)
