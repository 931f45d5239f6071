"""The profile of a training step: what each part is charged with, by hand."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from motion_step import accounts, table  # noqa: E402


def span(name: str, start: float, milliseconds: float, number: int | None = None, thread=0) -> dict:
    numbered = {} if number is None else {"Sequence number": number, "Fwd thread id": thread}
    return {"name": name, "ts": start, "dur": 1e3 * milliseconds, "args": numbered}


def memory(at: float, megabytes: float) -> dict:
    return {"name": "[memory]", "ts": at, "args": {"Bytes": round(1e6 * megabytes)}}


BACKWARD = "autograd::engine::evaluate_function: "
STEP = [
    span("part: whole step", 0, 100),
    span("part: encoders.main", 1_000, 10),
    memory(2_000, 50),
    memory(3_000, -20),
    span("aten::conv2d", 4_000, 1, number=7),
    span("aten::rand", 12_000, 1, number=8),  # makes no node, bears the number of the next
    span("part: heads.depth", 20_000, 5),
    span("aten::relu", 21_000, 1, number=8),
    memory(22_000, 4),
    span("aten::sum", 26_000, 1, number=9),  # between parts
    span("part: encoders.main", 30_000, 2),  # called again
    memory(31_000, 1),
    span(f"{BACKWARD}SumBackward0", 40_000, 3, number=9, thread=1),
    span(f"{BACKWARD}ReluBackward0", 45_000, 7, number=8, thread=1),
    span(f"{BACKWARD}ConvolutionBackward0", 55_000, 20, number=7, thread=1),
    span("ConvolutionBackward0", 55_000, 20, number=7, thread=1),
    span(f"{BACKWARD}torch::autograd::AccumulateGrad", 76_000, 2),
    memory(77_000, 15),
    span("part: optimizer", 80_000, 6),
]


def test_time_and_memory_of_each_part():
    rows = accounts(STEP[::-1])
    columns = ("ms", "forward_ms", "backward_ms", "kept_mb", "peak_mb")
    assert {name: tuple(row[c] for c in columns) for name, row in rows.items()} == {
        "encoders.main": (32, 12, 20, pytest.approx(31), 50),
        "heads.depth": (12, 5, 7, 4, 4),
        "optimizer": (6, 0, 0, 0, 0),
        "other": (50, 0, 0, 0, 0),
        "whole step": (100, 17, 27, 50, 50),
    }


def test_a_row_a_part():
    parts = [
        {"part": name, "share": row["ms"] / 100, **row} for name, row in accounts(STEP).items()
    ]
    about = {"preset": "p", "stage": "s", "image_size": [96, 320], "batch": 4}
    lines = table({**about, "parameters": 5, "resident_mb": 1.0, "parts": parts}).splitlines()
    assert len(lines) == 2 + len(parts)
    assert lines[2].split() == ["encoders.main", "32.0", "32.0%", "12.0", "20.0", "31.0", "50.0"]
