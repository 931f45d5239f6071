"""Counting work: multiply-accumulates of anything, and the peak rate to hold them against."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from unienc_core.workflows.bench.clock import Samples, timed

_MIN_GEMM_SECONDS = 0.02
_MAX_GEMM_SIZE = 8192
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def count_macs(run: Callable[[], object]) -> int:
    """Return the multiply-accumulates of `run`: matrix products, convolutions, attention.

    Counted by torch from the shapes that really occur, backward passes included. Element-wise
    work, sampling and pooling multiply too, but no table of the field counts them.
    """
    with FlopCounterMode(display=False, custom_mapping=_CORRECTIONS) as counter:
        run()
    return counter.get_total_flops() // 2


def _attention(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q, k, v)


def _attention_backward(grad: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad, q, k, v)


def _convolution_backward(grad: Any, x: Any, weight: Any, *rest: Any, **__: Any) -> int:
    """As much as forward, for each of the two gradients that are wanted."""
    transposed, wanted = rest[-4], rest[-1]
    places = x if transposed else grad
    return 2 * places[0] * prod(places[2:]) * prod(weight) * sum(wanted[:2])


_aten = torch.ops.aten
_CORRECTIONS: dict[Any, Any] = {
    # The attention of the CPU, which torch's own table leaves out.
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    # Which torch counts as if there were no groups.
    _aten.convolution_backward: _convolution_backward,
}


class Gemm:
    """A product of two square matrices, large enough that starting it costs nothing.

    Args:
        precision: ``fp32`` or ``bf16``.
        device: Where it runs.
        largest: Size that is not exceeded.

    Attributes:
        size: Rows and columns.
    """

    def __init__(self, precision: str, device: torch.device, largest: int = _MAX_GEMM_SIZE) -> None:
        self.precision, self.size = precision, 128
        seconds = 0.0
        while seconds < _MIN_GEMM_SECONDS and self.size < largest:
            self.size *= 2
            shape, dtype = (self.size, self.size), PRECISIONS[precision]
            self._a, self._b = (torch.ones(shape, dtype=dtype, device=device) for _ in range(2))
            self._out = torch.empty_like(self._a)
            seconds = min(timed(self, device) for _ in range(2))

    def __call__(self) -> None:
        """Multiply."""
        torch.mm(self._a, self._b, out=self._out)

    def rate(self, seconds: float) -> float:
        """Return GFLOP/s when it takes this long."""
        return 2.0 * self.size**3 / seconds / 1e9

    def record(self, samples: Samples) -> dict[str, Any]:
        """Return the peak (best of all rounds) and the usual rate, GFLOP/s, JSON-able."""
        return {
            "precision": self.precision,
            "size": self.size,
            "gflops": round(self.rate(min(samples.values)), 2),
            "gflops_median": round(self.rate(samples.median), 2),
            "spread": round(samples.spread, 4),
            "rounds": len(samples.values),
        }
