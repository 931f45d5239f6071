"""Drawing of what moves by itself: the motion mask, and the own flow by a colour wheel.

Images are `H W 3`, uint8, RGB. Sizes of text and lines follow the width of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from unienc_core.inference.overlays import (
    BACKGROUND,
    FAINT,
    TEXT,
    nice_step,
    open_inset,
    put_text,
    text_size,
    text_width,
)
from unienc_core.inference.scene_motion import MOVES

_TINT = (255, 64, 96)
_OPACITY = 0.65
_DIMMED = 0.45
# Of the wheel's rim, from oncoming (red) over right, away and left; none outshines another.
_RIM = np.array(
    [
        (245, 80, 70),
        (235, 140, 40),
        (150, 185, 55),
        (45, 185, 105),
        (40, 185, 215),
        (85, 130, 255),
        (170, 110, 250),
        (240, 90, 180),
    ]
)
_WHEEL = np.stack(
    [np.interp(np.arange(360), 45 * np.arange(8), channel, period=360) for channel in _RIM.T], -1
).astype(np.float32)
_OUTLIERS = 99.5  # percentile
_INVISIBLE = 1 / 512  # opacity that changes no pixel


def draw_mask(picture: np.ndarray, mask: np.ndarray, *, legend: bool = True) -> np.ndarray:
    """Tint a picture by how probably its points move, with an outline at one half and a legend.

    Args:
        picture: `H W 3`.
        mask: `H W`, 0..1.
        legend: False leaves it out.
    """
    drawn = _tint(picture, mask)
    stroke = max(1, round(picture.shape[1] / 800))
    moves = (mask > MOVES).astype(np.uint8)
    outlines, _ = cv2.findContours(moves, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, outlines, -1, BACKGROUND, stroke + 2, cv2.LINE_AA)
    cv2.drawContours(drawn, outlines, -1, TEXT, stroke, cv2.LINE_AA)
    if legend:
        _draw_mask_legend(drawn)
    return drawn


def draw_own_flow(
    picture: np.ndarray, velocity: np.ndarray, full: float, unit: str, *, legend: bool = True
) -> np.ndarray:
    """Colour a dimmed picture by where its points go over the ground, and how fast.

    Args:
        picture: `H W 3`.
        velocity: `2 H W`, to the right and ahead.
        full: Speed of the strongest colour.
        unit: Of both, for the legend.
        legend: False leaves it out.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, 2)
    drawn = velocity_to_colour((_DIMMED * grey).astype(np.uint8), velocity, full)
    if legend:
        _draw_wheel(drawn, full, unit)
    return drawn


def velocity_to_colour(ground: np.ndarray, velocity: np.ndarray, full: float) -> np.ndarray:
    """Lay the colour of a direction over a picture, the more opaque the faster.

    Args:
        ground: `H W 3`, what stands still shows.
        velocity: `2 H W`, to the right and ahead; not finite counts as none.
        full: Speed from which on nothing of `ground` shows.
    """
    right, ahead = np.nan_to_num(velocity.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    share = np.minimum(np.hypot(right, ahead) / np.float32(full), 1.0)
    shows, drawn = share > _INVISIBLE, ground.copy()  # mostly little moves
    if not shows.any():
        return drawn
    opaque = share[shows][:, None]
    colours = _direction_colours(right[shows], ahead[shows])
    drawn[shows] = ((1 - opaque) * drawn[shows] + opaque * colours).round().astype(np.uint8)
    return drawn


def choose_full_speed(speeds: Sequence[np.ndarray], least: float) -> float:
    """Choose the speed of the strongest colour: a round one that few points exceed.

    Args:
        speeds: Maps of any size, at least one.
        least: The choice is not below it, so that noise in a street where nothing moves stays dark.
    """
    values = np.concatenate([speed.ravel() for speed in speeds])
    values = values[np.isfinite(values)]
    found = float(np.percentile(values, _OUTLIERS)) if values.size else 0.0
    wanted = max(found, least, 1e-9)
    step = nice_step(wanted)
    return step if step >= wanted * (1 - 1e-9) else nice_step(2.5 * step)  # the next round one


def _direction_colours(right: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    """Return the colours of `n` directions over the ground, `n 3`, float32, 0..255."""
    return _WHEEL[np.round(np.degrees(np.arctan2(right, -ahead))).astype(int) % 360]


def _tint(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    share = _OPACITY * mask.clip(0, 1).astype(np.float32)[..., None]
    return ((1 - share) * picture + share * np.array(_TINT, np.float32)).round().astype(np.uint8)


def _draw_mask_legend(picture: np.ndarray) -> None:
    line = text_size(picture.shape[1])
    box = open_inset(picture, round(3.0 * line), round(7.4 * line))
    if box is None:
        return
    put_text(box, "moves by itself", 0.4 * line, 0.65 * line, 0.8 * line)
    x0, x1 = round(0.6 * line), round(box.shape[1] - 0.6 * line)
    bar = box[round(1.2 * line) : round(1.8 * line), x0:x1]
    bar[:] = FAINT
    bar[:] = _tint(bar, np.broadcast_to(np.linspace(0, 1, x1 - x0), bar.shape[:2]))
    for value in (0.0, MOVES, 1.0):
        x = x0 + value * (x1 - x0 - 1)
        top, bottom = (1.2 if value == MOVES else 1.7) * line, 1.95 * line
        cv2.line(box, (round(x), round(top)), (round(x), round(bottom)), TEXT, 1)
        put_text(box, f"{value:g}", x, 2.45 * line, 0.8 * line, FAINT, align=0.5)


def _draw_wheel(picture: np.ndarray, full: float, unit: str) -> None:
    line = text_size(picture.shape[1])
    box = open_inset(picture, round(6.8 * line), round(7.4 * line))
    if box is None:
        return
    middle, side = box.shape[1] / 2, 2 * round(1.5 * line)
    put_text(box, "own motion", 0.4 * line, 0.65 * line, 0.8 * line)
    put_text(box, "away", middle, 1.5 * line, 0.8 * line, FAINT, align=0.5)
    top, left = round(2.0 * line), round(middle - side / 2)
    across = np.linspace(-1, 1, side)
    velocity = np.stack(np.meshgrid(across, -across))
    disc = box[top : top + side, left : left + side]
    inside = np.hypot(*velocity) <= 1
    disc[inside] = velocity_to_colour(np.full_like(disc, BACKGROUND), velocity, 1.0)[inside]
    put_text(box, "oncoming", middle, 5.4 * line, 0.8 * line, FAINT, align=0.5)
    rim = f"rim {full:g} {unit}"
    fits = min(0.8, 0.8 * (box.shape[1] - 0.6 * line) / text_width(rim, 0.8 * line))
    put_text(box, rim, middle, 6.25 * line, fits * line, TEXT, align=0.5)
