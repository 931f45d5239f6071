"""Clips of one's own as a source of drives: rate, picture, camera, split, and the frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from unienc_core.data.clip_scan import Window
from unienc_core.data.shard_build import Frame
from unienc_core.data.transforms import Size, resize_value
from unienc_core.errors import UsageError
from unienc_core.geometry.camera import crop_K, resize_K

VIDEO_KEYS = ("image", "K", "timestamp")

TRIPLET_SECONDS = 2 / 17
"""Time from a target to a source in the papers' training: 2 frames of Cityscapes, at 17 Hz."""

MIN_SIDE = 32
"""Least height and width, px, of what is kept of a picture."""

MAX_WIDTH = 640
"""Pictures are stored no wider than this unless a size is asked for: presets need no more."""

MAX_DRIVE_BYTES = 256 << 20
MAX_DRIVE_FRAMES = 1000
_BYTES_A_PIXEL = 1.0


def usual_gap(fps: float) -> int:
    """Return how many frames lie between a target and a source at this rate, at least 1."""
    return max(1, round(fps * TRIPLET_SECONDS))


def stride_to(fps: float, target_fps: float) -> int:
    """Return n so that every n-th frame of a clip comes nearest to a rate: 60 to 25 Hz is 2."""
    return max(1, round(fps / target_fps))


@dataclass(frozen=True)
class ClipView:
    """How the picture of a clip becomes that of the store.

    Attributes:
        window: The part of the clip's picture that is kept.
        image_size: (h, w) as stored.
        K: `3 3`, px, as stored.
    """

    window: Window
    image_size: Size
    K: np.ndarray

    def frame(self, image: np.ndarray, time: float) -> Frame:
        """Turn a picture of the clip, `H W 3` uint8 RGB, into a frame of the store."""
        part = np.ascontiguousarray(self.window.cut(image))
        resized = resize_value(part, "image", self.window.size, self.image_size)
        return {"image": resized, "K": self.K, "timestamp": np.asarray(time, np.float64)}


def make_view(
    K: np.ndarray,
    whole: Size,
    picture: Window,
    crop: Sequence[int],
    image_size: Size | None,
) -> ClipView:
    """Decide what is kept of a clip's picture, and the intrinsics of that.

    Args:
        K: `3 3`, px, of the whole picture.
        whole: (h, w) of the whole picture.
        picture: The part without black bars.
        crop: Left, top, right, bottom: px to cut off the whole picture at least.
        image_size: (h, w) to store; None for the aspect of what is kept, at most `MAX_WIDTH` wide.

    Raises:
        UsageError: If nothing is left of the picture.
    """
    left, top, right, bottom = crop
    window = Window(
        max(picture.left, left),
        max(picture.top, top),
        min(picture.right, whole[1] - right),
        min(picture.bottom, whole[0] - bottom),
    )
    height, width = window.size
    if min(height, width) < MIN_SIDE:
        left_over = f"{max(0, height)}x{max(0, width)} px"
        raise UsageError(f"--crop leaves {left_over} of the picture, expected {MIN_SIDE} each way")
    if image_size is None:
        scale = min(1.0, MAX_WIDTH / width)
        image_size = (max(1, round(height * scale)), max(1, round(width * scale)))
    cropped = crop_K(torch.from_numpy(K), window.left, window.top)
    return ClipView(window, image_size, resize_K(cropped, window.size, image_size).numpy())


def split_runs(
    runs: Sequence[range], shares: Mapping[str, float], gap: int, max_frames: int
) -> dict[str, list[range]]:
    """Share the rows of frames of a clip out among splits, in the order of time.

    Args:
        runs: Rows of consecutive frames, in order.
        shares: Split to its share of all frames; the first split gets the beginning.
        gap: Frames between a target and each of its sources.
        max_frames: Longer rows are cut into equal parts.

    Returns:
        Split to its rows: no frame twice, and each row holds a triplet at least.
    """
    total = sum(len(run) for run in runs)
    # Sums of shares are rounded to frames once, so that no frame falls between two splits.
    ends = [round(total * part) for part in np.cumsum([0.0, *shares.values()])]
    out: dict[str, list[range]] = {split: [] for split in shares}
    passed = 0
    for run in runs:
        for split, (first, last) in zip(shares, pairwise(ends), strict=True):
            part = run[max(0, first - passed) : max(0, last - passed)]
            out[split] += [piece for piece in _pieces(part, max_frames) if len(piece) > 2 * gap]
        passed += len(run)
    return out


def _pieces(run: range, max_frames: int) -> Iterator[range]:
    count = -(-len(run) // max_frames)
    for n in range(count):
        yield run[n * len(run) // count : (n + 1) * len(run) // count]


def frames_per_drive(image_size: Size) -> int:
    """Return how many frames a drive may have: a shard is built in memory."""
    height, width = image_size
    return max(8, min(MAX_DRIVE_FRAMES, int(MAX_DRIVE_BYTES / (_BYTES_A_PIXEL * height * width))))


@dataclass(frozen=True)
class KeptFrame:
    """A frame of a thinned clip.

    Attributes:
        number: Among the frames that are kept, from 0.
        image: `H W 3`, uint8, RGB.
        time: Seconds after the first frame.
        after_gap: Whether frames are missing or damaged between the kept frame before and this.
    """

    number: int
    image: np.ndarray
    time: float
    after_gap: bool


def drive_frames(clip: Iterator[KeptFrame], run: range, view: ClipView) -> Iterator[Frame]:
    """Yield the frames of one drive, taking from a clip as far as needed and no further.

    Args:
        clip: Shared by the drives of the clip, which must be taken in the order of time.
        run: Frame numbers of the drive.
        view: How pictures become frames.
    """
    for kept in clip:
        if kept.number >= run.start:
            yield view.frame(kept.image, kept.time)
        if kept.number == run.stop - 1:
            return
