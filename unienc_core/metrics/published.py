"""Published depth figures by protocol, to be read beside one's own."""

from __future__ import annotations

from functools import cache
from typing import Any

from unienc_core.metrics.depth import METRICS
from unienc_core.tables import read_table

SOURCE = "Table III of Nguyen et al."
NOTE = "other data or image size, unless yours are the full test set and theirs"
CONVENTIONS = {"kitti-eigen": "velodyne-x"}
"""Protocol to what depth means in the ground truth that the published rows were scored on."""


@cache
def published_depth(protocol: str) -> tuple[dict[str, Any], ...]:
    """Return the rows published for a protocol, none for most.

    Returns:
        Of each: ``method``, ``frames`` (used for one prediction) and ``metrics``.
    """
    return tuple(
        {
            "method": row["method"],
            "frames": int(row["frames"]),
            "metrics": {name: float(row[name]) for name in METRICS},
        }
        for row in read_table("unienc_core.metrics", "published_depth.csv")
        if row["protocol"] == protocol
    )
