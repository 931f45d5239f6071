"""Where a place of a map lies: sine codes for attention, and centres for sampling.

Both depend on sizes alone, so they are made once, in double precision, and kept.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

Size = tuple[int, int]
"""Height and width of a map."""

_TEMPERATURE = 10000.0
_EPS = 1e-6
_KEPT = 32  # maps; a network of one image size needs four


@lru_cache(_KEPT)
def sine_positions(size: Size, channels: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the sine code of each place of a map, ``H*W C``, row by row.

    A coordinate runs over ``(0, 2 pi]``: rows and columns are counted from 1 and divided by their
    number. The first half of the channels codes the row, the second half the column; channels
    ``2k`` and ``2k + 1`` of a half of ``c`` channels are sine and cosine of the coordinate over
    ``10000^(2k/c)``.

    Args:
        size: Height and width of the map.
        channels: A multiple of 4.
        device: Where the code will lie.
        dtype: Its type.
    """
    half = channels // 2
    even = torch.arange(0, half, 2, dtype=torch.float64)
    frequencies = _TEMPERATURE ** (-even / half)

    def code(n: int) -> Tensor:
        angle = torch.arange(1, n + 1, dtype=torch.float64) / (n + _EPS) * (2 * math.pi)
        phase = angle[:, None] * frequencies
        return torch.stack([phase.sin(), phase.cos()], -1).flatten(1)

    # What is kept must serve training too, though it may be first asked for in inference.
    with torch.inference_mode(False), torch.no_grad():
        rows, columns = (code(n) for n in size)
        height, width = size
        both = [rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)]
        return torch.cat(both, -1).flatten(0, 1).to(device, dtype)


@lru_cache(_KEPT)
def pixel_centres(sizes: tuple[Size, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the centres of all places of several maps, ``N 2``, x and y as shares of the size.

    Args:
        sizes: Height and width of each map; their places follow each other, row by row.
        device: Where the centres will lie.
        dtype: Their type.
    """
    with torch.inference_mode(False), torch.no_grad():
        maps = []
        for height, width in sizes:
            y = (torch.arange(height, dtype=torch.float64) + 0.5) / height
            x = (torch.arange(width, dtype=torch.float64) + 0.5) / width
            maps.append(torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1))
        return torch.cat(maps).to(device, dtype)
