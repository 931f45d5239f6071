"""A webcam as a source of frames."""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from unienc_core.errors import VideoError
from unienc_core.inference.frames import Frame, FrameSource, Losses, SourceInfo
from unienc_core.inference.span import WHOLE, Picker, Span

_TICKS = 1000
_USUAL_RATE = Fraction(30)


class WebcamSource(FrameSource):
    """What a camera of this machine sees, until it is stopped.

    Frames carry the time at which they came, in ms. Where the network is slower than the camera,
    the camera's driver leaves frames out.

    Args:
        index: Number of the camera, from 0.

    Raises:
        VideoError: If there is no such camera, or it gives no frame.
    """

    def __init__(self, index: int) -> None:
        self._name = f"camera{index}"
        self.losses = Losses()
        self._stopped = False
        self._capture = _open(index)
        self._began = time.monotonic()
        self._first = self._read()
        if self._first is None:
            self._capture.release()
            raise VideoError(
                f"webcam {index}: cannot be opened; is it connected, allowed, and not in use by "
                f"another program? (a file of that name is given as ./{index})"
            )
        height, width = self._first.shape[:2]
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        rate = Fraction(fps).limit_denominator(1001) if 1 <= fps <= 1000 else _USUAL_RATE
        self.info = SourceInfo(
            Path(self._name), self._name, height, width, rate, Fraction(1, _TICKS), None
        )

    def frames(self, span: Span = WHOLE) -> Iterator[Frame]:
        """Deliver frames as they come."""
        picker, index, pts = Picker(span), 0, 0
        image, self._first = self._first, None
        while image is not None and not self._stopped:
            if picker.takes(index, Fraction(pts, _TICKS)):
                yield Frame(image, index, pts, pts / _TICKS)
            if picker.ended:
                return
            image = self._read()
            index, pts = index + 1, max(pts + 1, round(_TICKS * (time.monotonic() - self._began)))
        self.losses.is_cut |= not self._stopped  # it was unplugged, say

    def stop(self) -> None:
        """End after the frame that is on its way."""
        self._stopped = True

    def close(self) -> None:
        """Switch the camera off."""
        self._capture.release()

    def _read(self) -> np.ndarray | None:
        came, image = self._capture.read()
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if came else None


def _open(index: int) -> cv2.VideoCapture:
    """Open a camera without OpenCV's own remarks about those that are not there."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(index)
    finally:
        cv2.utils.logging.setLogLevel(level)
