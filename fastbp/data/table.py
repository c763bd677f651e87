"""Tables: text files of a header line and rows, with commas, semicolons or tabs between the cells (CSV).

A column of numbers is a feature; the targets are a column of numbers, or of texts, which are names of classes.
"""

import csv
import difflib
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from fastbp.data.dataset import DataError, Dataset

DELIMITERS = ",;\t"
BLOCK = 1000  # rows read in one go; 10,000 took twice the time, as they left the cache
MISSING = ("", "?", "na", "n/a", "nan", "null", "none")  # what others write, in small letters
TRUTH = {"true": 1.0, "false": 0.0}
# Which columns are features, and which, if any, the target; of all names in the header.
Choice = Callable[[list[str]], tuple[list[str], str | None]]
Array = npt.NDArray[Any]


def read_table(path: Path, target: str | None = None) -> Dataset:
    """Read a data set from a table; the targets are the column `target`, or else the last one.

    A million rows of ten features and a text took 7 s, on a processor that others used too; the csv module alone, 1 s.
    """

    def choose(names: list[str]) -> tuple[list[str], str | None]:
        chosen = names[-1] if target is None else _known(target, names, path)
        if len(names) == 1:
            raise DataError(f"{path}: has the column {names[0]!r} alone; expected features and a target in columns of "
                            "their own, with commas, semicolons or tabs between them")
        return [name for name in names if name != chosen], chosen

    features, chosen, x, y = _read(path, choose)
    if y is None:
        raise DataError(f"{path}: the column {chosen!r} is empty; expected targets")
    dataset = Dataset(x, y, None, None)
    dataset.features, dataset.target = tuple(features), chosen
    return dataset


def read_table_samples(
    path: Path, n_features: int | None, features: Sequence[str] | None, target: str | None
) -> tuple[Array, Array | None]:
    """Read samples from a table, and their targets if it has them.

    The columns are those named by `features`, in their order; others are left out, but the only other one is the target
    if none is named. If `features` is None, they are all but the target, which is then the last one if there are more
    than `n_features` and none is named.
    """

    def choose(names: list[str]) -> tuple[list[str], str | None]:
        chosen = target if target in names else None
        if features is not None:
            missing = [name for name in features if name not in names]
            if missing:
                raise DataError(f"{path}: has no column {', '.join(map(repr, missing))}, which the network was "
                                f"trained with; found {_listed(names)}")
            others = [name for name in names if name not in features]
            return list(features), others[0] if target is None and len(others) == 1 else chosen
        if target is None and n_features is not None and len(names) > n_features:
            chosen = names[-1]
        return [name for name in names if name != chosen], chosen

    _, _, x, y = _read(path, choose)
    return x, y


def _known(target: str, names: list[str], path: Path) -> str:
    if target in names:
        return target
    near = difflib.get_close_matches(target, names, 1)
    advice = f"did you mean {near[0]!r}? " if near else ""
    raise DataError(f"{path}: has no column {target!r} to be the target; {advice}found {_listed(names)}")


def _listed(names: Sequence[str], most: int = 20) -> str:
    return ", ".join(map(repr, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def _read(path: Path, choose: Choice) -> tuple[list[str], str | None, Array, Array | None]:
    """Return the names of features and target, the features (n, n_features) as float64, and the targets."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = _Table(path, file)
            features, target = choose(table.names)
            where = [table.names.index(name) for name in features]
            blocks: list[Array] = []
            cells: list[str] = []
            for first, columns in table.blocks():
                block = np.empty((len(columns[0]), len(where)))
                for j, column in enumerate(where):
                    block[:, j] = _numbers(columns[column], table, column, first)
                blocks.append(block)
                if target is not None:
                    cells += columns[table.names.index(target)]
            if not blocks:
                raise DataError(f"{path}: has a header line and no rows; expected at least one sample")
            y = None if target is None else _targets(cells, table, table.names.index(target))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text in UTF-8 ({error.reason}); expected a table, saved as UTF-8") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a table with a header line") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a table with a header line") from error
    return features, target, np.concatenate(blocks), y


class _Table:
    """A file with a header line: the names of its columns, the cells of its rows, and where they are."""

    def __init__(self, path: Path, file: TextIO):
        self.path, self.file = path, file
        self.delimiter = max(DELIMITERS, key=lambda delimiter: len(next(self._rows(delimiter, strict=False), [])))
        self.names = [name.strip() for name in next(self._rows(self.delimiter), [])]
        if not self.names:
            raise DataError(f"{path}: its first line is empty; expected the names of the columns")
        for i, name in enumerate(self.names):
            if name == "":
                raise DataError(f"{path}: column {i + 1} has no name in the header line; name it, or leave it out if "
                                "it only counts the rows (pandas: to_csv(index=False))")
            if name in self.names[:i]:
                raise DataError(f"{path}: two columns have the name {name!r}; expected a name of its own for each")
        if all(_number(name) is not None for name in self.names):
            raise DataError(f"{path}: its first line holds numbers, {_listed(self.names, 3)}; expected a header line "
                            "with the names of the columns")

    def _rows(self, delimiter: str, lines: list[int] | None = None, strict: bool = True) -> Iterator[list[str]]:
        """All rows that are not empty, from the first line on; the number of each one's line, if asked for."""
        self.file.seek(0)
        rows = csv.reader(self.file, delimiter=delimiter, strict=strict)
        try:
            for row in rows:
                if row:
                    if lines is not None:
                        lines.append(rows.line_num)
                    yield row
        except csv.Error as error:
            raise DataError(f"{self.path}, line {rows.line_num}: {error}; expected a table as CSV") from None

    def blocks(self) -> Iterator[tuple[int, list[tuple[str, ...]]]]:
        """The number of the first row, counted from 0 below the header line, and the columns of cells."""
        rows, width, first = self._rows(self.delimiter), len(self.names), 0
        next(rows)
        while block := list(islice(rows, BLOCK)):
            if set(map(len, block)) != {width}:
                i = next(i for i, row in enumerate(block) if len(row) != width)
                raise DataError(f"{self.path}, line {self.line(first + i)}: has {len(block[i])} cells, the header line "
                                f"has {width}; expected as many in each line (quote cells that hold the delimiter)")
            yield first, list(zip(*block, strict=True))
            first += len(block)

    def line(self, row: int) -> int:
        """The number of a row's (last) line, counted from 1; found by reading the file again."""
        lines: list[int] = []
        next(islice(self._rows(self.delimiter, lines), row + 1, None))
        return lines[-1]


def _numbers(cells: Sequence[str], table: _Table, column: int, first: int) -> Array:
    """The cells as numbers; true and false, whatever their capitals, as 1 and 0."""
    try:
        numbers = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        numbers = np.array([math.nan if (number := _number(cell)) is None else number for cell in cells])
    good = np.isfinite(numbers)
    if not good.all():
        i = int(np.argmin(good))
        raise _no_number(cells[i], table, column, first + i)
    return numbers


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return TRUTH.get(cell.strip().lower())


def _no_number(cell: str, table: _Table, column: int, row: int) -> DataError:
    place = f"{table.path}, line {table.line(row)}, column {table.names[column]!r}"
    if cell.strip().lower() in MISSING or _number(cell) is not None:
        return DataError(f"{place}: the cell is missing ({cell!r}); fill it with a number, or leave out the line or "
                         "the column")
    return DataError(f"{place}: {cell!r} is no number (with a point before decimals); write the column as numbers, a "
                     "column of 0 and 1 for each of several texts, or leave it out")


def _targets(cells: list[str], table: _Table, column: int) -> Array | None:
    """Whole numbers, numbers, or if most cells are none of these, texts without the blanks around them; None if all
    are empty."""
    kinds = {cell: _is_number(cell) for cell in set(cells)}
    if all(cell.strip() == "" for cell in kinds):
        return None
    for i, cell in enumerate(cells):
        if cell.strip() == "":
            raise _no_number(cell, table, column, i)
    if not any(kinds.values()) or 2 * sum(map(kinds.__getitem__, cells)) <= len(cells):
        return np.array([cell.strip() for cell in cells])
    return _whole(cells) if all(kinds.values()) else _numbers(cells, table, column, 0)


def _whole(cells: list[str]) -> Array:
    """As integers, if all are; otherwise as floats."""
    try:
        return np.array(list(map(int, cells)), np.int64)
    except (ValueError, OverflowError):
        return np.array(list(map(float, cells)))


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False
