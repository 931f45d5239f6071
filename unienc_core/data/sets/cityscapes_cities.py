"""Which cities the splits of Cityscapes consist of, and which of them are not there."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from functools import cache

from unienc_core.tables import read_table

_NAMED = 4


@cache
def split_cities(split: str) -> tuple[str, ...]:
    """Return the cities of a split ("train", "val", "test") in order of name; others have none."""
    rows = read_table("unienc_core.data.sets", "cityscapes_cities.csv")
    return tuple(sorted(row["city"] for row in rows if row["split"] == split))


def missing_cities(split: str, found: AbstractSet[str]) -> list[str]:
    """Say which cities of a split are not there, in a line or none.

    Args:
        split: Its name.
        found: Cities that are there. If the split knows none of them, it is another set in the
            same layout, and nothing is missing.
    """
    cities = split_cities(split)
    missing = [city for city in cities if city not in found]
    if not missing or len(missing) == len(cities):
        return []
    rest = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    named = ", ".join(missing[:_NAMED]) + rest
    return [f"{len(missing)} of the {len(cities)} cities of split {split} are not there: {named}"]
