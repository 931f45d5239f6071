"""A network that costs nothing, and the small things that a clip consists of."""

from collections.abc import Collection, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from unienc_core.inference.frame_output import FrameOutput
from unienc_core.inference.frames import Frame, FrameSource, Losses, SourceInfo
from unienc_core.inference.results import ClipFacts, FrameResult
from unienc_core.inference.scene import Scene
from unienc_core.inference.span import WHOLE, Picker, Span
from unienc_core.inference.steering import GridWindow
from unienc_core.inference.video_writer import VideoWriter, make_whole
from unienc_core.presets import DepthSpec

SAME = Scene(is_cut=False, is_black=False, is_start=False)


class StubPredictor:
    """Depth from the frame's brightness, one unit ahead per frame where there is one before."""

    preset = SimpleNamespace(name="stub")
    device = "cpu"

    def looks_ahead(self, outputs: Collection[str] = ()) -> bool:
        return False

    def window(self) -> GridWindow:
        return GridWindow(1)

    def encode(self, image: np.ndarray) -> np.ndarray:
        return image

    def decode(
        self,
        current: np.ndarray,
        previous: np.ndarray | None = None,
        outputs: Collection[str] = (),
        following: np.ndarray | None = None,
        K: np.ndarray | None = None,
        window: GridWindow | None = None,
    ) -> FrameOutput:
        value = 0.05 + current.mean() / 1000
        disparity = np.full((12, 16), value, np.float32)
        disparity[:6] /= 2
        motion = None if previous is None else motion_ahead(1.0)
        return FrameOutput(disparity, DepthSpec(), current.shape[:2], motion)


class ListSource(FrameSource):
    """Frames from an iterator, at 25 a second."""

    def __init__(self, images: Iterator[np.ndarray], size: tuple[int, int] = (24, 640)) -> None:
        self._images = images
        self.losses = Losses()
        self.info = SourceInfo(Path("x"), "x", *size, Fraction(25), Fraction(1, 25), None)

    def frames(self, span: Span = WHOLE) -> Iterator[Frame]:
        picker = Picker(span)
        for i, image in enumerate(self._images):
            if picker.takes(i, Fraction(i, 25)):
                yield Frame(image, i, i, i / 25)
            if picker.ended:
                return


def motion_ahead(step: float) -> np.ndarray:
    motion = np.eye(4)
    motion[2, 3] = step
    return motion


def facts(size: tuple[int, int] = (24, 640), unit: str = "up to scale") -> ClipFacts:
    info = SourceInfo(Path("x"), "x", *size, Fraction(25), Fraction(1, 25), None)
    return ClipFacts(info, np.eye(3), unit, "unienc  stub")


def make_result(
    index: int = 0,
    disparity: np.ndarray | None = None,
    *,
    size: tuple[int, int] = (24, 32),
    scale: float | None = 1.0,
    motion: np.ndarray | None = None,
    scene: Scene = SAME,
    **frame: object,
) -> FrameResult:
    image = np.full((*size, 3), 40 + index % 100, np.uint8)
    if disparity is None:
        disparity = np.linspace(0.05, 0.5, 12 * 16, dtype=np.float32).reshape(12, 16)
    output = FrameOutput(disparity, DepthSpec(), size, motion)
    return FrameResult(Frame(image, index, index, index / 25, **frame), output, scale, scene)


def write_video(path: Path, frames: Iterator[tuple[np.ndarray, int]], rate, time_base) -> Path:
    """Write a plain mp4 of images with their pts, as the sink does."""
    part = path.with_suffix(".part.mp4")
    writer = VideoWriter(part, rate, time_base)
    for image, pts in frames:
        writer.write(image, pts)
    writer.close()
    make_whole(part, path, writer.num_frames)
    part.unlink()
    return path
