"""``--fail-under NAME=VALUE`` and ``--fail-over``: figures that stop a pipeline."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from unienc_core.errors import ThresholdError, UsageError, nearest


def parse_thresholds(
    specs: Sequence[str], names: Collection[str], option: str
) -> list[tuple[str, float]]:
    """Parse ``NAME=VALUE`` strings; call it before the long work, so that a slip costs nothing.

    Args:
        specs: What the user gave.
        names: Metrics that will be there.
        option: The option's name, for the message.

    Raises:
        UsageError: On a form, a name (with the nearest right one) or a number that is not one.
    """
    thresholds: list[tuple[str, float]] = []
    for spec in specs:
        name, equals, text = (part.strip() for part in spec.partition("="))
        if not equals:
            raise UsageError(f"{option} {spec}: expected NAME=VALUE, such as a1=0.6")
        if name not in names:
            known = list(names)
            raise UsageError(
                f"{option} {spec}: no metric '{name}'{nearest(name, known)}; "
                f"known: {', '.join(known)}"
            )
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UsageError(f"{option} {spec}: '{text}' is not a number")
        thresholds.append((name, value))
    return thresholds


def check_thresholds(
    metrics: Mapping[str, float | None],
    fail_under: Sequence[str] = (),
    fail_over: Sequence[str] = (),
) -> None:
    """Raise if a metric lies below a ``--fail-under`` or above a ``--fail-over``.

    Args:
        metrics: Name to figure; None (nothing was measured) fails every threshold.
        fail_under: ``NAME=VALUE`` strings; the figure must be at least VALUE.
        fail_over: The same; the figure must be at most VALUE.

    Raises:
        ThresholdError: Naming every figure that lies beyond.
        UsageError: See `parse_thresholds`.
    """
    under = parse_thresholds(fail_under, metrics.keys(), "--fail-under")
    over = parse_thresholds(fail_over, metrics.keys(), "--fail-over")
    faults: list[str] = []
    for limits, word, sign in ((under, "under", 1.0), (over, "over", -1.0)):
        for name, limit in limits:
            figure = metrics[name]
            if figure is None:
                faults.append(f"{name} was not measured (--fail-{word} {limit:g})")
            elif not sign * figure >= sign * limit:  # so that NaN fails
                faults.append(f"{name} = {figure:.4g} is {word} {limit:g}")
    if faults:
        raise ThresholdError("; ".join(faults))
