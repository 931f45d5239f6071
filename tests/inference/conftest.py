"""Small videos made on the spot."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from untrained import save_untrained

MakeVideo = Callable[..., Path]
FILM = Fraction(24000, 1001)


def picture(index: int, size: tuple[int, int]) -> np.ndarray:
    """A frame of one scene, whose mean brightness is 54 + 2 `index`; noise gives it many bytes."""
    noise = np.random.default_rng(index).integers(0, 30, (*size, 3))
    y, x = np.indices(size)
    scene = 12 * np.sin(y * np.pi / 8) * np.sin(x * np.pi / 8)
    return (noise + scene[..., None] + 40 + 2 * (index % 80)).astype(np.uint8)


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """Factory of videos: `num` frames of `size` at `rate`; `pts` where they are uneven.

    `pictures` stand in for `picture`; `bf` is the number of B-frames in a row.
    """

    def make(
        name: str = "clip.mp4",
        num: int = 12,
        size: tuple[int, int] = (48, 64),
        rate: Fraction = FILM,
        flags: str = "faststart",
        pts: list[int] | None = None,
        time_base: Fraction | None = None,
        codec: str = "libx264",
        pix_fmt: str | None = None,
        bf: int = 0,
        pictures: list[np.ndarray] | None = None,
        with_audio: bool = False,
    ) -> Path:
        path = tmp_path / name
        options = {"crf": "20", "g": "6", "bf": str(bf)} if codec == "libx264" else {}
        even = size[0] % 2 == size[1] % 2 == 0
        with av.open(str(path), "w", options={"movflags": flags} if flags else {}) as container:
            stream = container.add_stream(codec, rate=rate, options=options)
            stream.height, stream.width = size
            stream.pix_fmt = pix_fmt or ("yuv420p" if even else "yuv444p")
            stream.codec_context.time_base = time_base or 1 / rate
            sound = container.add_stream("aac", rate=8000) if with_audio else None
            container.start_encoding()
            for i in range(num):
                image = picture(i, size) if pictures is None else pictures[i]
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = pts[i] if pts else i, time_base or 1 / rate
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
            if sound is not None:
                silence = np.zeros((1, 1024), np.float32)
                tone = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
                tone.sample_rate, tone.pts = 8000, 0
                container.mux(sound.encode(tone))
                container.mux(sound.encode(None))
        return path

    return make


@pytest.fixture(scope="session")
def untrained_run(tmp_path_factory) -> Path:
    """Run folder of a network that has learnt nothing."""
    folder = tmp_path_factory.mktemp("run")
    save_untrained(folder / "checkpoints")
    return folder
