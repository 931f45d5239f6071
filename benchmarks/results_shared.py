"""What several tables of docs/results.md share: worlds to learn from, and trained networks."""

from __future__ import annotations

import os
from pathlib import Path

from results_rows import Row

REAL = Path(
    os.environ.get("UNIENC_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
"""Folder of real recordings, which are not part of the project."""

WORLDS: dict[str, tuple[str, ...]] = {
    "city": ("synth-city", "--train", "40x40", "--val", "15x75", "--test", "1x75", "--seed", "0"),
    "drives": (
        *("synth-city", "--train", "1000x24", "--val", "1x24", "--test", "1x24"),
        *("--look-ahead", "5", "--seed", "11"),
    ),
    "donkey": ("donkey", str(REAL / "donkey_track")),
}
"""Stores by name: words of `prepare-data`. Tables of one world share it."""

THREE = (0, 1, 2)

MASKS = Row("`unified-masks-tiny`", "unified-masks-tiny", seeds=THREE)
SEGMENTS = Row("segmentation only", "oneformer-tiny", seeds=THREE, has_depth=False)


def published(titles: tuple[str, ...], figures: str) -> dict[str, str]:
    """Return published figures, words of one string, by column title."""
    return dict(zip(titles, figures.split(), strict=True))
