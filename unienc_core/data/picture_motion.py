"""How far a picture has moved since another one: is the camera driving or standing?

Without parallax there is nothing to learn depth from, so frames of a standing camera are left out
of self-supervised training (Zhou et al., 2017). A plain difference of brightness would not do: on
a smooth road it is as small while driving as the noise of a dark camera while standing. So the
difference is divided by the edges that it comes from, block by block, which gives a motion.
"""

from __future__ import annotations

import cv2
import numpy as np

from unienc_core.data.scene_cuts import shrink

WIDTH = 160
"""Pictures are compared at this width, in px."""

STANDING = 0.001
"""Motion, in widths of the picture, below which the camera counts as standing."""

_BLOCK = 10
_NOISE = 1.0
_TEXTURE = 8.0
_LEAST_TEXTURED = 0.05
_SHARE = 75
"""Percentile of the blocks: most of the sky never moves, and while we stand, some traffic does."""


def small_picture(image: np.ndarray) -> np.ndarray:
    """Return what `apparent_motion` compares: grey, `WIDTH` px wide, float32.

    Args:
        image: `H W 3`, uint8, RGB.
    """
    return shrink(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), WIDTH)


def apparent_motion(before: np.ndarray, after: np.ndarray) -> float:
    """Estimate how far the faster quarter of a picture moves at least.

    Each block of 10 x 10 px with edges is given the shift that explains its difference best
    (Lucas and Kanade, 1981), its mean brightness left out. Shifts of more than a pixel or two are
    found too small, but never as small as none.

    Args:
        before: Of `small_picture`.
        after: Of `small_picture`, of the same size.

    Returns:
        In widths of the picture; 0 where hardly a block has edges.
    """
    # Exposure is a factor, taken out here, and an offset, which each block takes out.
    contrasts = float(before.std()), float(after.std())
    if min(contrasts) < 1.0:
        return 0.0
    after = after * (contrasts[0] / contrasts[1])
    gx = cv2.Sobel(before, cv2.CV_32F, 1, 0, scale=0.125)
    gy = cv2.Sobel(before, cv2.CV_32F, 0, 1, scale=0.125)
    change = after - before
    gx, gy, change = (_blocks(part) for part in (gx, gy, change))
    # Per block: [xx xy; xy yy] shift = -[xt; yt], kept small where noise is all there is.
    xx, yy = (np.square(part).mean(1) for part in (gx, gy))
    xy, xt, yt = (gx * gy).mean(1), (gx * change).mean(1), (gy * change).mean(1)
    textured = xx + yy > _TEXTURE
    if textured.mean() < _LEAST_TEXTURED:
        return 0.0
    determinant = (xx + _NOISE) * (yy + _NOISE) - xy * xy
    u = (xy * yt - (yy + _NOISE) * xt) / determinant
    v = (xy * xt - (xx + _NOISE) * yt) / determinant
    return float(np.percentile(np.hypot(u, v)[textured], _SHARE)) / WIDTH


def _blocks(part: np.ndarray) -> np.ndarray:
    """Cut `H W` into blocks, each without its mean: `n 100`."""
    rows, columns = (max(1, n // _BLOCK) for n in part.shape)
    height, width = min(_BLOCK, part.shape[0]), min(_BLOCK, part.shape[1])
    cut = part[: rows * height, : columns * width].reshape(rows, height, columns, width)
    blocks = cut.transpose(0, 2, 1, 3).reshape(rows * columns, -1)
    return blocks - blocks.mean(1, keepdims=True)
