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
BLOCK = 10_000  # rows read in one go: only these are in memory as texts
TRUTH = {"true": 1.0, "false": 0.0}
# Which columns are features, and which, if any, the target; of all names in the header.
Choice = Callable[[list[str]], tuple[list[str], str | None]]
Array = npt.NDArray[Any]


def read_table(path: Path, target: str | None = None) -> Dataset:
    """Read a data set from a table; the targets are the column `target`, or else the last one.

    1e6 rows of ten features took 5 s, of which the csv module 1 s and float 1.5 s.
    """

    def choose(names: list[str]) -> tuple[list[str], str | None]:
        chosen = names[-1] if target is None else _known(target, names, path)
        if len(names) == 1:
            raise DataError(f"{path}: has the column {names[0]!r} alone; expected features and a target in columns of "
                            "their own, with commas, semicolons or tabs between them")
        return [name for name in names if name != chosen], chosen

    features, chosen, x, y = _read(path, choose)
    assert y is not None
    dataset = Dataset(x, y, None, None)
    dataset.features, dataset.target = tuple(features), chosen
    return dataset


def read_table_samples(
    path: Path, n_features: int | None, features: Sequence[str] | None, target: str | None
) -> tuple[Array, Array | None]:
    """Read samples from a table, and their targets if it has them.

    The columns are those named by `features`, in their order, and the target is `target` or the only column beside
    them. If `features` is None, there is a target if there are more than `n_features` columns, and it is the last one.
    """

    def choose(names: list[str]) -> tuple[list[str], str | None]:
        chosen = None if target is None else _known(target, names, path)
        if features is not None:
            missing = [name for name in features if name not in names]
            if missing:
                raise DataError(f"{path}: has no column {', '.join(map(repr, missing))}, which the network was "
                                f"trained with; found {_listed(names)}")
            rest = [name for name in names if name not in features]
            return list(features), rest[0] if chosen is None and len(rest) == 1 else chosen
        if chosen is None and n_features is not None and len(names) > n_features:
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
            names, rows = _header_and_rows(file, path)
            features, target = choose(names)
            where = [names.index(name) for name in features]
            blocks: list[Array] = []
            cells: list[str] = []
            lines: list[int] = []
            for block_lines, columns in _blocks(rows, len(names), path):
                block = np.empty((len(block_lines), len(where)))
                for j, column in enumerate(where):
                    block[:, j] = _numbers(columns[column], names[column], block_lines, path)
                blocks.append(block)
                if target is not None:
                    cells += map(str.strip, columns[names.index(target)])
                    lines += block_lines
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text in UTF-8 ({error.reason}); expected a table, saved as UTF-8") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a table with a header line") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a table with a header line") from error
    if not blocks:
        raise DataError(f"{path}: has a header line and no rows; expected at least one sample")
    y = None if target is None or not any(cells) else _targets(cells, target, lines, path)
    return features, target, np.concatenate(blocks), y


def _header_and_rows(file: TextIO, path: Path) -> tuple[list[str], Any]:
    """The names of the columns, and a csv.reader of the rows below, with the delimiter that makes most columns."""
    widest: tuple[list[str], str] = [], ""
    for delimiter in DELIMITERS:
        file.seek(0)
        cells = next(_safely(csv.reader(file, delimiter=delimiter), path), [])
        widest = max(widest, (cells, delimiter), key=lambda found: len(found[0]))
    file.seek(0)
    rows = csv.reader(file, delimiter=widest[1] or ",", strict=True)
    names = [name.strip() for name in next(_safely(rows, path), [])]
    if not names:
        raise DataError(f"{path}: its first line is empty; expected the names of the columns")
    for i, name in enumerate(names):
        if name == "":
            raise DataError(f"{path}: column {i + 1} has no name in the header line; name it, or leave it out if it "
                            "only counts the rows (pandas: to_csv(index=False))")
        if name in names[:i]:
            raise DataError(f"{path}: two columns have the name {name!r}; expected a name of its own for each")
    if all(_number(name) is not None for name in names):
        raise DataError(f"{path}: its first line holds numbers, {_listed(names, 3)}; expected a header line with the "
                        "names of the columns")
    return names, rows


def _safely(rows: Any, path: Path) -> Iterator[list[str]]:
    """The rows of a csv.reader, whose errors name the place."""
    try:
        yield from rows
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num}: {error}; expected a table as CSV") from None


def _blocks(rows: Any, width: int, path: Path) -> Iterator[tuple[list[int], list[tuple[str, ...]]]]:
    """Numbers of lines, and the columns of their cells; empty lines are left out."""
    safe = _safely(rows, path)
    while block := [(rows.line_num, row) for row in islice(safe, BLOCK)]:
        full = [(line, row) for line, row in block if row]
        for line, row in full:
            if len(row) != width:
                raise DataError(f"{path}, line {line}: has {len(row)} cells, the header line has {width}; expected as "
                                "many in each line (quote cells that hold the delimiter)")
        if full:
            yield [line for line, _ in full], list(zip(*(row for _, row in full), strict=True))


def _numbers(cells: Sequence[str], name: str, lines: Sequence[int], path: Path) -> Array:
    """The cells as numbers; true and false, whatever their capitals, as 1 and 0."""
    try:
        numbers = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        numbers = np.array([number if (number := _number(cell)) is not None else math.nan for cell in cells])
    good = np.isfinite(numbers)
    if not good.all():
        i = int(np.argmin(good))
        raise _no_number(cells[i], name, lines[i], path)
    return numbers


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return TRUTH.get(cell.strip().lower())


def _no_number(cell: str, name: str, line: int, path: Path) -> DataError:
    place = f"{path}, line {line}, column {name!r}"
    if cell.strip() == "" or _number(cell) is not None or cell.strip().lower() in ("na", "n/a", "null", "none", "?"):
        return DataError(f"{place}: the cell is missing ({cell!r}); fill it with a number, or leave out the line or "
                         "the column")
    return DataError(f"{place}: {cell!r} is no number (with a point before decimals); write the column as numbers, a "
                     "column of 0 and 1 for each of several texts, or leave it out")


def _targets(cells: list[str], name: str, lines: list[int], path: Path) -> Array:
    """Whole numbers, numbers, or if most cells are none of these, texts."""
    if "" in cells:
        raise DataError(f"{path}, line {lines[cells.index('')]}, column {name!r}: the target is missing; fill it or "
                        "leave out the line")
    try:
        return np.array(list(map(int, cells)), np.int64)
    except (ValueError, OverflowError):
        pass
    others = [i for i, cell in enumerate(cells) if not _is_number(cell)]
    if not others:
        return np.array(list(map(float, cells)))
    if 2 * len(others) < len(cells):
        raise _no_number(cells[others[0]], name, lines[others[0]], path)
    return np.array(cells)


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False
