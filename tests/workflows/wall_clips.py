"""Small clips of a camera that slides along painted walls, written on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

SIZE = (96, 160)


def slide(seed: int, count: int, step: float = 2.0) -> list[np.ndarray]:
    """`count` pictures `H W 3` uint8, each `step` px further along the wall of this seed."""
    height, width = SIZE
    length = int(width + count * step) + 8
    rng = np.random.default_rng(seed)
    paint = cv2.GaussianBlur(rng.uniform(0, 255, (height, length, 3)), (0, 0), 3)
    paint += 60 * cv2.GaussianBlur(rng.normal(size=(height, length, 3)), (0, 0), 12)
    wall = np.clip((paint - paint.mean()) * 5 + 128, 30, 255).astype(np.uint8)
    return [
        cv2.warpAffine(wall, np.array([[1.0, 0, -i * step], [0, 1, 0]]), (width, height))
        for i in range(count)
    ]


def write_clip(
    path: Path,
    pictures: Sequence[np.ndarray],
    rate: int = 25,
    milliseconds: Sequence[int] | None = None,
) -> Path:
    """Write an mp4 and return its path; `milliseconds` are times of the frames, if uneven."""
    base = Fraction(1, 1000) if milliseconds else Fraction(1, rate)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "12", "g": "10"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = base
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = milliseconds[i] if milliseconds else i, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
