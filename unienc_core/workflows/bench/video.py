"""Annotating a video, under the clock: each stage by itself, and all of them overlapped."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unienc_core.inference.annotate import Annotator
from unienc_core.inference.clip import process_clip
from unienc_core.inference.metric import RunningScale
from unienc_core.inference.outputs import Outputs
from unienc_core.inference.predictor import Predictor
from unienc_core.inference.results import ClipFacts, FrameResult
from unienc_core.inference.scene import SceneWatch
from unienc_core.inference.sinks import sink_class
from unienc_core.inference.video import VideoReader
from unienc_core.inference.video_writer import VideoWriter
from unienc_core.workflows.bench.setting import Setting

SIZE, QUICK_SIZE = (720, 1280), (180, 320)
"""Height and width of the clip: what cameras in cars give, not what networks take."""

_RATE = Fraction(25)
_OVERLAPPED = "overlapped"


def bench_video(setting: Setting) -> dict[str, Any]:
    """Measure the stages of `infer-video` on a clip of the store's images, to mp4.

    Returns:
        ``{size, frames, decode, compute, draw, encode, overlapped, frames_per_second,
        overlap}``: milliseconds a frame of each stage alone, then of all at once; `overlap` is
        their sum against all at once, 1 being one after the other.
    """
    clip = Clip(setting)
    stages = {
        "decode": clip.decode,
        "compute": clip.compute,
        "draw": clip.draw,
        "encode": clip.encode,
    }
    taken = setting.take_turns({**stages, _OVERLAPPED: clip.process}, "video")
    each = 1e3 / len(clip.frames)
    rows = {name: samples.record(each) for name, samples in taken.items()}
    together = taken[_OVERLAPPED].median
    return {
        "size": list(clip.size),
        "frames": len(clip.frames),
        **rows,
        "frames_per_second": round(len(clip.frames) / together, 2),
        "overlap": round(sum(taken[name].median for name in stages) / together, 3),
    }


class Clip:
    """A clip with what each stage hands to the next, so that any stage can run alone.

    Args:
        setting: Gives network, device, images and folder.

    Attributes:
        size: Height and width.
        frames: As decoded.
    """

    def __init__(self, setting: Setting) -> None:
        self._path, self._out = setting.folder / "clip.mp4", setting.folder / "out.mp4"
        self.size = QUICK_SIZE if setting.quick else SIZE
        _film(self._path, _pictures(setting, self.size, 6 if setting.quick else 30))
        self._predictor = Predictor(setting.network(), setting.preset, setting.device)
        height, width = self.size
        self._K = np.array([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1]])
        with VideoReader(self._path) as source:
            self._facts = ClipFacts(source.info, self._K, "up to scale", "unienc bench")
            self.frames = list(source.frames())
        watch = SceneWatch(float(1 / _RATE))
        outputs = [self._predictor.step(frame.image) for frame in self.frames]
        self._results = [
            FrameResult(frame, output, 1.0, watch.look(frame))
            for frame, output in zip(self.frames, outputs, strict=True)
        ]
        self._drawn = list(Annotator(self._facts).draw(self._results))

    def decode(self) -> None:
        """Read the clip."""
        with VideoReader(self._path) as source:
            for _ in source.frames():
                pass

    def compute(self) -> None:
        """Predict every frame."""
        self._predictor.reset()
        for frame in self.frames:
            self._predictor.step(frame.image)

    def draw(self) -> None:
        """Draw every frame."""
        for _ in Annotator(self._facts).draw(self._results):
            pass

    def encode(self) -> None:
        """Write every drawn frame."""
        _film(self._out, [drawn.picture for drawn in self._drawn if drawn.picture is not None])

    def process(self) -> None:
        """Do all of it as `infer-video` does: stages in threads of their own."""
        sink = sink_class("mp4", False)(self._out, self._facts)
        with VideoReader(self._path) as source, Outputs([sink]) as outputs:
            process_clip(
                source,
                self._predictor,
                outputs,
                metric=RunningScale(None, self._K, self.size),
                annotator=Annotator(self._facts),
            )


def _pictures(setting: Setting, size: tuple[int, int], count: int) -> list[np.ndarray]:
    """Return the first images of the store's first drive, there and back, enlarged."""
    store = setting.opened_store
    there = [store.frame(0, i, ("image",))["image"] for i in range(store.drives[0].num_frames)]
    row = [*there, *there[-2:0:-1]]
    height, width = size
    large = [cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) for image in row]
    return [large[i % len(large)] for i in range(count)]


def _film(path: Path, pictures: list[np.ndarray]) -> None:
    writer = VideoWriter(path, _RATE, 1 / _RATE)
    for pts, picture in enumerate(pictures):
        writer.write(picture, pts)
    writer.close()
