"""Frames and what the network says of them, turned into an annotated picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice

import cv2
import numpy as np

from unienc_core.inference.frames import Frame, SourceInfo
from unienc_core.inference.overlays import (
    DepthRange,
    choose_range,
    compose,
    depth_to_colour,
    draw_header,
    draw_legend,
    draw_path,
)
from unienc_core.inference.path import CameraPath
from unienc_core.inference.predictor import FrameOutput

NUM_RANGE_FRAMES = 16
MIN_WIDTH = 640  # of the whole: text stays readable
MAX_SIDE = 1920  # of one picture: players can play it
UNIT = "(up to scale)"


class Annotator:
    """Draws the frames of one clip: image with camera path, and depth on a fixed scale.

    A stream is seen once, so the scale cannot know the whole clip: it is chosen from the first 16
    frames, which wait for it, and then stays, so that a colour means one depth throughout.

    Args:
        info: The clip.
        title: What made the predictions, for the header.

    Attributes:
        depth_range: The scale; None until the first frame is drawn.
        path: The camera's path so far.
    """

    def __init__(self, info: SourceInfo, title: str) -> None:
        self._info, self._title = info, title
        self._size = picture_size(info.height, info.width)
        self._beside = self._size[0] > self._size[1]
        self._legend: np.ndarray | None = None
        self.depth_range: DepthRange | None = None
        self.path = CameraPath()

    def draw(
        self, results: Iterable[tuple[Frame, FrameOutput]]
    ) -> Iterator[tuple[np.ndarray, int]]:
        """Draw every frame, in order.

        Args:
            results: Frames with their predictions.

        Yields:
            The annotated picture, `H W 3`, uint8, RGB, and the frame's `pts`.
        """
        fitted = ((frame, self._fit(frame.image), output) for frame, output in results)
        first = list(islice(fitted, NUM_RANGE_FRAMES))
        if not first:
            return
        self.depth_range = choose_range([output.depth_at(self._size) for *_, output in first])
        for frame, picture, output in chain(first, fitted):
            yield self._draw(frame, picture, output, self.depth_range), frame.pts

    def _fit(self, image: np.ndarray) -> np.ndarray:
        height, width = self._size
        if image.shape[:2] == self._size:
            return image.copy()
        how = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_CUBIC
        return cv2.resize(image, (width, height), interpolation=how)

    def _draw(
        self, frame: Frame, picture: np.ndarray, output: FrameOutput, depth_range: DepthRange
    ) -> np.ndarray:
        if output.T_previous_current is not None:
            self.path.add(output.T_previous_current)
        draw_path(picture, self.path.points, self.path.T_world_camera, UNIT)
        depth = depth_to_colour(output.depth_at(self._size), depth_range)
        width = self._size[1] * (2 if self._beside else 1)
        if self._legend is None:
            self._legend = draw_legend(width, depth_range, "depth, up to scale")
        header = draw_header(width, self._title, _when(frame))
        return compose(header, picture, depth, self._legend)


def picture_size(height: int, width: int) -> tuple[int, int]:
    """Return the size (height, width) at which an image of this size is shown.

    Small ones are enlarged by a whole number, so that text fits; very large ones are reduced.
    """
    whole = width if width >= height else 2 * width  # tall ones stand side by side
    times = max(1, -(-MIN_WIDTH // whole))
    scale = min(times, MAX_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _when(frame: Frame) -> str:
    minutes, seconds = divmod(frame.time, 60)
    return f"frame {frame.index}   {int(minutes):02d}:{seconds:05.2f}"
