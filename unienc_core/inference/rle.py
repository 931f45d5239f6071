"""Masks as COCO writes them: run lengths of columns, packed into a string.

Tools of the field read ``{"size": [H, W], "counts": string}``; pycocotools is one of them.
"""

from __future__ import annotations

import numpy as np

_BITS = 5
_DIGITS = 7  # of 5 bits each: more than a 32-bit length has
_FIRST_CHARACTER = 48


def encode_map(values: np.ndarray) -> dict[int, str]:
    """Encode the mask of every value of a map.

    Args:
        values: `H W`, any integer type.

    Returns:
        Each value that occurs, ascending, to the ``counts`` of its mask.
    """
    flat = np.ascontiguousarray(values.T).reshape(-1)
    if not flat.size:
        return {}
    starts = np.append(0, np.flatnonzero(flat[1:] != flat[:-1]) + 1)
    ends = np.append(starts[1:], flat.size)
    owners = flat[starts]
    encoded: dict[int, str] = {}
    for value in np.unique(owners):
        mine = owners == value
        bounds = np.stack([starts[mine], ends[mine]], 1).reshape(-1)
        if bounds[-1] != flat.size:
            bounds = np.append(bounds, flat.size)
        encoded[int(value)] = _pack(np.diff(bounds, prepend=0))
    return encoded


def encode_mask(mask: np.ndarray) -> str:
    """Return the ``counts`` of a mask that is not empty, `H W` bool."""
    return encode_map(mask.view(np.uint8))[1]


def _pack(counts: np.ndarray) -> str:
    """Write run lengths, from the fourth on as the difference to the last but one.

    A number is written in digits of 5 bits, the lowest first, in two's complement; bit 6 says that
    another digit follows.
    """
    left = counts.astype(np.int64)
    left[3:] -= counts[1:-2]
    characters = np.zeros((len(left), _DIGITS), np.uint8)
    follows = np.ones(len(left), bool)
    for place in range(_DIGITS):
        digit = left & 31
        left >>= _BITS
        more = np.where(digit & 16, left != -1, left != 0)
        characters[follows, place] = (digit + 32 * more + _FIRST_CHARACTER)[follows]
        follows &= more
    return characters[characters > 0].tobytes().decode("ascii")
