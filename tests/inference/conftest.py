"""Small videos made on the spot."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

MakeVideo = Callable[..., Path]
FILM = Fraction(24000, 1001)


def picture(index: int, size: tuple[int, int]) -> np.ndarray:
    """A frame that tells its number by its brightness, with noise so that it has many bytes."""
    noise = np.random.default_rng(index).integers(0, 40, (*size, 3))
    return (noise + 40 + 2 * (index % 80)).astype(np.uint8)


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """Factory of mp4 files: `num` frames of `size` at `rate`; `pts` where they are uneven."""

    def make(
        name: str = "clip.mp4",
        num: int = 12,
        size: tuple[int, int] = (48, 64),
        rate: Fraction = FILM,
        flags: str = "faststart",
        pts: list[int] | None = None,
        time_base: Fraction | None = None,
    ) -> Path:
        path = tmp_path / name
        options = {"crf": "20", "g": "6", "bf": "0"}
        with av.open(str(path), "w", options={"movflags": flags} if flags else {}) as container:
            stream = container.add_stream("libx264", rate=rate, options=options)
            stream.height, stream.width = size
            stream.pix_fmt = "yuv420p" if size[0] % 2 == size[1] % 2 == 0 else "yuv444p"
            stream.codec_context.time_base = time_base or 1 / rate
            container.start_encoding()
            for i in range(num):
                frame = av.VideoFrame.from_ndarray(picture(i, size), format="rgb24")
                frame.pts, frame.time_base = pts[i] if pts else i, time_base or 1 / rate
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return make
