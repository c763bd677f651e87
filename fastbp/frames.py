"""Conversion of what users pass to arrays of numbers or of names: frames of pandas, Polars and PyArrow, recognized by
their methods and never imported, and everything that NumPy can read."""

from __future__ import annotations

import datetime
import numbers
import warnings
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import counted, level_of_caller

Array = npt.NDArray[Any]
REAL = "buif"  # kinds of dtypes that are real numbers
MISSING = ("NoneType", "NAType", "NaTType")  # types of None, pandas.NA and NaT
BLOCK = 1 << 20  # numbers checked at a time: a large or memory-mapped array needs little extra memory


class Frame:
    """A table with labelled columns, in the order given by `order`.

    pandas.DataFrame, polars.DataFrame, pyarrow.Table and RecordBatch, and objects with the methods of one of them.
    """

    def __init__(self, frame: Any, order: list[int] | None = None):
        self.frame, self.order = frame, order
        given = tuple(frame.column_names if hasattr(frame, "column_names") else frame.columns)
        self.labels: tuple[Any, ...] = given if order is None else tuple(given[j] for j in order)

    def names(self, name: str) -> tuple[str, ...]:
        """Return the labels as strings, several levels joined by "_"; raise ValueError if two are the same."""
        texts = tuple("_".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in self.labels)
        if len(set(texts)) < len(texts):
            twice = next(one for one, count in Counter(texts).items() if count > 1)
            same = [label for label, text in zip(self.labels, texts, strict=True) if text == twice]
            what = (f"{len(same)} columns {same[0]!r}" if len(set(same)) == 1 else
                    f"columns {' and '.join(map(repr, dict.fromkeys(same)))}, which are the same as strings")
            raise ValueError(f"{name} has {what}: give each column a name of its own")
        return texts

    @property
    def places(self) -> list[int] | None:
        """Return the positions of the columns labelled 0, 1, ..., if these are all the labels; otherwise None."""
        if not all(isinstance(label, (numbers.Real, np.bool_)) for label in self.labels):
            return None
        if sorted(self.labels) != list(range(len(self.labels))):
            return None
        return sorted(range(len(self.labels)), key=self.labels.__getitem__)

    def numbers(self, name: str) -> Array:
        """Return the numbers (n, columns): without a copy if all columns share a NumPy dtype, else in a dtype for all
        of them."""
        types = set(getattr(self.frame, "dtypes", ())) if hasattr(self.frame, "iloc") else set()
        if len(types) == 1 and all(isinstance(one, np.dtype) and one.kind in REAL for one in types):
            whole = np.asarray(self.frame.to_numpy())
            return whole if self.order is None else whole[:, self.order]
        columns = [_numbers(self._column(j), name, label, False, self.frame) for j, label in enumerate(self.labels)]
        whole = np.empty((len(self.frame), len(columns)), np.result_type(*columns) if columns else np.float64)
        for j, column in enumerate(columns):
            if column.ndim != 1:
                raise TypeError(f"{_subject(name, self.labels[j])} must hold a number in each row, got arrays")
            whole[:, j] = column
        return whole

    def only_column(self, name: str, text: bool) -> Array:
        """Return the numbers (n,) of the only column, or names if `text`."""
        return _numbers(self._column(0), name, self.labels[0], text, self.frame)

    def _column(self, j: int) -> Any:
        j = j if self.order is None else self.order[j]
        if hasattr(self.frame, "iloc"):
            return self.frame.iloc[:, j]
        column = self.frame.to_series(j) if hasattr(self.frame, "to_series") else self.frame.column(j)
        if hasattr(getattr(column, "type", None), "index_type"):  # a dictionary of Arrow
            # NumPy would see other words in place of missing ones (PyArrow 26).
            return column.cast(column.type.value_type)
        return column


def is_frame(x: Any) -> bool:
    """Whether x has labelled columns."""
    if hasattr(x, "iloc"):
        return bool(x.ndim == 2)
    return hasattr(x, "column_names") or hasattr(x, "get_columns")


def labels_of(x: Any) -> tuple[Any, ...] | None:
    """Return the labels of a frame's columns, or that of a pandas Series; None for everything else."""
    if is_frame(x):
        return Frame(x).labels
    label = getattr(x, "name", None) if hasattr(x, "iloc") else None
    return None if label is None else (label,)


def array_of(x: Any, name: str, text: bool = False) -> Array:
    """Return an array of real numbers; if `text` and x holds text, an array of names (dtype str).

    Raises TypeError if x holds something else, ValueError if values are missing or rows differ in length.
    """
    if is_frame(x):
        frame = Frame(x)
        return frame.only_column(name, text) if len(frame.labels) == 1 else frame.numbers(name)
    labels = labels_of(x)
    return _numbers(x, name, None if labels is None else labels[0], text, x)


def warn_of_other_rows(given: Mapping[str, Any], warned_of: set[str] | None = None) -> None:
    """Warn if the index of the first of some pandas objects has the same labels as another's, but in another order.

    Rows are paired by position nevertheless: labels may be no more than former positions. given: the objects, by their
    names in messages; warned_of: names that were warned of before, which are skipped.
    """
    indexed = {name: x for name, x in given.items() if hasattr(getattr(x, "index", None), "equals")}
    if len(indexed) < 2 or (warned_of is not None and "rows" in warned_of):
        return
    (first, x), *others = indexed.items()
    differ = [name for name, other in others if _in_another_order(x.index, other.index)]
    if differ:
        if warned_of is not None:
            warned_of.add("rows")
        own, theirs = _variable(first), list(map(_variable, differ))
        how = (", ".join(f"{one} = {one}.loc[{own}.index]" for one in theirs) if x.index.is_unique
               else "bring them into one order")
        warnings.warn(f"the index of {' and of '.join(differ)} has the labels of the index of {first} in another "
                      f"order, but rows are paired by position: {how}; or, if the rows are in one order, "
                      "reset_index(drop=True) for each", stacklevel=level_of_caller())


def _in_another_order(one: Any, other: Any) -> bool:
    """Whether two indexes hold the same labels in different order. Labels are hashed only if the indexes differ."""
    if one is other or len(one) != len(other) or one.equals(other) or one.nlevels != other.nlevels:
        return False
    return bool(one.isin(other).all() and other.isin(one).all())


def check_finite(array: Array, dtype: np.dtype[Any], name: str, columns: tuple[Any, ...] | None = None,
                  given: Any = None) -> None:
    """Raise ValueError unless every number is finite as a `dtype`; columns: their labels in the frame `given`."""
    if array.dtype.kind != "f" or array.shape[1] == 0:
        return
    rows = max(1, BLOCK // array.shape[1])
    limit, may_exceed = np.finfo(dtype).max, array.dtype.itemsize > dtype.itemsize
    for first in range(0, len(array), rows):
        block = array[first : first + rows]
        good = np.abs(block) <= limit if may_exceed else np.isfinite(block)  # in 0.4 of the time
        if not good.all():
            i, j = np.argwhere(~good)[0]
            i, value = first + i, array[first + i, j]
            if columns is not None and np.isnan(value):
                raise _missing(name, columns[j], int(np.isnan(array[:, j]).sum()), given)
            where = f"{name}[{i}, {j}]" if columns is None else f"{name}: row {i} of column {columns[j]!r}"
            raise not_finite(where, value, dtype)


def not_finite(where: str, value: Any, dtype: np.dtype[Any]) -> ValueError:
    """Return the error for a number that a `dtype` cannot hold."""
    return ValueError(f"{where} is {value}; every number must be finite and at most {np.finfo(dtype).max:.4g}, the "
                      f"largest {dtype}")


def _missing(name: str, label: Any, count: int, given: Any = None, where: str = "") -> ValueError:
    """Return the error for missing values in a column."""
    what = counted(count, "missing value")
    method = next((one for one in ("fillna", "fill_null") if hasattr(given, one)), None)
    how = "" if method is None else f" ({_variable(name)}.{method})"
    return ValueError(f"{_subject(name, label)} has {what}{where}: fill them{how} or leave those rows out")


def _numbers(x: Any, name: str, label: Any, text: bool, given: Any) -> Array:
    """Return the numbers of an array, or of a column of the frame `given`."""
    dtype: Any = getattr(x, "dtype", None)
    if hasattr(dtype, "categories") and not text:
        raise TypeError(f"{_subject(name, label)} holds categories: {_encode(name, label, given)}")
    array = _read(x, name, label, given)
    if array.dtype.kind in REAL:
        return array
    if array.ndim == 0:
        raise TypeError(f"{_subject(name, label)} must be an array of numbers, got "
                        f"{'None' if x is None else type(x).__name__}")
    if array.dtype.kind == "O":
        return _of_objects(array, name, label, text, given)
    if array.dtype.kind == "S":  # byte strings, as h5py and others read text
        array = np.char.decode(array, "utf-8")
    if array.dtype.kind in "UT":
        if text:  # astype knows no width for NumPy's strings of variable length
            return array if array.dtype.kind == "U" else np.array(array.tolist(), str)
        raise _holds_text(str(array.flat[0]) if array.size else "", name, label, given)
    raise _no_number(array, name, label)


def _read(x: Any, name: str, label: Any, given: Any) -> Array:
    if hasattr(x, "toarray") and hasattr(x, "nnz"):
        raise TypeError(f"{name} is sparse ({type(x).__name__}), but must be dense here: give "
                        f"{_variable(name)}.toarray()")
    if np.ma.is_masked(x):
        raise ValueError(f"{name} has masked values; fill them or leave their samples out")
    dtype: Any = getattr(x, "dtype", None)
    if hasattr(dtype, "numpy_dtype") and dtype.kind in REAL:  # a dtype of pandas, which NumPy may see as objects
        if count := int(np.sum(np.asarray(x.isna()))):
            raise _missing(name, label, count, given)
        return np.asarray(x.to_numpy(dtype=dtype.numpy_dtype))
    try:
        return np.asarray(x)
    except ValueError as error:
        raise ValueError(_ragged(x, name) or f"{name} cannot be read as an array: {error}") from None
    except (TypeError, RuntimeError) as error:
        raise TypeError(f"{name} cannot be read as an array: {error}") from None


def _ragged(x: Any, name: str) -> str:
    """Return the message about rows of different lengths; empty if they are equal."""
    lengths = [len(row) if hasattr(row, "__len__") else None for row in x] if isinstance(x, (list, tuple)) else []
    odd = next((i for i, length in enumerate(lengths) if length != lengths[0]), None)
    if odd is None:
        return ""
    first, other = ("is a single number" if lengths[i] is None else f"has length {lengths[i]}" for i in (0, odd))
    return f"{name} must have rows of one length: row 0 {first}, row {odd} {other}"


def _of_objects(array: Array, name: str, label: Any, text: bool, given: Any) -> Array:
    """Return the numbers or names of an array of Python objects."""
    subject = _subject(name, label)
    values = array.ravel().tolist()
    kinds = set(map(type, values))
    words = {kind for kind in kinds if issubclass(kind, str)}
    if words and not text:
        raise _holds_text(next(value for value in values if isinstance(value, str)), name, label, given)
    if words or any(kind.__name__ in MISSING for kind in kinds):
        lacking = [i for i, value in enumerate(values) if type(value).__name__ in MISSING or value != value]
        if lacking:
            first = np.unravel_index(lacking[0], array.shape)
            where = f", {values[lacking[0]]} in row {first[0]}" + (f", column {first[1]}" if len(first) == 2 else "")
            raise _missing(name, label, len(lacking), given, where)
    if kinds and kinds == words:
        return array.astype(str)
    odd = next((value for value in values if not isinstance(value, (numbers.Real, np.bool_, Decimal))), None)
    if words:
        other = odd if not isinstance(odd, str) else next(value for value in values if not isinstance(value, str))
        raise TypeError(f"{subject} holds text and something else, such as {other!r}: give only text, or only numbers")
    if odd is not None:
        if isinstance(odd, datetime.date):
            raise _holds_dates(name, label)
        if isinstance(odd, (list, np.ndarray)):  # as NumPy sees columns of lists
            raise TypeError(f"{subject} holds lists: make each of their numbers a column")
        raise TypeError(f"{subject} must hold real numbers, got {type(odd).__name__}")
    made = np.array(values).reshape(array.shape)
    try:
        return made.astype(np.float64) if made.dtype.kind == "O" else made
    except OverflowError:
        raise ValueError(f"{subject} has a number beyond the largest float64") from None


def _holds_text(example: str, name: str, label: Any, given: Any) -> TypeError:
    try:
        float(example)
    except ValueError:
        how = _encode(name, label, given)
    else:
        own = _variable(name)
        how = f"turn it into numbers, e.g. {own if label is None else f'{own}[{label!r}]'}.astype(float)"
        if isinstance(given, (list, tuple)):
            how = f"turn it into numbers, e.g. numpy.array({own}, dtype=float)"
    shown = example if len(example) <= 30 else example[:27] + "..."
    return TypeError(f"{_subject(name, label)} holds text, such as {shown!r}: {how}")


def _encode(name: str, label: Any, given: Any) -> str:
    own = _variable(name)
    if label is None and getattr(given, "ndim", 1) == 1:
        return "give numbers"
    if label is None:
        return "turn it into numbers, e.g. a column of 0 and 1 for each word"
    if hasattr(given, "to_dummies"):
        return f"turn it into numbers, e.g. {own}.to_dummies({label!r})"
    return f"turn it into numbers, e.g. pandas.get_dummies({own}, columns=[{label!r}])"


def _no_number(array: Array, name: str, label: Any) -> TypeError:
    if array.dtype.kind in "mM":
        return _holds_dates(name, label, array.dtype.kind == "m")
    return TypeError(f"{_subject(name, label)} must hold real numbers, got dtype {array.dtype}")


def _holds_dates(name: str, label: Any, durations: bool = False) -> TypeError:
    own = _variable(name) if label is None else f"{_variable(name)}[{label!r}]"
    what, since = ("durations", own) if durations else ("dates or times", f"({own} - {own}.min())")
    return TypeError(f"{_subject(name, label)} holds {what}: turn them into numbers, e.g. days, {since} / "
                     "numpy.timedelta64(1, 'D')")


def _subject(name: str, label: Any) -> str:
    return name if label is None else f"{name}: column {label!r}"


def _variable(name: str) -> str:
    """Return the variable name that the user may have for what a message calls "validation X"."""
    return name.split()[-1]
