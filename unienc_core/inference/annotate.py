"""Frames and what the network says of them, turned into an annotated picture."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import TypeVar

import cv2
import numpy as np
import torch

from unienc_core.class_tables import ClassTable
from unienc_core.geometry.camera import resize_K
from unienc_core.inference.frames import Frame
from unienc_core.inference.metric import METRES
from unienc_core.inference.motion_overlays import choose_full_speed, draw_mask, draw_own_flow
from unienc_core.inference.overlays import (
    DepthRange,
    choose_range,
    compose,
    depth_to_colour,
    draw_header,
    draw_legend,
    draw_note,
    draw_path,
    fill,
)
from unienc_core.inference.path import CameraPath
from unienc_core.inference.results import ClipFacts, FrameResult
from unienc_core.inference.seen import Seen
from unienc_core.inference.seg_overlays import (
    draw_class_legend,
    draw_instances,
    draw_panoptic,
    draw_semantic,
)
from unienc_core.inference.steering_overlays import draw_gauge, draw_road_path
from unienc_core.sentences import TASKS

T = TypeVar("T")

NUM_RANGE_FRAMES = 16
MIN_WIDTH = 640  # of the whole: text stays readable
MAX_SIDE = 1920  # of one picture: players can play it
MAX_GRID_SIDE = 1280  # of one of many
_GRID_FROM = 3  # panels
NO_SCALE = "no ground seen yet: depth in m is not known"
NO_NEIGHBOUR = "no neighbouring frame to compare with"
LEAST_SPEED = 5.0  # m/s: the strongest colour stands for no less
LEAST_DEPTHS = 0.25  # the same without metres, in depths of the middle a second


class Annotator:
    """Draws the frames of one clip: the image with the camera's path, and what else is predicted.

    A stream is seen once, so the scale of depth cannot know the whole clip: it is chosen from the
    first 16 frames, which wait for it, and then stays, so that a colour means one depth throughout.
    So does that of speed. The path begins anew where a new scene does.

    Args:
        facts: The clip.

    Attributes:
        depth_range: The scale; None until the first frame with a known depth is drawn.
        full_speed: Speed of the strongest colour, in `speed_unit`; None until one is known.
        speed_unit: Of the own flow as it is drawn: a second where times are known, else a frame.
        path: The camera's path since the last scene cut.
    """

    def __init__(self, facts: ClipFacts) -> None:
        self._title, self._table = facts.title, facts.classes
        self._has_depth, self._has_path = ("depth" in facts.outputs, "motion" in facts.outputs)
        self._has_flow, self._has_mask = ("flow" in facts.outputs, "mask" in facts.outputs)
        self._has_classes = bool(set(TASKS) & set(facts.outputs))
        num_panels = 1 + len(set(facts.outputs) - {"motion", "steering"})
        self._size = picture_size(facts.info.height, facts.info.width, num_panels)
        self._columns = num_columns(self._size, num_panels)
        self._steering, self._road_path = facts.steering, facts.road_path
        self._K = _at_size(facts, self._size)
        is_metric = facts.unit == METRES
        self._path_unit = facts.unit if is_metric else f"({facts.unit})"
        self._label = f"depth, {facts.unit}"
        self._is_timed, self._is_metric = facts.info.is_timed, is_metric
        times = "/s" if self._is_timed else "/frame"
        self.speed_unit = f"m{times}" if is_metric else f"{times}, {facts.unit}"
        self._legends: dict[str, np.ndarray] = {}
        self.depth_range: DepthRange | None = None
        self.full_speed: float | None = None
        self.path = CameraPath()

    def draw(self, results: Iterable[FrameResult]) -> Generator[FrameResult]:
        """Draw every frame, in order.

        Args:
            results: Frames with their predictions.

        Yields:
            The same with `picture`.
        """
        fitted = ((result, self._fit(result.frame.image)) for result in results)
        first = list(islice(fitted, NUM_RANGE_FRAMES if self._has_depth or self._has_flow else 0))
        self._choose_scales([result for result, _ in first])
        for result, picture in chain(_emptying(first), fitted):
            self._choose_scales([result])
            yield replace(result, picture=self._draw(result, picture))

    def _choose_scales(self, results: Sequence[FrameResult]) -> None:
        if self.depth_range is None:
            depths = [result.depth_at(self._size) for result in results]
            known = [depth for depth in depths if depth is not None]
            self.depth_range = choose_range(known) if known else None
        if self.full_speed is None:
            velocities = [self._velocity(result) for result in results]
            speeds = [np.hypot(*velocity) for velocity in velocities if velocity is not None]
            if speeds:
                self.full_speed = choose_full_speed(speeds, self._least_speed())

    def _least_speed(self) -> float:
        a_second = LEAST_SPEED if self._is_metric else 0.0
        if not self._is_metric and self.depth_range is not None:
            a_second = LEAST_DEPTHS * math.sqrt(self.depth_range.near * self.depth_range.far)
        return a_second if self._is_timed else a_second / 25

    def _velocity(self, result: FrameResult) -> np.ndarray | None:
        """Return the own flow over the ground, to the right and ahead; `2 H W`."""
        flow = result.own_flow_at(self._size)
        if flow is None or result.moving is None:
            return None
        return flow[[0, 2]] / (result.moving.seconds if self._is_timed else 1.0)

    def _fit(self, image: np.ndarray) -> np.ndarray:
        height, width = self._size
        if image.shape[:2] == self._size:
            return image.copy()
        how = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_CUBIC
        return cv2.resize(image, (width, height), interpolation=how)

    def _draw(self, result: FrameResult, picture: np.ndarray) -> np.ndarray:
        width = self._size[1] * self._columns
        header = draw_header(width, self._title, _when(result.frame))
        # In the order of Fig. 3 (Nguyen et al.).
        panels, legends = [picture], []
        if result.seen is not None:
            panels += draw_seen(picture, result.seen, self._table)
        if self._has_depth:
            panels.append(self._draw_depth(result))
            legends.append(self._depth_legend(width))
        if self._has_mask:
            panels.append(self._draw_mask(result, picture))
        if self._has_flow:
            panels.append(self._draw_flow(result, picture))
        if self._has_classes:
            legend = self._class_legend(self._size[1])
            cell = fill(legend, self._size) if len(panels) % self._columns else None
            if cell is not None:
                panels.append(cell)
            else:
                legends.append(self._class_legend(width))
        # Last: the other panels show the picture without it.
        self._draw_steering(result, picture)
        if self._has_path:
            self._draw_path(result, picture)
        return compose(header, panels, legends)

    def _draw_steering(self, result: FrameResult, picture: np.ndarray) -> None:
        steering, path = result.output.steering, self._road_path
        if steering is None or self._steering is None:
            return
        if path is not None and steering.value is not None:
            ribbon = path.ribbon(steering.value, self._K, self._size)
            if ribbon is not None:
                draw_road_path(picture, ribbon, path.look_ahead)
        draw_gauge(picture, steering, self._steering, beside_path=self._has_path)

    def _draw_path(self, result: FrameResult, picture: np.ndarray) -> None:
        if result.scene.is_cut:
            self.path = CameraPath()
        if result.T_previous_current is not None:
            self.path.add(result.T_previous_current)
        draw_path(picture, self.path.points, self.path.T_world_camera, self._path_unit)

    def _draw_flow(self, result: FrameResult, picture: np.ndarray) -> np.ndarray:
        velocity = self._velocity(result)
        if velocity is not None and self.full_speed is not None:
            return draw_own_flow(picture, velocity, self.full_speed, self.speed_unit)
        return self._without(picture, NO_NEIGHBOUR if result.moving is None else NO_SCALE)

    def _draw_mask(self, result: FrameResult, picture: np.ndarray) -> np.ndarray:
        mask = result.motion_mask_at(self._size)
        return self._without(picture, NO_NEIGHBOUR) if mask is None else draw_mask(picture, mask)

    def _without(self, picture: np.ndarray, why: str) -> np.ndarray:
        dark = picture // 4
        draw_note(dark, why)
        return dark

    def _draw_depth(self, result: FrameResult) -> np.ndarray:
        depth = result.depth_at(self._size)
        if depth is not None and self.depth_range is not None:
            return depth_to_colour(depth, self.depth_range)
        unknown = np.zeros((*self._size, 3), np.uint8)
        draw_note(unknown, NO_SCALE)
        return unknown

    def _depth_legend(self, width: int) -> np.ndarray:
        if self.depth_range is None:
            return np.zeros_like(draw_legend(width, DepthRange(1, 2), ""))
        if "depth" not in self._legends:
            self._legends["depth"] = draw_legend(width, self.depth_range, self._label)
        return self._legends["depth"]

    def _class_legend(self, width: int) -> np.ndarray:
        """Return the legend of all classes, so that it stays the same along the clip."""
        name = f"classes {width}"
        if name not in self._legends:
            present = [entry.id for entry in self._table.evaluated]
            self._legends[name] = draw_class_legend(self._table, present, width)
        return self._legends[name]


def draw_seen(picture: np.ndarray, seen: Seen, table: ClassTable) -> list[np.ndarray]:
    """Draw the segmentations of a frame: panoptic, instances, classes, those that there are.

    Args:
        picture: The frame, `H W 3`, of any size; each drawing is a new picture over it.
        seen: What was seen.
        table: The classes.
    """
    size, drawn = (picture.shape[0], picture.shape[1]), []
    maps = seen.maps(size)
    if seen.segments is not None:
        drawn.append(draw_panoptic(picture, maps["panoptic"], seen.segments, table))
    if seen.objects is not None:
        drawn.append(draw_instances(picture, seen.instances(size), table))
    if seen.label_ids is not None:
        drawn.append(draw_semantic(picture, maps["semantic"], table))
    return drawn


def picture_size(height: int, width: int, num_panels: int = 2) -> tuple[int, int]:
    """Return the size (height, width) at which an image of this size is shown.

    Small ones are enlarged by a whole number, so that text fits; very large ones are reduced, the
    more so where many panels make a frame.
    """
    whole = width if width >= height else 2 * width  # tall ones stand side by side
    times = max(1, -(-MIN_WIDTH // whole))
    most = MAX_SIDE if num_panels < _GRID_FROM else MAX_GRID_SIDE
    scale = min(times, most / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def num_columns(size: tuple[int, int], num_panels: int) -> int:
    """Return how many panels of a size stand side by side."""
    height, width = size
    if width >= height:
        return 1 if num_panels < _GRID_FROM else 2
    return min(num_panels, 3)


def _emptying(items: list[T]) -> Iterator[T]:
    """Yield the items of a list and let go of each."""
    items.reverse()
    while items:
        yield items.pop()


def _at_size(facts: ClipFacts, size: tuple[int, int]) -> np.ndarray:
    """Return the intrinsics of a clip's pictures at another size."""
    K = torch.from_numpy(np.asarray(facts.K, np.float64))
    return resize_K(K, (facts.info.height, facts.info.width), size).numpy()


def _when(frame: Frame) -> str:
    minutes, seconds = divmod(frame.time, 60)
    return f"frame {frame.index}   {int(minutes):02d}:{seconds:05.2f}"
