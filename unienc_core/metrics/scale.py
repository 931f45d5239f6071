"""What turns a prediction that is right up to one factor into metres, for one image at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unienc_core.errors import UsageError, nearest
from unienc_core.geometry.camera import backproject
from unienc_core.geometry.ground import fit_ground_plane

ScaleMode = Literal["median", "none", "camera_height", "factor"]

STORE = "store"
"""``camera_height=store``: the height that the data records for each drive."""

_FORMS = "median, none, camera_height=M (m) or factor=F"
_NUMBERED: tuple[ScaleMode, ...] = ("camera_height", "factor")


@dataclass(frozen=True)
class Scale:
    """How predictions become metres.

    Attributes:
        mode: ``median``: the ratio of the medians of ground truth and prediction; ``none``: they
            are metres already; ``camera_height``: what brings the camera to its known height above
            the ground seen in the prediction; ``factor``: a known factor.
        value: The camera's height in m, or the factor; None for the other modes, and for a height
            that the data records.
    """

    mode: ScaleMode
    value: float | None = None

    @property
    def from_store(self) -> bool:
        """Whether the camera's height is the one that the data records."""
        return self.mode == "camera_height" and self.value is None

    def __str__(self) -> str:
        """Return the form that `parse_scale` reads."""
        if self.mode not in _NUMBERED:
            return self.mode
        return f"{self.mode}={STORE if self.value is None else format(self.value, 'g')}"


def parse_scale(text: str, *, with_store: bool = False) -> Scale:
    """Read ``median``, ``none``, ``camera_height=M`` or ``factor=F``.

    Args:
        text: What the user gave.
        with_store: Whether ``camera_height=store`` makes sense.

    Raises:
        UsageError: On anything else, or a number that is not positive and finite.
    """
    name, equals, number = (part.strip() for part in text.partition("="))
    for plain in ("median", "none"):
        if name == plain and not equals:
            return Scale(plain)
    for mode in _NUMBERED:
        if name == mode:
            if with_store and mode == "camera_height" and number == STORE:
                return Scale(mode)
            return Scale(mode, _positive(text, number))
    hint = "" if equals else nearest(name, ["median", "none", *_NUMBERED])
    forms = f"camera_height={STORE}, {_FORMS}" if with_store else _FORMS
    raise UsageError(f"no scale '{text}'{hint}; give {forms}")


def _positive(text: str, number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"scale '{text}': expected a number above 0 after '=', as in {_FORMS}")
    return value


def scale_factor(
    scale: Scale,
    depth: np.ndarray | Tensor,
    K: np.ndarray | Tensor | None = None,
    *,
    seed: int = 0,
) -> float | None:
    """Return what a prediction is multiplied by to be in metres, where no ground truth tells.

    Args:
        scale: How, but not ``median``; a height that the data records must have been filled in.
        depth: The prediction, `H W`; 0 or not finite means that there is none.
        K: `3 3`, px, of an image of that size; needed by ``camera_height``.
        seed: Of the search for the ground.

    Returns:
        The factor; None where no ground plane is found in the prediction.

    Raises:
        UsageError: If something that the mode needs is missing, ground truth included.
    """
    if scale.mode == "none":
        return 1.0
    if scale.mode == "factor":
        return scale.value
    if scale.mode == "median":
        raise UsageError("median scaling needs ground truth; use camera_height=M or factor=F")
    if K is None or scale.value is None:
        missing = "K" if K is None else "the camera's height"
        raise UsageError(f"scaling by camera_height needs {missing}, which is not known here")
    values = torch.as_tensor(depth).double()
    intrinsics = torch.as_tensor(K).to(values)
    plane = fit_ground_plane(backproject(values[None, None], intrinsics[None]), seed=seed)
    return scale.value / float(plane.height) if bool(plane.found) else None
