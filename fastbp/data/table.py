"""Tables: text files of a header line and rows, with commas, semicolons or tabs between the cells (CSV).

A column of numbers is a feature; the targets are a column of numbers, or of texts, which are names of classes. A first
line with numbers in it is no header line but a sample, unless what is below it says otherwise: see `_is_header`.
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
FIRST = 20  # rows that tell which delimiter it is
BLOCK = 1000  # rows read in one go; 10,000 took twice the time, as they left the cache
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
FEWEST_NUMBERED = 4  # columns called 0, 1, 2, ..., as pandas does: fewer numbers in a row may be a sample
TRUTH = {"true": 1.0, "false": 0.0}
# Which columns are features, and which, if any, the target; of all names, and whether a header line says them.
Choice = Callable[[list[str], bool], tuple[list[str], str | None]]
Array = npt.NDArray[Any]


def read_table(path: Path, target: str | None = None, classes: bool = False) -> Dataset:
    """Read a data set from a table; the targets are the column `target`, or else the last one. classes: texts among
    them, however few, make them all names of classes.

    A million rows of ten features and a text took 7 s, on a processor that others used too; the csv module alone, 1 s.
    """

    def choose(names: list[str], has_header: bool) -> tuple[list[str], str | None]:
        chosen = names[-1] if target is None else _known(target.strip(), names, path)
        if len(names) == 1:
            raise DataError(f"{path}: has the column {names[0]!r} alone; expected features and a target in columns of "
                            "their own, with commas, semicolons or tabs between them")
        return [name for name in names if name != chosen], chosen

    other = "" if target is not None else ("; or, if it is what to predict, name it as the target (in the command: "
                                           "--target {!r})")
    table, features, chosen, x, y = _read(path, choose, other, classes)
    if y is None:
        raise DataError(f"{path}: the column {chosen!r} is empty; expected targets")
    dataset = Dataset(x, y, None, None)
    dataset.features, dataset.target, dataset.has_header = tuple(features), chosen, table.has_header
    return dataset


def read_table_samples(
    path: Path, n_features: int | None, features: Sequence[str] | None, target: str | None,
    classes: Sequence[str] | None = None
) -> tuple[Array, Array | None]:
    """Read samples from a table, and their targets if it has them.

    The columns are those named by `features`, in their order; others are left out, but for the target: that which is
    named, or the only other one if it holds none but names of `classes`. If `features` is None, they are all but the
    target, which is then the last one if there are more than `n_features` and none is named. Without a header line as
    many columns as features are the features, and one more the target. Blanks around names do not count.
    """
    names_of_classes = set(classes or ())
    guessed = False
    features, target = features and [name.strip() for name in features], target and target.strip()

    def choose(names: list[str], has_header: bool) -> tuple[list[str], str | None]:
        nonlocal guessed
        chosen = target if target in names else None
        if features is not None:
            missing = [name for name in features if name not in names]
            without = set(features) <= set(_numbered(len(features) + 1))  # the table it was trained on had none
            if without and not has_header and len(names) == len(features):
                return names, None
            if missing and not has_header:
                raise DataError(f"{path}: its first line holds numbers and so is no header line; expected one with "
                                f"the columns that the network was trained with: {_listed(features)}")
            if missing:
                raise DataError(f"{path}: has no column {', '.join(map(repr, missing))}, which the network was "
                                f"trained with; found {_listed(names)}"
                                + ("; that table had no header line, so leave it out here, too" if without else ""))
            others = [name for name in names if name not in features]
            if target is None and len(others) == 1:
                chosen, guessed = others[0], not without
            return list(features), chosen
        if target is None and n_features is not None and len(names) > n_features:
            chosen = names[-1]
        return [name for name in names if name != chosen], chosen

    def is_target(cells: list[str]) -> bool:
        return not guessed or {cell.strip() for cell in cells} <= names_of_classes

    table, _, _, x, y = _read(path, choose, classes=classes is not None, is_target=is_target, known=features)
    if not table.has_header and sorted(x[0].tolist()) == list(range(x.shape[1])) and x.shape[1] > 1:
        warnings.warn(f"{path}: its first line holds the numbers 0 to {x.shape[1] - 1} and is taken for a sample; if "
                      "they only count the columns, leave it out", stacklevel=level_of_caller())
    return x, y


def _numbered(n: int) -> list[str]:
    """What the columns are called where no header line says it."""
    return [f"column{j + 1}" for j in range(n)]


def _known(target: str, names: list[str], path: Path) -> str:
    if target in names:
        return target
    near = difflib.get_close_matches(target, names, 1)
    advice = f"did you mean {near[0]!r}? " if near else ""
    raise DataError(f"{path}: has no column {target!r} to be the target; {advice}found {_listed(names)}")


def _listed(names: Sequence[str], most: int = 20) -> str:
    return ", ".join(map(repr, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def _read(path: Path, choose: Choice, other: str = "", classes: bool = False,
          is_target: Callable[[list[str]], bool] = lambda cells: True, known: Sequence[str] | None = None
          ) -> tuple["_Table", list[str], str | None, Array, Array | None]:
    """Return the table, the names of features and target, the features (n, n_features) as float64, and the targets.

    other: what else to do about a text among the features, with {!r} for the name of its column; classes: see
    `read_table`; is_target: whether the cells of the target's column are targets, else there are none;
    known: names of columns, which a header line holds.
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
        raise DataError(f"{path}: is no text in UTF-8 ({error.reason}); expected a table, saved as UTF-8") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a table") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a table") from error
    return table, features, target, np.concatenate(blocks), y


class _Table:
    """A file of rows: the names of its columns, the cells below the header line if there is one, and where they are."""

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
                raise DataError(f"{path}: two columns have the name {name!r}; expected a name of its own for each")

    def _fits(self, delimiter: str) -> tuple[bool, float, bool, int]:
        """How well a delimiter splits the first rows, larger is better: whether it is the tab of a .tsv; what share of
        the rows have as many cells as the first; whether it leaves numbers with decimal commas whole; how many cells.
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

        Without a number in it, it does, or with all names that are known of columns. With a number it does if a text
        stands over a column of numbers, or if its numbers are those of their columns, counted from 0.
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
        """All rows that are not blank, from the first line on; the number of each one's line, if asked for."""
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
        """The number of the first row, counted from 0 below the header line, and the columns of cells."""
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
        """The number of a row's (last) line, counted from 1; found by reading the file again."""
        lines: list[int] = []
        next(islice(self._rows(self.delimiter, lines), row + self.has_header, None))
        return lines[-1]


def _numbers(cells: Sequence[str], table: _Table, column: int, first: int) -> Array:
    """The cells as numbers; true and false, whatever their capitals, as 1 and 0."""
    try:
        numbers = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        numbers = np.array([math.nan if (number := _number(cell)) is None else number for cell in cells])
    good = np.isfinite(numbers)
    if "_" in "".join(cells):  # float reads 1_000
        good &= ["_" not in cell for cell in cells]
    if not good.all():
        i = int(np.argmin(good))
        raise _no_number(cells[i], table, column, first + i)
    return numbers


def _number(cell: str) -> float | None:
    """What a cell says, if it is a number or a truth value."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return TRUTH.get(cell.strip().lower())


def _place(table: _Table, column: int, row: int) -> str:
    return f"{table.path}, line {table.line(row)}, column {table.names[column]!r}"


def _no_number(cell: str, table: _Table, column: int, row: int) -> DataError:
    """What is wrong with a cell."""
    name, place = table.names[column], _place(table, column, row)
    if cell.strip() in MISSING:
        return DataError(f"{place}: the cell is missing ({cell!r}); fill it with a number, or leave out the line or "
                         "the column")
    if _number(cell) is not None:
        return DataError(f"{place}: {cell!r} is not finite; expected a number of at most 1.8e308, or leave out the "
                         "line or the column")
    return DataError(f"{place}: {cell!r} is no number (with a point before decimals); write the column as numbers, a "
                     "column of 0 and 1 for each of several texts, or leave it out" + table.other.format(name))


def _targets(cells: list[str], table: _Table, column: int, classes: bool) -> Array | None:
    """Whole numbers, numbers, or if half of the cells are none, or one is and they are names of classes, texts without
    the blanks around them; None if all are missing."""
    kinds = {cell: _is_number(cell) for cell in set(cells)}
    missing = {cell for cell in kinds if cell.strip() in MISSING}
    if len(missing) == len(kinds):
        return None
    if missing:
        rows = [i for i, cell in enumerate(cells) if cell in missing]
        several = f", the first of {len(rows):,} in this column" if len(rows) > 1 else ""
        raise DataError(f"{_place(table, column, rows[0])}: the target is missing ({cells[rows[0]]!r}){several}; fill "
                        "it, or leave out the line; a class of that name needs another one")
    if all(kinds.values()):
        return _whole(cells)
    if classes or 2 * sum(map(kinds.__getitem__, cells)) <= len(cells):
        return np.array([cell.strip() for cell in cells])
    row = next(i for i, cell in enumerate(cells) if not kinds[cell])
    if _number(cells[row]) is None:
        raise DataError(f"{_place(table, column, row)}: {cells[row]!r} is no number, as most of the targets are; write "
                        "it as one, or leave out the line; or, if they are names of classes, say so (in the command: "
                        "--task classes)")
    return _numbers(cells, table, column, 0)


def _whole(cells: list[str]) -> Array:
    """As integers, if all are; otherwise as floats."""
    try:
        return np.array(list(map(int, cells)), np.int64)
    except (ValueError, OverflowError):
        return np.array(list(map(float, cells)))


def _is_number(cell: str) -> bool:
    """Whether it is a finite one; truth values are texts here."""
    try:
        return "_" not in cell and math.isfinite(float(cell))
    except ValueError:
        return False
