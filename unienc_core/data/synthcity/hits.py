"""Samples gathered for painting: what varies by sample, and what by surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CHUNK = 16384
"""Samples painted at once, few enough to stay in the cache."""

Channels = list[np.ndarray]
"""Red, green and blue of N samples."""


@dataclass
class Hits:
    """N samples of one material, sorted by the U surfaces they lie on.

    What is the same all over a surface is kept once a surface; `spread` repeats it.

    Attributes:
        a: `N`, first surface coordinate, m (along the face; to the right when round).
        b: `N`, second one, m (height above the part's lower edge; above its middle when round).
        c: `N`, third one, m (forward), when round.
        fa: `N`, extent of a pixel along `a`, m.
        fb: `N`, extent along `b`, m.
        face: `U` face codes.
        width: `U`, extent of the face along `a`, m.
        height: `U`, extent along `b`, m.
        looks: `U 15`, three colours and six options.
        seed: `U`, whole number that tells parts apart, float32.
        counts: `U`, samples of each surface; they add up to N.
    """

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    fa: np.ndarray
    fb: np.ndarray
    face: np.ndarray
    width: np.ndarray
    height: np.ndarray
    looks: np.ndarray
    seed: np.ndarray
    counts: np.ndarray

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Repeat one value per surface for each of its samples."""
        return np.repeat(values, self.counts)

    def color(self, k: int, channel: int) -> np.ndarray:
        """Return one channel of colour `k` by sample."""
        return self.spread(self.looks[:, 3 * k + channel])

    def option(self, k: int) -> np.ndarray:
        """Return option `k` by surface."""
        return self.looks[:, 9 + k]

    def on(self, *faces: int) -> np.ndarray:
        """Return 1 or 0 by surface: whether it is one of these faces."""
        return np.isin(self.face, faces).astype(np.float32)


def mix(base: np.ndarray, share: np.ndarray, color: np.ndarray | np.float32) -> None:
    """Move `base` towards `color` by `share`, in place."""
    change = color - base
    change *= share
    base += change


def step(x: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Return the share of [x - width/2, x + width/2] above 0; overwrites `x`."""
    x /= width
    x += np.float32(0.5)
    return np.clip(x, 0.0, 1.0, out=x)
