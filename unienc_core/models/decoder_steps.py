"""How a depth decoder climbs a pyramid, from its coarsest level to a stride asked for."""

from __future__ import annotations

from unienc_core.contracts import PyramidSpec
from unienc_core.errors import WiringError


def decoder_steps(spec: PyramidSpec, finest: int, name: str) -> list[tuple[int, int | None]]:
    """Return the stride of each step above the coarsest level, and the level that it joins.

    Args:
        spec: The pyramid. Levels of equal stride (a dilated encoder) take a step each.
        finest: Stride of the last step; finer levels are not read.
        name: What to call the head in an error.

    Returns:
        (stride, index of the level, or None where the pyramid has none), coarse to fine.

    Raises:
        WiringError: If two strides are not powers of two apart.
    """
    steps: list[tuple[int, int | None]] = []
    stride = spec.strides[-1]
    for level in reversed(range(len(spec.strides) - 1)):
        if spec.strides[level] < finest:
            break
        steps += [(s, None) for s in _halvings(stride, spec.strides[level], name)[:-1]]
        stride = spec.strides[level]
        steps.append((stride, level))
    steps += [(s, None) for s in _halvings(stride, finest, name) if s != stride]
    return steps


def _halvings(start: int, stop: int, name: str) -> list[int]:
    """Return the strides from below `start` to `stop`, each half of the one before."""
    if start == stop:
        return [stop]
    strides, stride = [], start
    while stride > stop and stride % 2 == 0:
        stride //= 2
        strides.append(stride)
    if stride != stop:
        raise WiringError(f"head '{name}': strides {start} and {stop} are not powers of two apart")
    return strides
