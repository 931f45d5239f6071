"""Geometry is computed in single precision or better, whatever autocast is on outside."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor
from torch.amp import is_autocast_available

P = ParamSpec("P")
T = TypeVar("T")

_HALF = (torch.float16, torch.bfloat16)


def widen(x: Tensor) -> Tensor:
    """Return a half-precision tensor as float32, any other unchanged."""
    return x.float() if x.dtype in _HALF else x


def full_precision(fn: Callable[P, T]) -> Callable[P, T]:
    """Run `fn` with autocast off and its half-precision tensor arguments widened.

    A pixel coordinate of 300 has a spacing of 2 px in bfloat16, so coordinates must never pass
    through it.
    """

    @wraps(fn)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        wide = [_widen_any(a) for a in args]
        named = {k: _widen_any(a) for k, a in kwargs.items()}
        call = cast(Callable[..., T], fn)
        device = next(
            (a.device.type for a in (*wide, *named.values()) if isinstance(a, Tensor)), "cpu"
        )
        # Entered only where it matters: exporters cannot trace a change of autocast, and some
        # devices (meta) have none.
        if is_autocast_available(device) and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return call(*wide, **named)
        return call(*wide, **named)

    return run


def _widen_any(value: object) -> Any:
    return widen(value) if isinstance(value, Tensor) else value
