"""Tables: text files with a header line and rows, with commas, semicolons or tabs between the cells (CSV).

Features are columns of numbers; the targets are a column of numbers, or of text, which names classes. A first line that
contains numbers is a sample, not a header line, unless the rows below contradict: see `_is_header`.
"""

import csv
import difflib
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from fastbp.checks import counted, level_of_caller
from fastbp.data.dataset import MISSING, DataError, Dataset

DELIMITERS = ",;\t"
FIRST = 20  # rows that decide which delimiter it is
BLOCK = 1000  # rows read at a time; 10,000 took twice the time, as they do not fit the cache
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
FEWEST_NUMBERED = 4  # least number of columns called 0, 1, 2, ..., as in pandas: a shorter row may be a sample
TRUTH = {"true": 1.0, "false": 0.0}
# Chooses the columns of features and, if any, of the target, from all names and whether a header line gives them.
Choice = Callable[[list[str], bool], tuple[list[str], str | None]]
Array = npt.NDArray[Any]


def read_table(path: Path, target: str | None = None, classes: bool = False) -> Dataset:
    """Read a data set from a table; the targets are the column `target`, or else the last one. classes: whether any
    text among them makes them all names of classes.

    A million rows of ten features and a text column took 7 s on a shared processor; the csv module alone, 1 s.
    """
    other = "" if target is not None else ("; or, if it is what to predict, name it as the target (in the command: "
                                           "--target {!r})")
    target = target and target.strip()
    table, features, chosen, x, y = _read(path, lambda names, _: to_train(names, target, path), other, classes)
    if y is None:
        raise DataError(f"{path}: the column {chosen!r} is empty; expected targets")
    dataset = Dataset(x, y, None, None)
    dataset.features, dataset.target, dataset.has_header = tuple(features), chosen, table.has_header
    return dataset


def to_train(names: list[str], target: str | None, path: Path) -> tuple[list[str], str]:
    """Return the columns of features, and that of the targets: `target`, or else the last one."""
    chosen = names[-1] if target is None else known(target, names, path)
    if len(names) == 1:
        raise DataError(f"{path}: has only the column {names[0]!r}; expected features and a target in columns of "
                        "their own" + ", with commas, semicolons or tabs between them" * (path.suffix != ".parquet"))
    return [name for name in names if name != chosen], chosen


def read_table_samples(
    path: Path, n_features: int | None, features: Sequence[str] | None, target: str | None,
    classes: Sequence[str] | None = None
) -> tuple[Array, Array | None]:
    """Read samples from a table, and their targets if it has them.

    The columns in `features` are taken, in this order. The target is the column `target`, or else the only other column
    if it holds nothing but names of `classes`. If `features` is None, all columns but the target are taken; if `target`
    is None, too, the last column is the target if there are more than `n_features`. Without a header line, the first
    columns are the features, and one more column is the target. Blanks around names are ignored.
    """
    guessed = False
    features, target = features and [name.strip() for name in features], target and target.strip()

    def choose(names: list[str], has_header: bool) -> tuple[list[str], str | None]:
        nonlocal guessed
        taken, chosen, guessed = to_predict(names, has_header, path, n_features, features, target)
        return taken, chosen

    def is_target(cells: list[str]) -> bool:
        return not guessed or {cell.strip() for cell in cells} <= set(classes or ())

    table, _, _, x, y = _read(path, choose, classes=classes is not None, is_target=is_target, known=features)
    if not table.has_header and sorted(x[0].tolist()) == list(range(x.shape[1])) and x.shape[1] > 1:
        warnings.warn(f"{path}: its first line holds the numbers 0 to {x.shape[1] - 1} and is read as a sample; if "
                      "they only count the columns, remove it", stacklevel=level_of_caller())
    return x, y


def to_predict(names: list[str], has_header: bool, path: Path, n_features: int | None,
               features: Sequence[str] | None, target: str | None) -> tuple[list[str], str | None, bool]:
    """Return the columns of features, that of the targets, if any, and whether it is a guess that they are targets; see
    `read_table_samples`."""
    chosen = target if target in names else None
    if features is None:
        if target is None and n_features is not None and len(names) > n_features:
            chosen = names[-1]
        return [name for name in names if name != chosen], chosen, False
    missing = [name for name in features if name not in names]
    without = set(features) <= set(_numbered(len(features) + 1))  # the table of the training had no header line
    if without and not has_header and len(names) == len(features):
        return names, None, False
    if missing and not has_header:
        raise DataError(f"{path}: its first line holds numbers, so it is not a header line; expected one with the "
                        f"columns that the network was trained with: {_listed(features)}")
    if missing:
        raise DataError(f"{path}: has no column {', '.join(map(repr, missing))}, which the network was trained with; "
                        f"found {_listed(names)}"
                        + ("; that table had no header line: remove it here, too" if without else ""))
    others = [name for name in names if name not in features]
    if target is None and len(others) == 1:
        return list(features), others[0], not without
    return list(features), chosen, False


def _numbered(n: int) -> list[str]:
    """Return the names of columns without a header line."""
    return [f"column{j + 1}" for j in range(n)]


def known(target: str, names: Sequence[str], path: Path, what: str = "column") -> str:
    """Return the target if it is one of the names; raise DataError if not."""
    if target in names:
        return target
    near = difflib.get_close_matches(target, names, 1)
    advice = f"did you mean {near[0]!r}? " if near else ""
    raise DataError(f"{path}: has no {what} {target!r} for the target; {advice}found {_listed(names)}")


def _listed(names: Sequence[str], most: int = 20) -> str:
    return ", ".join(map(repr, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def _read(path: Path, choose: Choice, other: str = "", classes: bool = False,
          is_target: Callable[[list[str]], bool] = lambda cells: True, known: Sequence[str] | None = None
          ) -> tuple["_Table", list[str], str | None, Array, Array | None]:
    """Return the table, the names of features and target, the features (n, n_features) as float64, and the targets.

    other: further advice about text among the features, with {!r} for the name of its column; classes: see
    `read_table`; is_target: tells whether the cells of the target's column are targets; otherwise there are none;
    known: names of columns that show that a line is a header line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = _Table(path, file, other, known)
            features, target = choose(table.names, table.has_header)
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
            y = None
            if target is not None and is_target(cells):
                y = _targets(cells, table, table.names.index(target), classes)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text in UTF-8 ({error.reason}); expected a table, saved as UTF-8") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a table") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a table") from error
    return table, features, target, np.concatenate(blocks), y


class _Table:
    """A file of rows: the names of its columns, the cells below the header line, if any, and their line numbers."""

    def __init__(self, path: Path, file: TextIO, other: str = "", known: Sequence[str] | None = None):
        self.path, self.file, self.other, self.known = path, file, other, known
        self.delimiter = max(DELIMITERS, key=self._fits)
        first = [name.strip() for name in next(self._rows(self.delimiter), [])]
        if not first:
            raise DataError(f"{path}: its first line is empty; expected the names of the columns")
        self.width = len(first)
        self.ends_with_delimiter = len(first) > 2 and first[-1] == ""
        if self.ends_with_delimiter:  # its column must be empty all the way: see `blocks`
            first.pop()
        self.has_header = self._is_header(first)
        self.names = first if self.has_header else _numbered(len(first))
        for i, name in enumerate(self.names):
            if name == "":
                raise self._no_name(i)
            if name in self.names[:i]:
                raise DataError(f"{path}: two columns have the name {name!r}; expected different names")

    def _fits(self, delimiter: str) -> tuple[bool, float, bool, int]:
        """Return how well a delimiter splits the first rows, larger is better: is it the tab of a .tsv; the share of
        rows with as many cells as the first; whether decimal commas stay within cells; the number of cells.
        """
        rows = list(islice(self._rows(delimiter, strict=False), FIRST))
        n = len(rows[0]) if rows else 0
        if n < 2:
            return False, 0.0, False, n
        share = sum(len(row) == n for row in rows) / len(rows)
        decimal = any(DECIMAL_COMMA.fullmatch(cell.strip()) for row in rows if len(row) == n for cell in row)
        return delimiter == "\t" and self.path.suffix.lower() == ".tsv", share, decimal, n

    def _no_name(self, column: int) -> DataError:
        if not self.has_header:
            return DataError(f"{self.path}: its first line ends with an empty cell, others do not; fill it, or leave "
                             "out the line")
        return DataError(f"{self.path}: column {column + 1} has no name in the header line; name it, or leave it out "
                         "if it only counts the rows (pandas: to_csv(index=False))")

    def _is_header(self, first: list[str]) -> bool:
        """Whether the first line holds names.

        It does if it contains no number, or if it contains all known names of columns. A line with numbers does if it
        has text above a column of numbers, or if its numbers count the columns from 0.
        """
        numbers = [j for j, cell in enumerate(first) if _is_number(cell) or cell.lower() in TRUTH]
        if not numbers or (self.known and set(self.known) <= set(first)):
            return True
        if len(numbers) >= FEWEST_NUMBERED and all(first[j] == str(j) for j in numbers):
            return True
        texts = [j for j, cell in enumerate(first) if _number(cell) is None and cell not in MISSING]
        rows = [row for row in islice(self._rows(self.delimiter), 1, BLOCK if texts else 1) if len(row) == self.width]
        below = [[row[j] for row in rows if row[j].strip() not in MISSING] for j in texts]
        return any(cells and None not in map(_number, cells) for cells in below)

    def _rows(self, delimiter: str, lines: list[int] | None = None, strict: bool = True) -> Iterator[list[str]]:
        """Yield all rows that are not blank, from the first line on; append their line numbers to `lines`, if given."""
        self.file.seek(0)
        rows = csv.reader(self.file, delimiter=delimiter, strict=strict)
        try:
            for row in rows:
                if row and (len(row) > 1 or row[0].strip()):
                    if lines is not None:
                        lines.append(rows.line_num)
                    yield row
        except csv.Error as error:
            raise DataError(f"{self.path}, line {rows.line_num}: {error}; expected a table as CSV") from None

    def blocks(self) -> Iterator[tuple[int, list[tuple[str, ...]]]]:
        """Yield blocks: the index of the first row, counted from 0 below the header line, and the columns of cells."""
        rows, first = islice(self._rows(self.delimiter), int(self.has_header), None), 0
        while block := list(islice(rows, BLOCK)):
            if set(map(len, block)) != {self.width}:
                i = next(i for i, row in enumerate(block) if len(row) != self.width)
                raise DataError(f"{self.path}, line {self.line(first + i)}: has {counted(len(block[i]), 'cell')}, the "
                                f"{'header' if self.has_header else 'first'} line has {self.width}; expected as many "
                                "in each line (quote cells that hold the delimiter)")
            columns = list(zip(*block, strict=True))
            if self.ends_with_delimiter and any(map(str.strip, columns.pop())):
                raise self._no_name(self.width - 1)
            yield first, columns
            first += len(block)

    def line(self, row: int) -> int:
        """Return the number of a row's (last) line, counted from 1, by reading the file again."""
        lines: list[int] = []
        next(islice(self._rows(self.delimiter, lines), row + self.has_header, None))
        return lines[-1]


def _numbers(cells: Sequence[str], table: _Table, column: int, first: int) -> Array:
    """Return the cells as numbers; true and false, in any case, as 1 and 0."""
    try:
        numbers = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        numbers = np.array([math.nan if (number := _number(cell)) is None else number for cell in cells])
    good = np.isfinite(numbers)
    if "_" in "".join(cells):  # float accepts 1_000
        good &= ["_" not in cell for cell in cells]
    if not good.all():
        i = int(np.argmin(good))
        raise _no_number(cells[i], table, column, first + i)
    return numbers


def _number(cell: str) -> float | None:
    """Return the value of a cell if it is a number, true or false; else None."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return TRUTH.get(cell.strip().lower())


def _place(table: _Table, column: int, row: int) -> str:
    return f"{table.path}, line {table.line(row)}, column {table.names[column]!r}"


def _no_number(cell: str, table: _Table, column: int, row: int) -> DataError:
    """Return the error for a cell that is not a finite number."""
    name, place = table.names[column], _place(table, column, row)
    if cell.strip() in MISSING:
        return DataError(f"{place}: the cell is missing ({cell!r}); fill it with a number, or leave out the line or "
                         "the column")
    if _number(cell) is not None:
        return DataError(f"{place}: {cell!r} is not finite; expected a number of at most 1.8e308, or leave out the "
                         "line or the column")
    return DataError(f"{place}: {cell!r} is not a number (with a decimal point); write the column as numbers, as a "
                     "column of 0 and 1 for each of several texts, or leave it out" + table.other.format(name))


def _targets(cells: list[str], table: _Table, column: int, classes: bool) -> Array | None:
    """Return integers, floats or stripped strings; None if all cells are missing.

    Strings if half of the cells are not numbers, or, if they are names of classes, if one is not."""
    kinds = {cell: _is_number(cell) for cell in set(cells)}
    missing = {cell for cell in kinds if cell.strip() in MISSING}
    if len(missing) == len(kinds):
        return None
    if missing:
        rows = [i for i, cell in enumerate(cells) if cell in missing]
        several = f", the first of {len(rows):,} in this column" if len(rows) > 1 else ""
        raise DataError(f"{_place(table, column, rows[0])}: the target is missing ({cells[rows[0]]!r}){several}; fill "
                        "it, or leave out the line; a class with that name must be renamed")
    if all(kinds.values()):
        return _whole(cells)
    if classes or 2 * sum(map(kinds.__getitem__, cells)) <= len(cells):
        return np.array([cell.strip() for cell in cells])
    row = next(i for i, cell in enumerate(cells) if not kinds[cell])
    if _number(cells[row]) is None:
        raise DataError(f"{_place(table, column, row)}: {cells[row]!r} is not a number, but most of the targets are; "
                        "write it as a number, or leave out the line; or, if they are names of classes, say so (in the "
                        "command: --task classes)")
    return _numbers(cells, table, column, 0)


def _whole(cells: list[str]) -> Array:
    """Return cells as integers if all are whole numbers; otherwise as floats."""
    try:
        return np.array(list(map(int, cells)), np.int64)
    except (ValueError, OverflowError):
        return np.array(list(map(float, cells)))


def _is_number(cell: str) -> bool:
    """Whether a cell is a finite number; true and false count as text here."""
    try:
        return "_" not in cell and math.isfinite(float(cell))
    except ValueError:
        return False
