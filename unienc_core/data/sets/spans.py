"""Sets of frame numbers as short text, as a drive's attributes keep them: ``3-7,9``."""

from __future__ import annotations

from collections.abc import Iterable


def to_spans(numbers: Iterable[int]) -> str:
    """Write numbers, at least 0, as ascending spans: 3, 4, 5, 9 become ``3-5,9``."""
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def from_spans(text: str) -> list[int]:
    """Read what `to_spans` wrote; an empty text holds none."""
    numbers: list[int] = []
    for span in text.split(",") if text else ():
        first, _, last = span.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers
