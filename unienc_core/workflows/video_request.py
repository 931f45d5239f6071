"""What is asked of `prepare-data video`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unienc_core.data.manifest import MAX_SIDE
from unienc_core.data.picture_motion import STANDING
from unienc_core.errors import UsageError
from unienc_core.workflows.intrinsics import CameraRequest

SPLITS = ("train", "val", "test")
_MAX_GAP = 1000


@dataclass(frozen=True)
class VideoRequest:
    """What is to be made of the clips.

    Attributes:
        camera: What is known of the camera; a field of view of 60 degrees is assumed otherwise.
        image_size: (h, w) to store; None for the clip's own aspect, at most 640 px wide.
        crop: Left, top, right, bottom: px to cut off each clip's picture at least.
        gap: Frames between a target and each of its sources; None for about 0.12 s.
        min_motion: A camera whose picture moves less from target to source, in widths of the
            picture, stands; 0 keeps all frames.
        shares: Split to its share of each clip, in the order of time: the last one gets the tail.
    """

    camera: CameraRequest = field(default_factory=CameraRequest)
    image_size: tuple[int, int] | None = None
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    gap: int | None = None
    min_motion: float = STANDING
    shares: Mapping[str, float] = field(default_factory=lambda: {"train": 0.8, "val": 0.2})

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UsageError: If one is out of range.
        """
        if self.gap is not None and not 1 <= self.gap <= _MAX_GAP:
            raise UsageError(f"--gap {self.gap}: expected 1 to {_MAX_GAP} frames")
        if self.image_size is not None:
            height, width = self.image_size
            if not (min(height, width) >= 32 and max(height, width) <= MAX_SIDE):
                raise UsageError(f"--size {height}x{width}: expected 32 to {MAX_SIDE} px each way")
        if not 0 <= self.min_motion < 1:
            raise UsageError(f"--min-motion {100 * self.min_motion:g}: expected 0 to 100 percent")

    def record(self) -> dict[str, Any]:
        """Return what decides the bytes of the stores, as plain data."""
        K, fov = self.camera.K, self.camera.fov
        return {
            "K": None if K is None else list(K),
            "fov": fov,
            "size": None if self.image_size is None else list(self.image_size),
            "crop": list(self.crop),
            "min_motion": self.min_motion,
            "split": dict(self.shares),
        }


def parse_shares(text: str) -> dict[str, float]:
    """Parse ``train=0.8,val=0.2``.

    Raises:
        UsageError: On a form, a split or a sum that makes no sense.
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        try:
            share = float(value)
        except ValueError:
            share = 0.0
        if name not in SPLITS or name in shares or not 0 < share <= 1:
            raise UsageError(
                f"--split {text}: expected shares above 0 of {', '.join(SPLITS)}, "
                "like train=0.8,val=0.2"
            )
        shares[name] = share
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise UsageError(f"--split {text}: the shares add up to {sum(shares.values()):g}, not 1")
    return shares


def parse_crop(text: str) -> tuple[int, int, int, int]:
    """Parse ``LEFT,TOP,RIGHT,BOTTOM`` in px.

    Raises:
        UsageError: If it is not four whole numbers of 0 or more.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(part.isdecimal() and len(part) < 6 for part in parts):
        raise UsageError(f"--crop {text}: expected four numbers LEFT,TOP,RIGHT,BOTTOM in px")
    left, top, right, bottom = map(int, parts)
    return left, top, right, bottom
