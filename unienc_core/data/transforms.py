"""Resize, flip and colour jitter of whole items: images, intrinsics, labels and poses together.

Everything a key must go through follows from the role it declares, so a new label needs no new
code. Images are `H W 3` uint8 RGB here; jitter is one colour map per item, equal for its frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import cv2
import numpy as np
import torch

from unienc_core.data.manifest import KeySpec, Role
from unienc_core.data.resample import Size, resize_image, resize_map
from unienc_core.geometry.camera import crop_K, flip_K, resize_K
from unienc_core.presets import AugmentSpec

NUM_DRAWS = 10
"""Random numbers that an item uses: flip, whether to jitter, four strengths, their order, zoom and
the two coordinates of its corner. Shadows use those that follow."""

_ORDERS = tuple(permutations(range(4)))
_LUMA = np.array([0.299, 0.587, 0.114])
_TO_YIQ = np.array([_LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
_MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Jitter:
    """One change of colours.

    Attributes:
        brightness: Factor on all channels.
        contrast: Factor on the distance to the mean grey of the item.
        saturation: Factor on the distance to the grey of the pixel.
        hue: Turn of the chroma, in full circles.
        order: The four of them, as 0 to 3, in the order they are applied.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float
    order: tuple[int, ...]


@dataclass(frozen=True)
class Augmentation:
    """What happens to one item.

    Attributes:
        flip: Whether it is mirrored.
        jitter: None where colours stay.
        zoom: Factor by which it is enlarged, at least 1.
        corner: Where the part begins that is kept of it: down and right, as shares of the room.
    """

    flip: bool = False
    jitter: Jitter | None = None
    zoom: float = 1.0
    corner: tuple[float, float] = (0.0, 0.0)


def draw_augmentation(spec: AugmentSpec, u: np.ndarray) -> Augmentation:
    """Turn `NUM_DRAWS` uniform numbers into an augmentation."""
    jitter = _draw_jitter(spec, u) if u[1] < spec.jitter else None
    zoom = 1.0 + (spec.zoom - 1.0) * float(u[7])
    return Augmentation(bool(u[0] < spec.flip), jitter, zoom, (float(u[8]), float(u[9])))


def _draw_jitter(spec: AugmentSpec, u: np.ndarray) -> Jitter:
    b, c, s, h = (2.0 * u[2:6] - 1.0) * (spec.brightness, spec.contrast, spec.saturation, spec.hue)
    return Jitter(1.0 + b, 1.0 + c, 1.0 + s, float(h), _ORDERS[int(u[6] * len(_ORDERS))])


def colour_map(jitter: Jitter, mean: np.ndarray) -> np.ndarray:
    """Compose a jitter into one affine map of colours.

    All four changes are affine, and the mean grey that contrast turns about follows from the mean
    colour by the changes before it; so one matrix does it all, and values are cut to the range
    once, at the end.

    Args:
        jitter: The change.
        mean: Mean colour of the item, RGB.

    Returns:
        `3 4` float64: new colour = map[:, :3] @ colour + map[:, 3], in the units of `mean`.
    """
    linear, offset = np.eye(3), np.zeros(3)
    for step in jitter.order:
        shift = np.zeros(3)
        if step == 0:
            change = jitter.brightness * np.eye(3)
        elif step == 1:
            change = jitter.contrast * np.eye(3)
            shift += (1.0 - jitter.contrast) * (_LUMA @ (linear @ mean + offset))
        elif step == 2:
            change = _saturation(jitter.saturation)
        else:
            change = _hue_turn(jitter.hue)
        linear, offset = change @ linear, change @ offset + shift
    return np.column_stack((linear, offset))


def jitter_images(images: Sequence[np.ndarray], jitter: Jitter) -> list[np.ndarray]:
    """Apply one colour map to all images of an item: equal colours stay equal between frames.

    Args:
        images: `H W 3` uint8 RGB each.
        jitter: The change.
    """
    mean = np.mean([cv2.mean(image)[:3] for image in images], axis=0)
    matrix = colour_map(jitter, mean)
    return [cv2.transform(image, matrix) for image in images]


def place_frame(
    frame: Mapping[str, np.ndarray],
    keys: Mapping[str, KeySpec],
    old: Size,
    new: Size,
    augmentation: Augmentation,
) -> dict[str, np.ndarray]:
    """Resize, cut out and flip all values of a frame, each as its role demands.

    Args:
        frame: Values as the store gives them.
        keys: Their declarations.
        old: (h, w) as stored.
        new: (h, w) wanted.
        augmentation: Zoom, corner and flip are read.
    """
    larger = (round(new[0] * augmentation.zoom), round(new[1] * augmentation.zoom))
    room = (larger[0] - new[0] + 1, larger[1] - new[1] + 1)
    top, left = (int(share * n) for share, n in zip(augmentation.corner, room, strict=True))
    placed: dict[str, np.ndarray] = {}
    for key, value in frame.items():
        role = keys[key].role
        moved = resize_value(value, role, old, larger)
        if larger != new:
            moved = crop_value(moved, role, (top, left), new)
        placed[key] = flip_value(moved, role, new[1]) if augmentation.flip else moved
    return placed


def crop_value(value: np.ndarray, role: Role, corner: tuple[int, int], size: Size) -> np.ndarray:
    """Cut a part out of one value with its image.

    Args:
        value: As it belongs to the whole image.
        role: As the key declares it.
        corner: First row and column of the part.
        size: (h, w) of the part.
    """
    rows, columns = (slice(c, c + n) for c, n in zip(corner, size, strict=True))
    if role == "image":
        return value[rows, columns]
    if role in ("map", "lateral_map"):
        return value[..., rows, columns]
    if role == "intrinsics":
        return crop_K(torch.from_numpy(value), corner[1], corner[0]).numpy()
    return value


def resize_value(value: np.ndarray, role: Role, old: Size, new: Size) -> np.ndarray:
    """Resize one value with its image.

    Images go through `resize_image`; maps take the nearest pixel, by the rule
    c' = s (c + 0.5) - 0.5; intrinsics follow the same rule.

    Args:
        value: As the store gives it.
        role: As the key declares it.
        old: (h, w) of its image.
        new: (h, w) wanted.
    """
    if old == new or role in ("pose", "scalar", "lateral"):
        return value
    if role == "intrinsics":
        return resize_K(torch.from_numpy(value), old, new).numpy()
    if role == "image":
        return resize_image(value, new)
    return resize_map(value, new)


def flip_value(value: np.ndarray, role: Role, width: int) -> np.ndarray:
    """Mirror one value left to right with its image, of `width` pixels.

    The mirrored world has x -> -x: the principal point moves to W - 1 - cx, a motion T becomes
    F T F with F = diag(-1, 1, 1, 1), and what points sideways changes its sign.
    """
    if role == "image":
        return cv2.flip(value, 1)
    if role == "map":
        return value[..., ::-1]
    if role == "lateral_map":
        return value[..., ::-1] * np.array([-1, 1, 1], value.dtype)[:, None, None]
    if role == "intrinsics":
        return flip_K(torch.from_numpy(value), width).numpy()
    if role == "pose":
        return _MIRROR @ value @ _MIRROR
    return -value if role == "lateral" else value


def to_image_tensor(images: Sequence[np.ndarray]) -> torch.Tensor:
    """Stack `H W 3` uint8 images into `N 3 H W` float32, 0..1."""
    out = np.empty((len(images), 3, *images[0].shape[:2]), np.float32)
    for image, planes in zip(images, out, strict=True):
        np.divide(image.transpose(2, 0, 1), np.float32(255), out=planes)
    return torch.from_numpy(out)


def _saturation(factor: float) -> np.ndarray:
    return factor * np.eye(3) + (1.0 - factor) * np.outer(np.ones(3), _LUMA)


def _hue_turn(circles: float) -> np.ndarray:
    c, s = math.cos(2 * math.pi * circles), math.sin(2 * math.pi * circles)
    return _FROM_YIQ @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ _TO_YIQ
