"""Where a stream has nothing to do with what came before: scene cuts and black frames."""

from __future__ import annotations

from typing import NamedTuple

import cv2

from unienc_core.data.scene_cuts import CutDetector, shrink
from unienc_core.inference.frames import Frame

BLACK_LEVEL = 16
"""Grey value (of 255) that nothing in a black frame exceeds, once noise is averaged out."""

MAX_CUT_STEP = 0.25
"""Seconds between frames beyond which neighbours differ too much to tell a cut from driving."""

_WIDTH = 32


class Scene(NamedTuple):
    """What is new in a frame.

    Attributes:
        is_cut: Whether a new scene begins with it.
        is_black: Whether it shows nothing.
        is_start: Whether it has no frame before it that it could be compared with: the first one,
            and one after a cut, a gap or a black frame.
    """

    is_cut: bool
    is_black: bool
    is_start: bool


class SceneWatch:
    """Looks at the frames of a stream in order.

    Args:
        step: Usual time between two frames, s; beyond `MAX_CUT_STEP` no cuts are looked for.
    """

    def __init__(self, step: float) -> None:
        self._cuts = CutDetector() if step <= MAX_CUT_STEP else None
        self._connected = False

    def look(self, frame: Frame) -> Scene:
        """Take the next frame."""
        grey = shrink(cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY), _WIDTH)
        is_black = bool(grey.max() <= BLACK_LEVEL)
        connected = self._connected and frame.num_lost == 0 and not is_black
        self._connected = not is_black
        is_cut = False
        # A cut is sought between the scenes before and after the black, not towards the black.
        if self._cuts is not None and not is_black:
            if not connected:
                self._cuts.interrupt()
            is_cut = self._cuts.is_cut(frame.image)
        return Scene(is_cut, is_black, is_cut or not connected)
