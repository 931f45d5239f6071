"""Tables in text files: separators and headers as they come.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unienc_core.errors import DataError, UsageError, nearest

MAX_TABLE_BYTES = 256 << 20
_SEPARATORS = ",;\t"


@dataclass(frozen=True)
class Table:
    """Rows of cells, none longer than another.

    Attributes:
        path: The file.
        header: Names of the columns, if there are any.
        rows: Cells without the blanks around them.
        lines: Where each row is in the file, from 1.
    """

    path: Path
    header: tuple[str, ...] | None
    rows: list[list[str]]
    lines: list[int]

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.rows[0])

    def place(self, column: str | int) -> int:
        """Return where a column is, by its name or by its number from 0.

        Raises:
            UsageError: If there is none such.
        """
        if isinstance(column, str) and self.header is not None and column in self.header:
            return self.header.index(column)
        if isinstance(column, int) or column.isdecimal():
            if int(column) < self.width:
                return int(column)
            raise UsageError(f"{self.path}: no column {column}, it has {self.width}, from 0")
        if self.header is None:
            raise UsageError(
                f"{self.path}: no column '{column}', for it has no header; name columns by their "
                f"numbers, 0 to {self.width - 1}"
            )
        known = ", ".join(self.header)
        raise UsageError(
            f"{self.path}: no column '{column}'{nearest(column, list(self.header))}; it has {known}"
        )

    def text(self, column: str | int) -> list[str]:
        """Return the cells of a column."""
        place = self.place(column)
        return [row[place] for row in self.rows]

    def numbers(self, column: str | int) -> np.ndarray:
        """Return a column as float64; empty cells are NaN.

        Raises:
            DataError: If a cell is no number, naming its line.
        """
        cells = self.text(column)
        values = np.full(len(cells), np.nan)
        for row, cell in enumerate(cells):
            try:
                values[row] = float(cell) if cell else np.nan
            except ValueError:
                raise self.fault(
                    row, f"'{cell[:40]}' in column {column}, expected a number"
                ) from None
        return values

    def fault(self, row: int, what: str) -> DataError:
        """Return the error for a row."""
        return DataError(f"{self.path}, line {self.lines[row]}: {what}")


def read_table(path: Path, names: Sequence[Sequence[str]] = ()) -> Table:
    """Read a table whose cells are separated by commas, semicolons, tabs, or else by blanks.

    The first row is a header if no cell of it is a number.

    Args:
        path: The file.
        names: Headers for a table without one: that of its width is taken.

    Raises:
        DataError: If it cannot be read, is empty, or a row has another number of cells.
    """
    lines = read_lines(path)
    first = next((line for line in lines if line.strip()), "")
    separator = max(_SEPARATORS, key=first.count)
    cells = [line.split() for line in lines]
    if separator in first:
        try:
            cells = list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
        except csv.Error as error:
            raise DataError(f"{path}: no table can be read ({error})") from None
    found = [(n, [c.strip() for c in row]) for n, row in enumerate(cells, 1) if any(row)]
    header: tuple[str, ...] | None = None
    if found and not any(_is_number(cell) for cell in found[0][1]):
        header = tuple(found.pop(0)[1])
    if not found:
        raise DataError(f"{path}: no row of values in it")
    width = len(header or found[0][1])
    for line, row in found:
        if len(row) != width:
            raise DataError(f"{path}, line {line}: {len(row)} cells, expected {width}")
    if header is None:
        header = next((tuple(choice) for choice in names if len(choice) == width), None)
    return Table(path, header, [row for _, row in found], [line for line, _ in found])


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file.

    Raises:
        DataError: If it cannot be read, or is too large for such a file.
    """
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise DataError(f"{path}: larger than {MAX_TABLE_BYTES} bytes, no file of labels")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    if "\0" in text:
        raise DataError(f"{path}: holds bytes that no text has")
    return text.splitlines()


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
