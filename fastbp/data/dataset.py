"""The data set, and the checks that all sources share."""

import os
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbp.checks import counted

# Markers of missing values, for numbers and for class names; "none" in lower case is left out: it is a word.
MISSING = frozenset(["", "?", "NA", "na", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "-nan", "-NaN", "NULL",
                     "null", "Null", "None"])


class DataError(ValueError):
    """Data are missing, damaged or of a wrong shape; the message says where, what was found and what was expected.

    Examples
    --------
    >>> from fastbp.data import DataError, load
    >>> try:
    ...     load("measurements.xls")
    ... except DataError as error:
    ...     print(str(error).split(";")[0])
    measurements.xls: not a data source that fastbp can load
    """


class _Arrays(NamedTuple):
    x_train: npt.NDArray[Any]
    y_train: npt.NDArray[Any]
    x_test: npt.NDArray[Any] | None
    y_test: npt.NDArray[Any] | None


class Dataset(_Arrays):
    """Samples and their targets, for training and for testing.

    Attributes
    ----------
    x_train : ndarray, shape (n_train, n_features)
        C-contiguous, native byte order; the dtype is the file's own (uint8 for MNIST).
    y_train : ndarray, shape (n_train,) or (n_train, n_outputs)
        Labels, names of classes (dtype U), values or rows of targets; a column (n_train, 1) comes as (n_train,).
    x_test, y_test : ndarray or None
        As `x_train` and `y_train`; both None if the source has no test samples.
    input_scale : float
        Factor for samples, for `Network(..., input_scale=...)`: 1/255 for images of bytes, else 1. This attribute and
        the following ones are not part of the tuple.
    features : tuple of str or None
        Names of the columns of x_train, if the source has them.
    target : str or None
        Name of the column that became y_train, if the source has it.
    has_header : bool
        False for a table whose first line is a sample; its columns are then called column1, column2, ...

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.data import Dataset
    >>> xor = Dataset(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0]), None, None)
    >>> xor.x_train.shape
    (4, 2)
    """

    input_scale = 1.0
    features: tuple[str, ...] | None = None
    target: str | None = None
    has_header: bool = True


def build_dataset(arrays: dict[str, npt.NDArray[Any]], source: os.PathLike[str]) -> Dataset:
    """Check that the arrays of `source`, named as in Dataset, fit together, and flatten the samples.

    `x_train` and `y_train` are required; `x_test` and `y_test` must be given together or not at all.
    """
    x_train, y_train = _checked_pair(arrays, "train", source)
    given = [name for name in ("x_test", "y_test") if name in arrays]
    if not given:
        return Dataset(x_train, y_train, None, None)
    if len(given) == 1:
        raise DataError(f"{source}: found {given[0]} alone; expected both x_test and y_test, or neither")
    x_test, y_test = _checked_pair(arrays, "test", source)
    for train, test, name, unit in ((x_train, x_test, "x", "features"), (y_train, y_test, "y", "target")):
        if train.shape[1:] != test.shape[1:]:
            raise DataError(
                f"{source}: one sample of {name}_train has {unit} of shape {train.shape[1:]}, "
                f"one of {name}_test {test.shape[1:]}; expected the same"
            )
    return Dataset(x_train, y_train, x_test, y_test)


def _checked_pair(
    arrays: dict[str, npt.NDArray[Any]], part: str, source: os.PathLike[str]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    x, y = checked_samples(arrays, f"x_{part}", f"y_{part}", source)
    assert y is not None
    return x, y


def checked_samples(
    arrays: dict[str, npt.NDArray[Any]], x_name: str, y_name: str | None, source: os.PathLike[str]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Check samples, and targets if `y_name` is given; return samples flattened, targets of one column as (n,)."""
    x = _native(arrays[x_name], x_name, "biuf", source)
    if x.ndim < 2:
        raise DataError(
            f"{source}: {x_name} has shape {x.shape}; expected (n_samples, n_features), or more dimensions to flatten"
        )
    y = None if y_name is None else _native(arrays[y_name], y_name, "biufU", source)
    if y is not None and y.ndim not in (1, 2):
        raise DataError(f"{source}: {y_name} has shape {y.shape}; expected (n_samples,) or (n_samples, n_outputs)")
    if y is not None and len(x) != len(y):
        raise DataError(f"{source}: {x_name} has {counted(len(x), 'sample')}, {y_name} {len(y)}; expected as many "
                        "of each")
    for name, array in ((x_name, x), (y_name, y)):
        if array is not None and array.size == 0:
            raise DataError(f"{source}: {name} is empty, of shape {array.shape}; expected at least one sample")
    if y is not None and y.dtype.kind == "U":
        missing = np.flatnonzero([name.strip() in MISSING for name in y.ravel().tolist()])
        if len(missing):
            raise DataError(f"{source}: {y_name} lacks {counted(len(missing), 'class name')}, the first in row "
                            f"{missing[0] // (y.size // len(y))} ({y.ravel()[missing[0]]!s}); leave those samples out; "
                            "a class with that name must be renamed")
    if y is not None and y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    return x.reshape(len(x), -1), y


def _native(array: npt.NDArray[Any], name: str, kinds: str, source: os.PathLike[str]) -> npt.NDArray[Any]:
    if array.dtype.kind not in kinds:
        texts = ", or names of classes as text" if "U" in kinds else ""
        raise DataError(
            f"{source}: {name} has dtype {array.dtype}; expected real numbers (bool, integer or float){texts}"
        )
    # Numba compiles no code for the other byte order. An array that already fits is not copied.
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
