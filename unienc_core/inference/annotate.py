"""Frames and what the network says of them, turned into an annotated picture."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import TypeVar

import cv2
import numpy as np

from unienc_core.inference.frames import Frame
from unienc_core.inference.metric import METRES
from unienc_core.inference.overlays import (
    DepthRange,
    choose_range,
    compose,
    depth_to_colour,
    draw_header,
    draw_legend,
    draw_note,
    draw_path,
)
from unienc_core.inference.path import CameraPath
from unienc_core.inference.results import ClipFacts, FrameResult

T = TypeVar("T")

NUM_RANGE_FRAMES = 16
MIN_WIDTH = 640  # of the whole: text stays readable
MAX_SIDE = 1920  # of one picture: players can play it
NO_SCALE = "no ground seen yet: depth in m is not known"


class Annotator:
    """Draws the frames of one clip: image with camera path, and depth on a fixed scale.

    A stream is seen once, so the scale cannot know the whole clip: it is chosen from the first 16
    frames, which wait for it, and then stays, so that a colour means one depth throughout. The
    path begins anew where a new scene does.

    Args:
        facts: The clip.

    Attributes:
        depth_range: The scale; None until the first frame with a known depth is drawn.
        path: The camera's path since the last scene cut.
    """

    def __init__(self, facts: ClipFacts) -> None:
        self._title = facts.title
        self._size = picture_size(facts.info.height, facts.info.width)
        self._beside = self._size[0] > self._size[1]
        is_metric = facts.unit == METRES
        self._path_unit = facts.unit if is_metric else f"({facts.unit})"
        self._label = f"depth, {facts.unit}"
        self._legend: np.ndarray | None = None
        self.depth_range: DepthRange | None = None
        self.path = CameraPath()

    def draw(self, results: Iterable[FrameResult]) -> Generator[FrameResult]:
        """Draw every frame, in order.

        Args:
            results: Frames with their predictions.

        Yields:
            The same with `picture`.
        """
        fitted = ((result, self._fit(result.frame.image)) for result in results)
        first = list(islice(fitted, NUM_RANGE_FRAMES))
        self._choose_range([result for result, _ in first])
        for result, picture in chain(_emptying(first), fitted):
            if self.depth_range is None:
                self._choose_range([result])
            yield replace(result, picture=self._draw(result, picture))

    def _choose_range(self, results: Iterable[FrameResult]) -> None:
        depths = [result.depth_at(self._size) for result in results]
        known = [depth for depth in depths if depth is not None]
        if known:
            self.depth_range = choose_range(known)

    def _fit(self, image: np.ndarray) -> np.ndarray:
        height, width = self._size
        if image.shape[:2] == self._size:
            return image.copy()
        how = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_CUBIC
        return cv2.resize(image, (width, height), interpolation=how)

    def _draw(self, result: FrameResult, picture: np.ndarray) -> np.ndarray:
        if result.scene.is_cut:
            self.path = CameraPath()
        if result.T_previous_current is not None:
            self.path.add(result.T_previous_current)
        draw_path(picture, self.path.points, self.path.T_world_camera, self._path_unit)
        width = self._size[1] * (2 if self._beside else 1)
        header = draw_header(width, self._title, _when(result.frame))
        depth = result.depth_at(self._size)
        if depth is None or self.depth_range is None:
            unknown = np.zeros_like(picture)
            draw_note(unknown, NO_SCALE)
            no_legend = np.zeros_like(draw_legend(width, DepthRange(1, 2), ""))
            return compose(header, picture, unknown, no_legend)
        if self._legend is None:
            self._legend = draw_legend(width, self.depth_range, self._label)
        return compose(header, picture, depth_to_colour(depth, self.depth_range), self._legend)


def picture_size(height: int, width: int) -> tuple[int, int]:
    """Return the size (height, width) at which an image of this size is shown.

    Small ones are enlarged by a whole number, so that text fits; very large ones are reduced.
    """
    whole = width if width >= height else 2 * width  # tall ones stand side by side
    times = max(1, -(-MIN_WIDTH // whole))
    scale = min(times, MAX_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _emptying(items: list[T]) -> Iterator[T]:
    """Yield the items of a list and let go of each."""
    items.reverse()
    while items:
        yield items.pop()


def _when(frame: Frame) -> str:
    minutes, seconds = divmod(frame.time, 60)
    return f"frame {frame.index}   {int(minutes):02d}:{seconds:05.2f}"
