"""How the steering labels of a store are distributed."""

from __future__ import annotations

from typing import Any

import numpy as np

from unienc_core.data.steering import kind_of, steering_keys
from unienc_core.data.store import Store

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def describe_labels(store: Store) -> dict[str, dict[str, Any]]:
    """Describe each steering label of a store.

    Returns:
        Key to plain data: ``unit``, ``known`` and ``unknown`` (frames), ``mean``, ``sd``,
        ``quantiles`` (share to value), and ``histogram``: ``edges``, and ``counts`` of the values
        below the first edge, between edges, and from the last one on. Without a known value there
        are the counts only.
    """
    return {key: _describe(store, key) for key in steering_keys(store.keys)}


def _describe(store: Store, key: str) -> dict[str, Any]:
    kind = kind_of(key)
    assert kind is not None
    columns = [store.column(drive, key) for drive in range(len(store.drives))]
    values = np.concatenate(columns).astype(np.float64)
    known = values[np.isfinite(values)]
    found: dict[str, Any] = {
        "unit": store.keys[key].unit,
        "known": len(known),
        "unknown": len(values) - len(known),
    }
    if not len(known):
        return found
    edges = [side * edge for side in (-1, 1) for edge in kind.edges] + [0.0]
    counts = np.histogram(known, [-np.inf, *sorted(edges), np.inf])[0]
    return found | {
        "mean": float(known.mean()),
        "sd": float(known.std()),
        "quantiles": {f"{q:g}": float(np.quantile(known, q)) for q in QUANTILES},
        "histogram": {"edges": sorted(edges), "counts": counts.tolist()},
    }


def label_lines(labels: dict[str, dict[str, Any]]) -> list[str]:
    """Return what `describe_labels` found as indented lines of text."""
    lines: list[str] = []
    for key, found in labels.items():
        if not found["known"]:
            lines.append(f"  {key}: known of no frame")
            continue
        unknown = f", unknown of {found['unknown']} frames" if found["unknown"] else ""
        lines.append(
            f"  {key} in {found['unit']}, left positive: mean {found['mean']:.3g}, sd "
            f"{found['sd']:.3g}{unknown}"
        )
        spread = (f"{float(q):.0%} {value:.3g}" for q, value in found["quantiles"].items())
        lines.append(f"    quantiles: {', '.join(spread)}")
        edges, counts = found["histogram"]["edges"], found["histogram"]["counts"]
        shares = [f"{count / found['known']:.0%}" for count in counts]
        marks = [f" |{edge:g}| " for edge in edges]
        parts = [text for pair in zip(shares, [*marks, ""], strict=True) for text in pair]
        lines.append(f"    histogram: {''.join(parts)}")
    return lines
