"""Depth evaluation protocols as data: which pixels count, and how a prediction is scaled.

A protocol says the range of ground truth that is scored and which part of the image. Every
protocol then does the same: resize the prediction to the ground truth as disparity, scale it (see
`metrics.scale`; by default the ratio of medians over the scored pixels), clamp it to the range,
take each metric over the scored pixels of an image, and average over images.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from unienc_core.errors import UsageError, nearest

Choice = TypeVar("Choice", bound=str)


@dataclass(frozen=True)
class DepthProtocol:
    """Which pixels of a depth map are scored.

    Attributes:
        name: What it is called on the command line and beside every number.
        min_depth: Ground truth must be deeper than this, in m; predictions are clamped to it.
        max_depth: Ground truth must be nearer than this, in m; predictions are clamped to it.
        crop: Top, bottom, left and right of the scored window as fractions of height and width,
            or None for the whole image.
        crop_name: What the window is called.
        picture: Width over height of the data set's pictures, and the share of the height that is
            cut off below before anything else, or None where nothing is.
    """

    name: str
    min_depth: float
    max_depth: float
    crop: tuple[float, float, float, float] | None = None
    crop_name: str = "no crop"
    picture: tuple[float, float] | None = None

    def is_whole(self, height: int, width: int) -> bool:
        """Say whether a map shows whole pictures, of which the lower part is yet to be cut off."""
        return self.picture is not None and width == round(self.picture[0] * height)

    def trim(self, values: np.ndarray) -> np.ndarray:
        """Cut the lower part off a map `H W` of a whole picture; leave any other as it is."""
        if self.picture is None or not self.is_whole(*values.shape):
            return values
        return values[: round((1.0 - self.picture[1]) * values.shape[0])]

    def window(self, height: int, width: int) -> tuple[slice, slice]:
        """Return the rows and columns of the scored window, fractions truncated to pixels."""
        if self.crop is None:
            return slice(0, height), slice(0, width)
        top, bottom, left, right = self.crop
        return (
            slice(int(top * height), int(bottom * height)),
            slice(int(left * width), int(right * width)),
        )

    def valid(self, depth_gt: np.ndarray) -> np.ndarray:
        """Return which pixels are scored.

        Args:
            depth_gt: `H W`, m; zero, negative, NaN and infinite mean that nothing is known.

        Returns:
            `H W`, bool.
        """
        mask = np.zeros(depth_gt.shape, bool)
        window = self.window(*depth_gt.shape)
        inside = depth_gt[window]
        mask[window] = (inside > self.min_depth) & (inside < self.max_depth)
        return mask

    def describe(self) -> str:
        """Return the protocol in words, for people."""
        depths = f"depth {self.min_depth:g} to {self.max_depth:g} m"
        return f"{self.name}: {depths}, {self.crop_name}"


PROTOCOLS: dict[str, DepthProtocol] = {
    protocol.name: protocol
    for protocol in (
        # Sky has depth 0 in the store and so is never scored.
        DepthProtocol("synth", 0.5, 80.0),
        # The crop of Garg et al.; 375 x 1242 gives rows 153:371, columns 44:1197.
        DepthProtocol(
            "kitti-eigen",
            1e-3,
            80.0,
            (0.40810811, 0.99189189, 0.03594771, 0.96405229),
            "Garg crop",
        ),
        # Of 1024 x 2048 the lower quarter (the bonnet) is cut off; of the 768 rows that are left
        # 256 to 767 count, and columns 192 to 1855.
        DepthProtocol(
            "cityscapes",
            1e-3,
            80.0,
            (256 / 768, 1.0, 192 / 2048, 1856 / 2048),
            "lower quarter cut off, then rows from 1/3, columns 3/32 to 29/32",
            picture=(2.0, 0.25),
        ),
    )
}


def choose(name: str, choices: Iterable[Choice], what: str) -> Choice:
    """Return the one of `choices` that is called `name`.

    Raises:
        UsageError: If there is none, naming the nearest one.
    """
    known = list(choices)
    for choice in known:
        if name == choice:
            return choice
    names = [str(choice) for choice in known]
    raise UsageError(f"no {what} '{name}'{nearest(name, names)}; known: {', '.join(names)}")
