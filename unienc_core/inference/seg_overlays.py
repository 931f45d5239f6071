"""Drawing of segmentations: classes, segments and objects in colour, names, legend. Pure functions.

Images are `H W 3`, uint8, RGB. Sizes of text and lines follow the width of the picture.
"""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from scipy.ndimage import find_objects

from unienc_core.class_tables import ClassTable
from unienc_core.inference.overlays import BACKGROUND, FAINT, TEXT, put_text, text_size, text_width
from unienc_core.segmentation import Instance, Segment

Colour = tuple[int, int, int]

_OPACITY = 0.55
_FILL = 0.3
_EDGE = (250, 250, 250)
_GOLDEN = 0.618034  # its multiples, modulo 1, stay far apart however many there are
_HUE_SPAN = 0.09
_DARKEST, _LIGHTEST = 0.3, 0.74
_READABLE = 0.4  # lightness of the darkest outline
_NAME_SIZE = 0.72  # of a line of text
_SHORTEST = 0.8  # objects lower than this share of their plate stay without a name


def semantic_to_colour(label_ids: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Colour a map of classes.

    Args:
        label_ids: `H W`, label ids in 0..255.
        palette: `256 3`, uint8 RGB by label id (`ClassTable.palette`).

    Returns:
        `H W 3`, uint8, RGB.
    """
    return palette[label_ids]


def panoptic_to_colour(
    ids: np.ndarray, segments: Sequence[Segment], table: ClassTable
) -> np.ndarray:
    """Colour segments by class, the objects of a class in shades that can be told apart.

    Args:
        ids: `H W`, segment ids.
        segments: What they mean; pixels of no segment are black.
        table: Colours of the classes.

    Returns:
        `H W 3`, uint8, RGB.
    """
    ordered = _ordered(segments)
    shades = _shades([(segment.category_id, segment.id) for segment in ordered], table)
    return _paint(_positions(ids, ordered), shades)


def draw_semantic(image: np.ndarray, label_ids: np.ndarray, table: ClassTable) -> np.ndarray:
    """Lay the colours of the classes over a picture of the same size; black ones show it bare."""
    return _blend(image, semantic_to_colour(label_ids, table.palette))


def draw_panoptic(
    image: np.ndarray, ids: np.ndarray, segments: Sequence[Segment], table: ClassTable
) -> np.ndarray:
    """Lay the colours of the segments over a picture of the same size, with edges and names.

    Args:
        image: `H W 3`.
        ids: `H W`, segment ids.
        segments: What they mean.
        table: Names and colours of the classes.
    """
    ordered = _ordered(segments)
    shades = _shades([(segment.category_id, segment.id) for segment in ordered], table)
    places = _positions(ids, ordered)
    picture = _blend(image, _paint(places, shades))
    picture[_edges(places, _stroke(image.shape[1]))] = _EDGE
    areas = np.bincount(places.reshape(-1), minlength=len(ordered) + 1)
    plates = []
    for segment, shade, area, box in zip(
        ordered, shades, areas, find_objects(places + 1, len(ordered)), strict=False
    ):
        entry = table.by_id.get(segment.category_id)
        if box is not None and entry is not None and entry.has_instances:
            name = f"{entry.name} group" if segment.is_crowd else entry.name
            plates.append(_Plate(name, shade, int(area), box))
    _draw_names(picture, plates)
    return picture


def draw_instances(
    image: np.ndarray, instances: Sequence[Instance], table: ClassTable
) -> np.ndarray:
    """Outline objects in a picture of the same size, and name those that have room for it.

    Args:
        image: `H W 3`.
        instances: May overlap; the smaller ones are drawn on top. Scores below 1 are written.
        table: Names and colours of the classes.
    """
    picture, stroke = image.copy(), _stroke(image.shape[1])
    ordered = sorted(instances, key=lambda one: -int(np.count_nonzero(one.mask)))
    shades = [_readable(c) for c in _shades([(one.label_id, one.id) for one in ordered], table)]
    plates = []
    for one, shade in zip(ordered, shades, strict=True):
        x, y, width, height = cv2.boundingRect(one.mask.astype(np.uint8))
        box = np.s_[y : y + height, x : x + width]
        mask, part = one.mask[box], picture[box]
        part[mask] = np.round((1 - _FILL) * part[mask] + _FILL * np.asarray(shade))
        outlines, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE, offset=(x, y)
        )
        cv2.drawContours(picture, outlines, -1, BACKGROUND, stroke + 2, cv2.LINE_AA)
        cv2.drawContours(picture, outlines, -1, shade, stroke, cv2.LINE_AA)
        name = _name(one.label_id, table, one.score)
        plates.append(_Plate(name, shade, int(np.count_nonzero(mask)), box))
    _draw_names(picture, plates)
    return picture


def draw_class_legend(table: ClassTable, present: Collection[int], width: int) -> np.ndarray:
    """Draw a strip that says which colour is which class.

    Args:
        table: The classes.
        present: Label ids of those to show; they come in the table's order.
        width: Of the strip, px; its height follows.

    Returns:
        `h width 3`, uint8, RGB.
    """
    line = _line(width)
    entries = [entry for entry in table.classes if entry.id in set(present)]
    room = max((text_width(entry.name, line) for entry in entries), default=0) + 2.2 * line
    columns = max(1, int((width - line) / room))
    rows = max(1, -(-len(entries) // columns))
    strip = np.full((round((1.1 * rows + 0.5) * line), width, 3), BACKGROUND, np.uint8)
    for place, entry in enumerate(entries):
        row, column = divmod(place, columns)
        x, middle = 0.5 * line + column * room, (1.1 * row + 0.8) * line
        top, left, side = round(middle - 0.28 * line), round(x), round(0.64 * line)
        strip[top : top + side, left : left + side] = entry.color
        cv2.rectangle(strip, (left, top), (left + side - 1, top + side - 1), FAINT, 1)
        put_text(strip, entry.name, x + 0.95 * line, middle, line)
    return strip


class _Plate(NamedTuple):
    """A name that belongs to an object."""

    name: str
    colour: Colour
    area: int
    box: tuple[slice, slice]


def _draw_names(picture: np.ndarray, plates: Sequence[_Plate]) -> None:
    """Write names on plates, the largest objects first; where there is no room stands none."""
    height, width = picture.shape[:2]
    line = _line(width)
    tall, taken = round(0.85 * line), np.zeros((height, width), bool)
    for plate in sorted(plates, key=lambda p: -p.area):
        (y0, y1), x0 = (plate.box[0].start, plate.box[0].stop), plate.box[1].start
        if y1 - y0 < _SHORTEST * tall:
            continue
        wide = text_width(plate.name, line) + round(0.5 * line)
        left = max(0, min(x0, width - wide))
        for top in (y0 - tall, y0, y1 - tall):  # above the object, else in its upper or lower part
            place = np.s_[top : top + tall, left : left + wide]
            if 0 <= top <= height - tall and wide <= width and not taken[place].any():
                picture[place], taken[place] = plate.colour, True
                ink = BACKGROUND if _lightness(plate.colour) > 0.5 else TEXT
                put_text(picture, plate.name, left + 0.25 * line, top + tall / 2, line, ink)
                break


def _name(label_id: int, table: ClassTable, score: float) -> str:
    entry = table.by_id.get(label_id)
    name = f"label {label_id}" if entry is None else entry.name
    return name if score >= 1 else f"{name} {score:.2f}"


def _line(width: int) -> float:
    """Height of a line of names, in pixels: small, since there are many, but never unreadable."""
    return max(18.0, _NAME_SIZE * text_size(width))


def _stroke(width: int) -> int:
    return max(1, round(width / 800))


def _blend(image: np.ndarray, colours: np.ndarray) -> np.ndarray:
    mixed = cv2.addWeighted(image, 1 - _OPACITY, colours, _OPACITY, 0)
    return np.where(colours.any(axis=-1, keepdims=True), mixed, image)


def _edges(places: np.ndarray, stroke: int) -> np.ndarray:
    """Return the pixels whose right or lower neighbour belongs to another segment, thickened."""
    edges = np.zeros(places.shape, np.uint8)
    edges[:, :-1] |= places[:, :-1] != places[:, 1:]
    edges[:-1] |= places[:-1] != places[1:]
    return cv2.dilate(edges, np.ones((stroke, stroke), np.uint8)).astype(bool)


def _ordered(segments: Sequence[Segment]) -> list[Segment]:
    return sorted(segments, key=lambda segment: segment.id)


def _positions(ids: np.ndarray, ordered: Sequence[Segment]) -> np.ndarray:
    """Return which of the segments, by id, each pixel belongs to; their number for none."""
    if not ordered:
        return np.zeros(ids.shape, np.intp)
    known = np.array([segment.id for segment in ordered], np.int64)
    found = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where(known[found] == ids, found, len(known))


def _paint(places: np.ndarray, shades: Sequence[Colour]) -> np.ndarray:
    return np.array([*shades, (0, 0, 0)], np.uint8)[places]


def _shades(objects: Sequence[tuple[int, int]], table: ClassTable) -> list[Colour]:
    """Return the colour of each object, given its label id and id: that of its class, varied.

    The number that an id of the Cityscapes convention holds decides the shade, so that an object
    keeps its shade along a clip; among others it is the first, the second and so on of its class.
    """
    seen: Counter[int] = Counter()
    shades = []
    for label_id, id_ in objects:
        red, green, blue = table.palette[label_id].tolist()
        number = id_ - table.first_id(label_id)
        if not 0 <= number < table.instance_factor:
            number = seen[label_id]
        shades.append(_shade((red, green, blue), number))
        seen[label_id] += 1
    return shades


def _shade(colour: Colour, number: int) -> Colour:
    """Vary a colour in lightness and a little in hue; number 0 is the colour itself."""
    if number == 0:
        return colour
    hue, lightness, saturation = colorsys.rgb_to_hls(*(v / 255 for v in colour))
    span = _LIGHTEST - _DARKEST
    at = (min(1, max(0, (lightness - _DARKEST) / span)) + number * _GOLDEN) % 1
    turn = (number * _GOLDEN**2 % 1 - 0.5) * _HUE_SPAN
    red, green, blue = colorsys.hls_to_rgb((hue + turn) % 1, _DARKEST + span * at, saturation)
    return round(255 * red), round(255 * green), round(255 * blue)


def _readable(colour: Colour) -> Colour:
    """Return a colour, mixed with white as far as it takes to show as a line on a dark street."""
    light = _lightness(colour)
    white = max(0.0, (_READABLE - light) / (1 - light))
    red, green, blue = (round(v + white * (255 - v)) for v in colour)
    return red, green, blue


def _lightness(colour: Colour) -> float:
    """Return how light a colour looks, 0..1 (the weights of grey television)."""
    return float(np.dot(colour, (0.299, 0.587, 0.114)) / 255)
