"""What a data set is, and the checks that every source shares."""

import os
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class DataError(ValueError):
    """Raised when data are missing, damaged or of a wrong shape; the message says where, what was found and expected.

    Examples
    --------
    >>> from fastbp.data import DataError, load
    >>> try:
    ...     load("measurements.csv")
    ... except DataError as error:
    ...     print(str(error).split(";")[0])
    measurements.csv: not a data source that fastbp can load
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
        Labels or target vectors.
    x_test, y_test : ndarray or None
        As `x_train` and `y_train`; both None when the source has no test samples.
    input_scale : float
        What to multiply samples by, for `Network(..., input_scale=...)`: 1/255 for images of bytes, else 1. No part of
        the tuple.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.data import Dataset
    >>> xor = Dataset(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0]), None, None)
    >>> xor.x_train.shape
    (4, 2)
    """

    input_scale = 1.0


def build_dataset(arrays: dict[str, npt.NDArray[Any]], source: os.PathLike[str]) -> Dataset:
    """Check the arrays of `source`, named as Dataset names them, against each other and flatten the samples.

    `x_train` and `y_train` must be there; `x_test` and `y_test` both or neither.
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
    x, y = (_native(arrays[name], name, source) for name in (f"x_{part}", f"y_{part}"))
    if x.ndim < 2:
        raise DataError(
            f"{source}: x_{part} has shape {x.shape}; expected (n_samples, n_features), or more dimensions to flatten"
        )
    if y.ndim not in (1, 2):
        raise DataError(f"{source}: y_{part} has shape {y.shape}; expected (n_samples,) or (n_samples, n_outputs)")
    if len(x) != len(y):
        raise DataError(f"{source}: x_{part} has {len(x)} samples, y_{part} {len(y)}; expected as many of each")
    for name, array in ((f"x_{part}", x), (f"y_{part}", y)):
        if array.size == 0:
            raise DataError(f"{source}: {name} is empty, of shape {array.shape}; expected at least one sample")
    return x.reshape(len(x), -1), y


def _native(array: npt.NDArray[Any], name: str, source: os.PathLike[str]) -> npt.NDArray[Any]:
    if array.dtype.kind not in "biuf":
        raise DataError(f"{source}: {name} has dtype {array.dtype}; expected real numbers (bool, integer or float)")
    # Numba compiles no code for the other byte order. No copy is made of an array that is already as it should be.
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
