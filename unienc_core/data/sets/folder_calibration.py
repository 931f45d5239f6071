"""The file that says where pictures of a folder are, and what camera took them."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unienc_core.errors import DataError, PresetError
from unienc_core.safe_yaml import MAX_YAML_BYTES, parse_yaml
from unienc_core.strict import validate_strictly

EXAMPLE = "{fps: 10, cameras: [{images: 'drive_*/left/*.png', K: [fx, fy, cx, cy]}]}"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CameraFolders(_Part):
    """Folders of pictures that one camera took.

    Attributes:
        images: Pattern relative to the root; each folder with a picture that fits is a drive.
        K: fx, fy, cx, cy in px of the pictures on disk.
        crop: Left, top, right, bottom: px to cut off.
        depth: Folder of depth maps of the same names (`.npy` in m, or 16-bit `.png`), relative to
            that of the pictures.
        depth_scale: Codes a metre of depth maps in PNG.
    """

    images: str
    K: tuple[float, float, float, float]
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    depth: str | None = None
    depth_scale: float = Field(default=256.0, gt=0)


class Calibration(_Part):
    """The whole of a calibration file.

    Attributes:
        fps: Pictures a second.
        root: Folder that patterns start from, relative to the file's own.
        cameras: What there is.
    """

    fps: float = Field(ge=1e-4, le=1e6)
    root: str = "."
    cameras: tuple[CameraFolders, ...] = Field(min_length=1)


def read_folders(path: Path) -> Calibration:
    """Read a calibration file.

    Raises:
        DataError: If it is missing, or says something else than `Calibration` allows.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_YAML_BYTES + 1)
        raw = parse_yaml(text, str(path))
        return validate_strictly(Calibration, raw, str(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a YAML file like {EXAMPLE}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the file"
        what = fault["msg"].lower()
        raise DataError(f"{path}: '{where}': {what}; expected something like {EXAMPLE}") from None
    except (OSError, ValueError, PresetError) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
