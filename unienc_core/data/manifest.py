"""What a store says about itself: ``manifest.json``, versioned, checked, equal for equal data.

A store is a folder of ``manifest.json`` and HDF5 shards. The manifest declares every key (dtype,
shape, unit, encoding, how it follows a resize or flip), so that new sources and labels need no new
schema, and records every finished shard with its size and SHA-256. It holds no times and no paths.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from unienc_core.errors import StoreError
from unienc_core.files import write_atomic

FORMAT = "unienc-store"
VERSION = 1
MANIFEST_NAME = "manifest.json"

MAX_MANIFEST_BYTES = 64 * 1024 * 1024
MAX_SIDE = 16384
"""Longest image side a store may declare; checked before anything is allocated."""
MAX_FRAMES = 10_000_000

DTYPES = ("uint8", "int16", "uint16", "int32", "int64", "float16", "float32", "float64", "bool")

Encoding = Literal["png", "jpeg", "gzip", "raw"]
Role = Literal["image", "map", "lateral_map", "intrinsics", "pose", "scalar", "lateral"]
Attribute = bool | int | float | str | None


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KeySpec(_Part):
    """One array that every frame of the store has.

    Attributes:
        dtype: Name of a plain numpy type.
        shape: Of one frame; ``"H"`` and ``"W"`` stand for the image size of the drive.
        unit: "m", "px", "1/km", "id", ...
        encoding: `png` or `jpeg` (encoded bytes), `gzip` (one compressed chunk a frame), `raw`.
        role: How it follows its image: `image` (resampled), `map` (nearest, mirrored),
            `lateral_map` (a `3 H W` vector map whose x changes sign in a flip), `intrinsics`,
            `pose` (4x4), `scalar` (untouched), `lateral` (changes sign in a flip).
        invalid: The value that means "nothing known here".
        description: One sentence.
        provenance: Where labels came from if not from the source itself (a checkpoint, ...).
    """

    dtype: str
    shape: tuple[int | Literal["H", "W"], ...] = ()
    unit: str = ""
    encoding: Encoding = "raw"
    role: Role = "scalar"
    invalid: float | None = None
    description: str = ""
    provenance: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> KeySpec:
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype '{self.dtype}' is none of {', '.join(DTYPES)}")
        if any(isinstance(n, int) and not 0 < n <= MAX_SIDE for n in self.shape):
            raise ValueError(f"shape {list(self.shape)} has an axis outside 1..{MAX_SIDE}")
        if self.encoded and (self.dtype != "uint8" or self.shape != ("H", "W", 3)):
            raise ValueError(f"{self.encoding} holds uint8 H W 3, found {self.dtype} {self.shape}")
        if self.role in ("image", "map", "lateral_map") and not {"H", "W"} <= set(self.shape):
            raise ValueError(f"role {self.role} needs the axes H and W, found {self.shape}")
        return self

    @property
    def encoded(self) -> bool:
        """Whether frames are image files in bytes rather than arrays."""
        return self.encoding in ("png", "jpeg")

    def frame_shape(self, image_size: tuple[int, int]) -> tuple[int, ...]:
        """Return the shape of one frame of a drive with this image size (h, w)."""
        sizes = {"H": image_size[0], "W": image_size[1]}
        return tuple(sizes[n] if isinstance(n, str) else n for n in self.shape)


class KeyStats(_Part):
    """Range of a key over a drive, invalid values left out; None where nothing is valid."""

    min: float | None
    max: float | None
    mean: float | None
    valid: float = Field(ge=0, le=1, description="share of values that are valid")


class DriveRecord(_Part):
    """A finished drive: consecutive frames of one camera."""

    name: str
    num_frames: int = Field(gt=0, le=MAX_FRAMES)
    num_triplets: int = Field(ge=0)
    image_size: tuple[int, int]
    attrs: dict[str, Attribute] = Field(default_factory=dict)
    stats: dict[str, KeyStats] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sane_size(self) -> DriveRecord:
        if not all(0 < side <= MAX_SIDE for side in self.image_size):
            raise ValueError(f"image_size {list(self.image_size)} is outside 1..{MAX_SIDE}")
        return self


class ShardRecord(_Part):
    """A finished file."""

    file: str = Field(pattern=r"^shard-\d{5}\.h5$")
    bytes: int = Field(gt=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    drives: tuple[DriveRecord, ...] = Field(min_length=1)


class StoreSpec(_Part):
    """What a store is to hold: everything that is known before the first frame.

    Attributes:
        kind: What its drives are: `drives` (consecutive frames), `images` (unrelated frames) or
            `grids` (what an encoder made of consecutive frames of another store).
        source: Name of what it was made from ("synth-city", ...).
        split: "train", "val", "test" or "".
        image_size: (h, w) of a drive that does not say otherwise.
        keys: Name to declaration.
        fps: Frames per second.
        seed: Seed of a generated source.
        gap: Frames between the target of a triplet and each of its sources.
        min_motion: Triplets whose camera moves less than this, in m, to a source are left out.
        config: All that decides the bytes of the data; other values are another store.
    """

    kind: Literal["drives", "images", "grids"] = "drives"
    source: str
    split: str = ""
    image_size: tuple[int, int]
    keys: dict[str, KeySpec] = Field(min_length=1)
    fps: float = Field(default=1.0, gt=0)
    seed: int | None = None
    gap: int = Field(default=1, ge=1)
    min_motion: float = Field(default=0.0, ge=0)
    config: dict[str, Any] = Field(default_factory=dict)


class Manifest(_Part):
    """The whole of ``manifest.json``."""

    format: Literal["unienc-store"] = FORMAT
    version: int = VERSION
    complete: bool = False
    spec: StoreSpec
    shards: tuple[ShardRecord, ...] = ()
    digest: str = ""

    def sealed(self) -> Manifest:
        """Return the manifest with the digest that its content has."""
        return self.model_copy(update={"digest": self.content_digest()})

    def content_digest(self) -> str:
        """Return the SHA-256 of everything but the digest itself."""
        content = self.model_dump(mode="json", exclude={"digest"})
        return hashlib.sha256(_canonical(content).encode()).hexdigest()


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False)


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write ``manifest.json`` at once, keys sorted, so that equal stores have equal bytes.

    Returns:
        The manifest as written, sealed.
    """
    sealed = manifest.sealed()
    text = _canonical(sealed.model_dump(mode="json"))
    write_atomic(folder / MANIFEST_NAME, (text + "\n").encode())
    return sealed


def read_manifest(folder: Path) -> Manifest:
    """Read and check ``manifest.json``.

    Raises:
        StoreError: If it is missing, malformed, edited, or of another version.
    """
    path = folder / MANIFEST_NAME
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise StoreError(f"{path}: larger than {MAX_MANIFEST_BYTES} bytes, not a manifest")
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{folder}: not a store (no {MANIFEST_NAME})") from None
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path}: unreadable manifest: {_line(error)}") from None
    _check_version(raw, path)
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise StoreError(f"{path}: '{where}': {fault['msg'].lower()}; prepare it again") from None
    if manifest.digest != manifest.content_digest():
        raise StoreError(
            f"{path}: its content does not fit its digest, so it was edited or damaged; "
            "restore it or prepare the store again with --force"
        )
    _check_unique(manifest, path)
    return manifest


def _check_version(raw: Any, path: Path) -> None:
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise StoreError(f"{path}: not the manifest of a {FORMAT}")
    if raw.get("version") != VERSION:
        raise StoreError(
            f"{path}: store version {raw.get('version')}, this program reads version {VERSION}; "
            "prepare it again or update the program"
        )


def _check_unique(manifest: Manifest, path: Path) -> None:
    files = [shard.file for shard in manifest.shards]
    drives = [drive.name for shard in manifest.shards for drive in shard.drives]
    for what, names in (("shard", files), ("drive", drives)):
        if len(set(names)) < len(names):
            raise StoreError(f"{path}: a {what} is listed twice; prepare the store again")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
