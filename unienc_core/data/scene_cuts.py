"""Scene cuts: where one picture of a video has nothing to do with the one before it.

Pictures are compared by correlation, which ignores brightness and contrast: once as a whole, on a
very small copy (where is it bright and dark?), and once in detail, on a larger copy without its
coarse shades (where are edges?). How much neighbours differ depends on speed and scene, so each
difference is judged by those just before it.
"""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np

_COARSE_WIDTH, _FINE_WIDTH = 32, 160
_SHADE_SIGMA = 4.0
_HISTORY, _ENOUGH = 8, 4

# A picture is cut off if it differs far more than any of its predecessors did (`_OUTLIER`) ...
_OUTLIER, _LEAST_COARSE, _LEAST_FINE = 4.0, 0.02, 0.25
# ... or if it shares nothing with its predecessor, in a scene as restless as it may be.
_RESTLESS, _FOREIGN_COARSE, _FOREIGN_FINE = 1.5, 0.25, 0.85


class CutDetector:
    """Tells of each picture of a row whether it begins a new scene; holds one small picture.

    It is made for cameras that drive: the pictures of one scene follow each other at 5 Hz or more.
    """

    def __init__(self) -> None:
        self._previous: tuple[np.ndarray, np.ndarray] | None = None
        self._recent: deque[float] = deque(maxlen=_HISTORY)
        self._just_cut = False

    def is_cut(self, image: np.ndarray) -> bool:
        """Take the next picture and say whether a new scene begins with it.

        Args:
            image: `H W 3`, uint8, RGB; the size may change only at a cut.

        Returns:
            True if it does; the first picture of all begins no new scene.
        """
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        fine = shrink(grey, _FINE_WIDTH)
        current = (shrink(grey, _COARSE_WIDTH), fine - cv2.GaussianBlur(fine, (0, 0), _SHADE_SIGMA))
        previous, self._previous = self._previous, current
        if previous is None:
            return False
        if previous[1].shape != fine.shape:
            self._recent.clear()
            return True
        return self._judge(*(_dissimilarity(a, b) for a, b in zip(previous, current, strict=True)))

    def interrupt(self) -> None:
        """Say that pictures are missing before the next one, which so may differ more."""
        self._recent.clear()

    def _judge(self, coarse: float, fine: float) -> bool:
        usual = max(self._recent, default=0.0)
        known = len(self._recent) >= _ENOUGH
        stands_out = coarse > max(_LEAST_COARSE, _OUTLIER * usual) and fine > _LEAST_FINE
        is_foreign = coarse > max(_FOREIGN_COARSE, _RESTLESS * usual) and fine > _FOREIGN_FINE
        cut = is_foreign or (known and stands_out)
        if cut and not self._just_cut:
            self._recent.clear()
        else:  # a cut right after a cut is none: the camera whips round, and that becomes usual
            self._recent.append(coarse)
        self._just_cut = cut
        return cut


def shrink(grey: np.ndarray, width: int) -> np.ndarray:
    """Bring a grey image to a width, averaging where it shrinks; float32, its aspect kept."""
    height = max(4, round(grey.shape[0] * width / grey.shape[1]))
    how = cv2.INTER_AREA if width <= grey.shape[1] else cv2.INTER_LINEAR
    return cv2.resize(grey, (width, height), interpolation=how).astype(np.float32)


def _dissimilarity(a: np.ndarray, b: np.ndarray) -> float:
    """1 - the correlation of two pictures: 0 if they are equal but for brightness and contrast."""
    a, b = a - a.mean(), b - b.mean()
    strength = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    # Two pictures without any structure are alike, one with and one without are not.
    if strength < 1e-3:
        return 0.0 if max(np.abs(a).max(), np.abs(b).max()) < 1.0 else 1.0
    return 1.0 - float((a * b).sum()) / strength
