"""Tables that ship with the program: CSV files whose comment lines name their source."""

from __future__ import annotations

import csv
from importlib.resources import files


def read_table(package: str, name: str) -> list[dict[str, str]]:
    """Return the rows of a table, by the names of its first line that is no comment.

    Args:
        package: The package that it lies in.
        name: Of the file.
    """
    lines = files(package).joinpath(name).read_text("utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))
